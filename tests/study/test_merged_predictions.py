"""The merged side of a row: either way to merge, and what a run says of merging as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from neulig_fl.core.progress import Progress
from neulig_fl.merging.inference import Merging, merged_outputs
from neulig_fl.merging.inference.tolerance import grouped
from neulig_fl.models.outputs import classify
from neulig_fl.report import Report
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import merged_predictions
from neulig_fl.study.merged_predictions import Grouping, Predictions, run_merged, run_models

Parts = list[Tensor | None]
GRANULAR = ["sample", "batch-first", "task", "global"]
STAGES: list[dict[str, Any]] = [
    {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]},
    {
        "name": "merging",
        "share": [{"kind": "parameters"}],
        "run": ["merge"],
        "granularity": GRANULAR,
    },
]


def _knowledge(folder: Path, data: Path, **merging: Any) -> ReleasedRecords:
    """A server that has three experts which agree on nothing."""
    found = tiny.released(folder, data, merging=merging)
    stack = found._stack("A")
    for seed, name in enumerate(tiny.CLIENTS):
        stack.put(name, found.setting.family.fresh_encoder(seed).state_dict())
    return found


def _coopvecs(released: ReleasedRecords) -> Parts:
    """Some for each task; a few of them one-hot, a few alike."""
    found: Parts = []
    for seed, question in enumerate(released.questions("A", "evaluation")):
        generator = torch.Generator().manual_seed(seed)
        rows = 2.0 * torch.randn(len(question.labels), 3, generator=generator)
        found.append(torch.softmax(rows, dim=1))
        found[-1][:2] = torch.eye(3)[0]
        found[-1][2] = found[-1][3]
    return found


def _merged(
    released: ReleasedRecords, coopvecs: Parts, title: str = "s: merge, neulig"
) -> tuple[Predictions, Grouping | None]:
    return run_merged(released, "A", tiny.CLIENTS, coopvecs, Progress(lambda event: None), title)


def _whole(parts: Parts) -> Tensor:
    return torch.cat([part for part in parts if part is not None])


# ---------------------------------------------------------------- two ways, one result


def test_either_method_gives_the_same_predictions(data: Path, tmp_path: Path) -> None:
    """Without it a result would depend on how it was computed."""
    found = []
    for method in ("batched", "one-at-a-time"):
        released = _knowledge(tmp_path, data, method=method)
        found.append(_merged(released, _coopvecs(released)))
    for one, two in zip(found[0][0], found[1][0], strict=True):
        assert one is not None
        assert two is not None
        assert torch.equal(one, two)
    assert [each[1] for each in found] == [None, None]


def test_the_engine_gets_the_options(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a user could neither bound the memory nor choose the method."""
    seen = []

    def spy(*arguments: Any, merging: Merging) -> Tensor:
        seen.append(merging)
        return merged_outputs(*arguments, merging=merging)

    monkeypatch.setattr(merged_predictions, "merged_outputs", spy)
    released = _knowledge(tmp_path, data, method="one-at-a-time", buffer_mib=1)
    _merged(released, _coopvecs(released))
    assert seen == [Merging("one-at-a-time", buffer_mib=1)]


def test_a_task_without_coopvecs_has_no_predictions(data: Path, tmp_path: Path) -> None:
    """Without it a task could be scored with another task's queries."""
    released = _knowledge(tmp_path, data)
    both = _coopvecs(released)
    alone = _merged(released, [None, both[1]])[0]
    assert alone[0] is None
    assert alone[1] is not None
    whole = _merged(released, both)[0][1]
    assert whole is not None
    assert torch.equal(alone[1], whole)
    assert _merged(released, [None, None]) == ([None, None], None)


@pytest.mark.parametrize("model_of", [[0, 1], [1, 0], [2, 2], [None, 2]])
def test_models_that_came_merged_answer_their_own_tasks(
    model_of: list[int | None], data: Path, tmp_path: Path
) -> None:
    """Without it a task would be scored with the model that was merged for another."""
    released = _knowledge(tmp_path, data)
    stack = released.stacks["A"]
    for seed, name in enumerate(tiny.CLIENTS):  # far from each other, so that they disagree
        entries = {n: 8.0 * v for n, v in stack.of(name).items()}
        generator = torch.Generator().manual_seed(seed)
        noise = {n: torch.randn(v.shape, generator=generator) for n, v in entries.items()}
        stack.put(name, {n: v + noise[n] for n, v in entries.items()})
    models = [{n: v.numpy() for n, v in stack.of(name).items()} for name in tiny.CLIENTS]
    rows = [len(question.labels) for question in released.questions("A", "evaluation")]

    def classes(*chosen: int | None) -> Parts:
        one_hot = [None if m is None else torch.eye(3)[m].expand(n, 3)
                   for m, n in zip(chosen, rows, strict=True)]  # fmt: skip
        return _merged(released, one_hot)[0]

    questions = released.questions("A", "evaluation")
    found = run_models(released, questions, models, model_of, Progress(lambda event: None), "s")
    for mine, own in zip(found, classes(*model_of), strict=True):
        assert (mine is None) == (own is None)
        assert mine is None or own is None or torch.equal(mine, own)
    assert not torch.equal(_whole(classes(0, 0)), _whole(classes(1, 1))), "they must disagree"
    assert not torch.equal(_whole(classes(0, 0)), _whole(classes(2, 2)))
    nobody = run_models(released, questions, [], [None, None], Progress(lambda event: None), "s")
    assert nobody == [None, None]


