"""The predictions that a run keeps, beside which evaluation queries they are of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from neulig_fl.data.query_sets import blocks
from neulig_fl.metrics import predictions
from neulig_fl.metrics.predictions import QuerySet, Scores
from neulig_fl.records.release_plan import Setting


def write(path: Path, scores: Mapping[str, Scores], setting: Setting) -> Path:
    """Write predictions.safetensors of a run.

    Args:
        path: of the file.
        scores: of each stage, by its name.
        setting: the run's scenario, opened.

    Raises:
        RunError: the disk refuses.
    """
    asked = {
        block.task.name: block
        for block in blocks(setting.scenario, setting.tasks, "evaluation", "A", 1.0)
    }

    def query_set(task: str, n: int) -> QuerySet:
        """A smaller share of a task's queries is their first part."""
        block = dataclasses.replace(asked[task], indices=asked[task].indices[:n])
        names = block.task.source.class_names
        labels = "\n".join(names[int(label)] for label in block.labels())
        return QuerySet(task=task, n=n, images=_sha256(block.images), labels=_sha256(labels))

    return predictions.write(path, scores, query_set)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
