"""What a run keeps of its predictions: the evaluation queries that they are of, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from neulig_fl.core.errors import RunError
from neulig_fl.ledger import manifest
from neulig_fl.metrics import evaluation, predictions
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.metrics.predictions import Key, Predictions
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.report import Report
from neulig_fl.study import kept_predictions

KEY: Key = ("neulig", "sample", None)


def _kept(setting: Setting, n: int, folder: Path) -> Predictions:
    scores = [TaskScore(name, torch.zeros(n), None, None, None) for name in setting.tasks]
    return predictions.read(
        kept_predictions.write(folder / "p.safetensors", {"one": {KEY: scores}}, setting)
    )


@pytest.fixture
def setting(data: Path, tmp_path: Path) -> Setting:
    """The tiny scenario, opened."""
    return open_setting(tiny.scenario(tmp_path, data), tiny.SEED)


def test_a_query_set_is_known_by_its_images_and_its_labels(
    setting: Setting, data: Path, tmp_path: Path
) -> None:
    """Without it two runs on other images, or of other labels, would be paired query by query."""
    all_, fewer = _kept(setting, 7, tmp_path), _kept(setting, 3, tmp_path)
    first, second = (all_.queries[name, 7] for name in ("first", "second"))
    assert len({first.images, second.images, fewer.queries["first", 3].images}) == 3
    assert first == _kept(setting, 7, tmp_path).queries["first", 7]
    # The same images whose classes are called otherwise: same images, other labels.
    said = {"first": {"source": "imagefolder", "root": str(data / "first"),
                      "classes": {"dark": "night", "light": "day"}},
            "second": {"source": "imagefolder", "root": str(data / "second")}}  # fmt: skip
    renamed = open_setting(tiny.scenario(tmp_path / "b", data, tasks=said), tiny.SEED)
    other = _kept(renamed, 7, tmp_path)
    assert other.queries["second", 7] == second
    assert other.queries["first", 7].labels != first.labels


def test_a_run_keeps_what_its_report_counts(data: Path, tmp_path: Path) -> None:
    """Without it a report's accuracies could not be counted again, nor paired with another run's."""
    report = tiny.run(tmp_path, data)
    kept = predictions.read(tmp_path / "out" / manifest.PREDICTIONS)
    rows = [*_rows(report)]
    assert len(rows) > 8
    assert {(stage, key) for stage, key, _ in rows} == {
        (stage, key) for stage, found in kept.scores.items() for key in found
    }
    for stage, key, row in rows:
        counted = [evaluation.task_record(score) for score in kept.scores[stage][key]]
        for task, again in zip(row["tasks"], counted, strict=True):
            assert {k: again[k] for k in ("task", "n", "merge_accuracy", "gap_ci95")} == {
                k: task[k] for k in ("task", "n", "merge_accuracy", "gap_ci95")
            }
    signed = manifest.parsed((tmp_path / "out" / manifest.FILE).read_bytes())
    assert manifest.PREDICTIONS in signed.files


def _rows(report: Report) -> Iterator[tuple[str, Key, dict[str, Any]]]:
    for stage in report.data["stages"]:
        for row in stage["results"]:
            if row["status"] == "ok":
                yield stage["name"], (row["method"], row["granularity"], row["variant"]), row


def test_a_run_that_fails_keeps_none(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Without it predictions of a run without a report would lie beside another run's figures."""

    def broken(question: dict[str, Any], reply: tiny.Reply) -> tiny.Reply:
        return {**reply[0], "sha256": "00" * 32}, reply[1]

    tiny.spoiled(monkeypatch, "bob", "parameters", broken)
    with pytest.raises(RunError):
        tiny.run(tmp_path, data)
    assert not (tmp_path / "out" / manifest.PREDICTIONS).exists()


def test_labels_are_of_the_label_space_of_predictions(data: Path, tmp_path: Path) -> None:
    """Without it, in the union of all classes, everything of the second task would count as wrong."""
    options = {"epochs": 2, "batch_size": 4, "label_space": "union"}
    report = tiny.run(tmp_path, data, portland=options)
    kept = predictions.read(tmp_path / "out" / manifest.PREDICTIONS)
    first, second = kept.scores["merging"][KEY]
    assert int(second.targets.min()) >= 2
    average = report.result("merging", "neulig", "sample")["average"]
    assert evaluation.average_record([first, second]) == average