# ---------------------------------------------------------------- near-equal CoopVecs as one


def _both_ways(released: ReleasedRecords, coopvecs: Parts) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and classes of all queries, with CoopVecs as they are and grouped within 0.4."""
    questions = released.questions("A", "evaluation")
    images = np.concatenate([question.images for question in questions])
    family, beta = released.setting.family, _whole(coopvecs)
    outputs, classes = [], []
    for weights in (beta, grouped(beta, 0.4)):
        found = merged_outputs(
            family.encoder(),
            released.stacks["A"],
            weights,
            lambda rows: family.normalise(images[rows.numpy()]),
        )
        parts = found.split([len(question.labels) for question in questions])
        guesses = [
            classify(part, released.head(question.task)).argmax(dim=1)
            for part, question in zip(parts, questions, strict=True)
        ]
        outputs.append(found)
        classes.append(torch.cat(guesses))
    return outputs, classes


@pytest.mark.parametrize("method", ["batched", "one-at-a-time"])
def test_what_grouping_changed_is_what_it_changed(method: str, data: Path, tmp_path: Path) -> None:
    """Without it the report would give another error than the one that the user chose."""
    released = _knowledge(tmp_path, data, method=method, tolerance=0.4, checked=1000)
    coopvecs = _coopvecs(released)
    found, beta = _merged(released, coopvecs), _whole(coopvecs)
    outputs, classes = _both_ways(released, coopvecs)
    assert torch.equal(_whole(found[0]), classes[1])
    grouping = found[1]
    assert grouping is not None
    assert (grouping.tolerance, grouping.queries, grouping.checked) == (0.4, len(beta), len(beta))
    assert grouping.networks == len(torch.unique(grouped(beta, 0.4), dim=0)) < len(beta)
    change = (outputs[1] - outputs[0]).abs().max() / outputs[0].abs().max()
    assert float(change) > 1e-3, "the experts agree too well to show anything"
    assert grouping.largest_output_change == pytest.approx(float(change), rel=1e-3)
    assert grouping.changed_predictions == int((classes[0] != classes[1]).sum())


def test_checked_queries_are_drawn_for_each_row_and_are_the_same_each_time(
    data: Path, tmp_path: Path
) -> None:
    """Without it the figure could not be had again, or would be of another query's image."""
    released = _knowledge(tmp_path, data, tolerance=0.4, checked=1)
    coopvecs = _coopvecs(released)
    (exact, near), _ = _both_ways(released, coopvecs)
    each = (near - exact).abs().amax(dim=1) / exact.abs().amax(dim=1)
    changes = []
    for title in map(str, range(8)):
        grouping = _merged(released, coopvecs, title)[1]
        assert grouping is not None
        assert grouping.checked == 1
        assert _merged(released, coopvecs, title)[1] == grouping
        changes.append(grouping.largest_output_change)
        assert float((each - changes[-1]).abs().min()) < 1e-5
    assert len(set(changes)) > 1


def test_coopvecs_that_stay_are_no_grouping(data: Path, tmp_path: Path) -> None:
    """Without it exact results, such as those of one-hot CoopVecs, would be called inexact."""
    released = _knowledge(tmp_path, data, tolerance=0.4)
    corners: Parts = [
        torch.eye(3)[question.labels] for question in released.questions("A", "evaluation")
    ]
    assert _merged(released, corners)[1] is None


# ---------------------------------------------------------------- whole runs


def _run(folder: Path, data: Path, **merging: Any) -> Report:
    return tiny.run(folder, data, stages=STAGES, merging=merging)


def test_a_run_one_at_a_time_has_the_same_results(data: Path, tmp_path: Path) -> None:
    """Without it the way out for a model that batched merged inference cannot run would be another study."""
    many = _run(tmp_path / "many", data)
    single = _run(tmp_path / "single", data, method="one-at-a-time")
    assert tiny.results(single) == tiny.results(many)
    assert single.data["notes"] == many.data["notes"]
    for stage in many.data["stages"]:
        assert {str(row["grouping"]) for row in stage["results"]} == {"None"}


def test_a_run_with_a_tolerance_says_what_it_changed(data: Path, tmp_path: Path) -> None:
    """Without it results that are not exact would look like those that are."""
    report = _run(tmp_path, data, tolerance=0.5, checked=3)
    outputs, merging = report.data["stages"]
    assert {str(row["grouping"]) for row in outputs["results"]} == {"None"}
    rows = {(row["method"], row["granularity"]): row["grouping"] for row in merging["results"]}
    sample = rows["neulig", "sample"]
    assert (sample["tolerance"], sample["queries"], sample["checked"]) == (0.5, 14, 3)
    assert sample["networks"] < 14
    assert sample["largest_output_change"] > 0.0
    exact = ["simple-average", "hard-routing", "best-single", "oracle", "pretrained"]
    assert [rows[method, None] for method in exact] == [None] * 5
    note = "CoopVecs are merged as one (merging.tolerance: 0.5)"
    assert note in " ".join(report.data["notes"])
    assert f"14 queries were merged as {sample['networks']} network" in report.markdown()
