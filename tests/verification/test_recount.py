"""A report held against the predictions that its run kept."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neulig_fl.ledger import manifest
from neulig_fl.metrics import predictions
from neulig_fl.report import Report
from neulig_fl.verification import recount

METHODS = [{"name": "ties"}]


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of a run of two stages with merge and ensemble; not to be changed."""
    return tiny.run(tmp_path_factory.mktemp("run"), data, methods=METHODS)


@pytest.fixture
def file(report: Report, tmp_path: Path) -> Path:
    """A copy of its predictions."""
    assert report.path is not None
    return Path(shutil.copy(report.path.with_name(manifest.PREDICTIONS), tmp_path))


def test_what_a_run_reports_is_counted_again(report: Report, file: Path) -> None:
    """Without it every honest run would be called forged."""
    assert recount.problem(file, report.data) is None


def _row(said: Any) -> Any:
    return next(r for r in said["stages"][1]["results"] if r["method"] == "simple-average")


LIES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a task's accuracy": (
        lambda s: _row(s)["tasks"][0].update(merge_accuracy=12.5), "tasks[0].merge_accuracy"
    ),
    "its queries": (lambda s: _row(s)["tasks"][0].update(n=8), "tasks[0].n"),
    "agreement": (lambda s: _row(s)["tasks"][1].update(agreement=0.001), "tasks[1].agreement"),
    "an accuracy that is not there": (
        lambda s: _row(s)["tasks"][1].update(merge_accuracy=None), "tasks[1].merge_accuracy"
    ),
    "a narrower interval": (
        lambda s: _row(s)["average"].update(gap_of_means_ci95=[0.0, 0.1]),
        "average.gap_of_means_ci95[0]",
    ),
    "a verdict": (
        lambda s: _row(s)["average"]["equivalence"].update(verdict="so so"),
        "average.equivalence.verdict",
    ),
    "a comparison with NeuLig": (
        lambda s: s["stages"][1]["comparisons"][0].update(difference=50.0),
        "stages[1].comparisons[0].difference",
    ),
    "a comparison left out": (
        lambda s: s["stages"][1]["comparisons"].pop(), "stages[1].comparisons"
    ),
    "a comparison of stages": (
        lambda s: s["stage_comparisons"][0].update(ci95=[1.0, 2.0]), "stage_comparisons[0].ci95[0]"
    ),
    "a row more": (
        lambda s: s["stages"][1]["results"].append({**_row(s), "method": "dare"}),
        "do not have the same rows in stages[1]: dare",
    ),
    "a row less": (
        lambda s: s["stages"][1]["results"].remove(_row(s)),
        "do not have the same rows in stages[1]: simple-average",
    ),
    "a stage less": (lambda s: s["stages"].pop(), "has a stage 'merging'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_any_figure_that_predictions_do_not_give_is_found(
    name: str, report: Report, file: Path
) -> None:
    """Without it a figure of a report would rest on nothing that can be counted."""
    edit, wanted = LIES[name]
    said = copy.deepcopy(report.data)
    edit(said)
    found = recount.problem(file, said)
    assert found is not None
    assert wanted in found
    assert "\n" not in found


def test_predictions_that_were_changed_or_cut_off_are_found(report: Report, file: Path) -> None:
    """Without it predictions could be put beside a report that they are not of."""
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        index = json.loads(opened.metadata()["index"])
    row = next(at for at, each in enumerate(index["rows"]) if each["stage"] == "merging")
    name = f"merge.{row}.0"
    right = tensors["labels.0"]
    save_file({**tensors, name: 1 - right}, file, {"index": json.dumps(index)})
    assert "merge_accuracy" in str(recount.problem(file, report.data))
    index["rows"][row]["queries"].reverse()
    save_file(tensors, file, {"index": json.dumps(index)})
    assert ".tasks[0].task of the report" in str(recount.problem(file, report.data))
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut off" in str(recount.problem(file, report.data))


def test_a_last_digit_of_another_processor_is_no_difference(report: Report, file: Path) -> None:
    """Without it a run could be verified on the machine alone that ran it."""
    said = copy.deepcopy(report.data)
    _row(said)["average"]["gap_of_means_ci95"][0] += 1e-9
    assert recount.problem(file, said) is None
    assert predictions.read(file).scores
