"""What a record is, whatever a request calls it: hashes of all that its numbers follow from.

Stage, group, task, query set and fraction are names. Two requests for the same numbers by other
names are one request: they get the same bytes, with the same noise, and are charged once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neulig_fl.data.query_sets import Block
from neulig_fl.data.sources import Task
from neulig_fl.ledger.chain import canonical
from neulig_fl.records import kinds
from neulig_fl.records.release_plan import Setting


def data_hash(
    setting: Setting, expert: str, kind: str, asked: Sequence[Block], payload: bytes | memoryview
) -> str:
    """Identifies an expert and the images that it answers, or the theta_0 that it is told against.

    Args:
        setting: the scenario, opened.
        expert: identifies the expert.
        kind: of the record.
        asked: the queries, or the images that a statistic is measured on.
        payload: the queries' images, where they travel by value; they count in place of `asked`.
    """
    parts = [expert, setting.family.preprocessing.key]
    parts += [] if len(payload) else [block.images for block in asked]
    parts += [_start(setting)] if kinds.load(kind).against_start else []
    digest = hashlib.sha256(canonical(parts).encode())
    digest.update(payload)
    return digest.hexdigest()


@dataclass(frozen=True)
class Basis:
    """What a record's numbers follow from.

    Args:
        kind: of the record.
        data: `data_hash`.
        asked: the queries.
        own: the client's own task, on whose training images statistics are measured.
    """

    kind: str
    data: str
    asked: Sequence[Block]
    own: Task

    def record_hash(self, setting: Setting) -> str:
        """Identifies the numbers, among records of this kind and shape."""
        parts = [self.data, *self._besides(setting)]
        return hashlib.sha256(canonical(parts).encode()).hexdigest()

    def _besides(self, setting: Setting) -> Iterator[str]:
        """What they follow from besides the expert and the queries' images."""
        kind = kinds.load(self.kind)
        if self.kind == "inputs":
            yield from (canonical(block.labels().tolist()) for block in self.asked)
        elif kind.of_heads:
            yield from (_head(setting, task) for task in setting.tasks.values())
        elif kind.measured:
            yield _head(setting, self.own)
        elif not kind.output:  # what is told of a model is told against theta_0
            yield _start(setting)


def _start(setting: Setting) -> str:
    return f"{setting.scenario.experts.origin} {setting.family.weights_hash}"


def _head(setting: Setting, task: Task) -> str:
    """Identifies a task's head: its classes, their prompts, the text tower."""
    source = task.source
    return canonical([source.class_names, source.templates, setting.family.weights_hash])
