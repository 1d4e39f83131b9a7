"""The step `vote`: whose votes count, who wins, and what a stage of labels alone can report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.progress import Progress
from neulig_fl.records.kinds import Request
from neulig_fl.report import contract
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import needs, voting
from neulig_fl.study.baseline_rows import Row, StageRun
from neulig_fl.study.voting import plurality

ROWS = 7
"""Evaluation queries of each of the two tasks; their classes are 0, 1 and 2, 3, 4."""

LABELS = [{"name": "s", "share": [{"kind": "labels", "queries": ["evaluation"]}], "run": ["vote"]}]


def _knowledge(folder: Path, data: Path, **changes: Any) -> ReleasedRecords:
    return tiny.released(folder, data, **{"stages": LABELS, **changes})


def _answer(released: ReleasedRecords, name: str, kind: str, classes: list[int]) -> None:
    """Have a client answer all evaluation queries with these classes, in some kind."""
    count, size = len(classes), released.setting.sizes.classes
    arrays: dict[str, Any] = {"labels": np.array(classes, np.int32)}
    if kind == "probabilities":
        rows = np.full((count, size), 0.1 / (size - 1), np.float32)
        rows[np.arange(count), classes] = 0.9
        arrays = {"probabilities": rows}
    elif kind == "top-k":
        order = np.array([[c, *(o for o in range(size) if o != c)] for c in classes], np.int32)
        arrays = {"classes": order, "probabilities": np.full((count, size), 0.2, np.float32)}
    released.take(name, Request("s", "A", kind, "evaluation"), arrays, 4 * count)


def _voted(released: ReleasedRecords) -> Row:
    stage = released.setting.scenario.stages[0]
    run = StageRun(stage, released, None, Progress(lambda event: None))
    voting.score(run)
    return run.rows[("vote", None, None)]


def _predicted(row: Row) -> list[list[int]]:
    return [score.ensembled.tolist() for score in row.scores if score.ensembled is not None]


# ---------------------------------------------------------------- who wins


def _slow(votes: list[int]) -> int:
    counted = [v for v in votes if v >= 0]
    most = max((counted.count(v) for v in counted), default=0)
    return next((v for v in counted if counted.count(v) == most), -1)


@given(
    st.integers(1, 6).flatmap(
        lambda voters: st.lists(
            st.lists(st.integers(-1, 3), min_size=voters, max_size=voters), min_size=1, max_size=8
        )
    )
)
def test_most_votes_win_and_of_equal_counts_the_first_voters(votes: list[list[int]]) -> None:
    """Without it a tie would be broken by a class's number, or by chance."""
    assert plurality(torch.tensor(votes), 4).tolist() == [_slow(row) for row in votes]


@pytest.mark.parametrize("kind", ["labels", "top-k", "probabilities"])
def test_every_client_votes_for_its_most_likely_class(
    kind: str, data: Path, tmp_path: Path
) -> None:
    """Without it a kind of answer that names a class could not be voted with."""
    released = _knowledge(tmp_path, data)
    votes = {"ada": [0] * 14, "bob": [1] * 7 + [4] * 7, "cyd": [1] * 7 + [4] * 7}
    for name, classes in votes.items():
        _answer(released, name, kind, classes)
    row = _voted(released)
    assert _predicted(row) == [[1] * 7, [2] * 7], "in each task's own numbers"
    assert (row.experts, row.reason, row.bytes) == (tiny.CLIENTS, None, 3 * 4 * 14)
    assert {score.reason for score in row.scores} == {"a vote has no merged model"}


def test_votes_for_other_tasks_classes_do_not_count(data: Path, tmp_path: Path) -> None:
    """Without it two strangers to a task would outvote the one expert that knows it."""
    released = _knowledge(tmp_path, data)
    for name, classes in {"ada": [1] * 14, "bob": [3] * 14, "cyd": [4] * 7 + [0] * 7}.items():
        _answer(released, name, "labels", classes)
    assert _predicted(_voted(released)) == [[1] * 7, [1] * 7]
    for name in ("ada", "bob", "cyd"):
        _answer(released, name, "labels", [4] * 7 + [0] * 7)
    row = _voted(released)
    assert _predicted(row) == [[-1] * 7, [-1] * 7]
    assert [t["ensemble_accuracy"] for t in row.record()["tasks"]] == [0.0, 0.0]


def test_in_the_union_all_classes_compete(data: Path, tmp_path: Path) -> None:
    """Without it `label_space: union` would be told the task of each query."""
    released = _knowledge(tmp_path, data, portland={"label_space": "union"})
    for name, classes in {"ada": [1] * 14, "bob": [3] * 14, "cyd": [3] * 14}.items():
        _answer(released, name, "labels", classes)
    row = _voted(released)
    assert _predicted(row) == [[3] * 7, [3] * 7]
    right = [int((score.targets == 3).sum()) for score in row.scores]
    assert [t["ensemble_accuracy"] for t in row.record()["tasks"]] == [
        pytest.approx(100 * n / ROWS) for n in right
    ]
    assert right[1] > 0


def test_classes_of_one_name_are_one_class(data: Path, tmp_path: Path) -> None:
    """Without it two tasks of digits would have an expert's votes counted for the first alone."""
    twin = {"source": "imagefolder", "root": str(data / "first")}
    second = {"source": "imagefolder", "root": str(data / "second")}
    tasks = {"first": twin, "twin": twin, "second": second}
    clients = [{"name": n, "task": t} for n, t in zip(tiny.CLIENTS, tasks, strict=True)]
    released = _knowledge(tmp_path, data, tasks=tasks, clients=clients)
    for name in tiny.CLIENTS:
        _answer(released, name, "labels", [1] * 21)
    assert _predicted(_voted(released)) == [[1] * 7, [1] * 7, [-1] * 7]


# ---------------------------------------------------------------- who votes


def test_the_kind_that_most_clients_gave_is_voted_with(data: Path, tmp_path: Path) -> None:
    """Without it one client's labels would silence two who gave probabilities."""
    released = _knowledge(tmp_path, data)
    _answer(released, "cyd", "labels", [0] * 14)
    for name in ("bob", "cyd"):
        _answer(released, name, "probabilities", [1] * 14)
    row = _voted(released)
    assert row.experts == ("bob", "cyd")
    assert row.reason == "without ada"
    _answer(released, "bob", "labels", [0] * 14)
    assert needs.voting(released, "A") == ("labels", ("bob", "cyd"))


def test_without_a_voter_there_is_a_reason(data: Path, tmp_path: Path) -> None:
    """Without it a vote of nobody would be an accuracy of 0."""
    row = _voted(_knowledge(tmp_path, data))
    record = row.record()
    assert (record["status"], record["reason"]) == (
        "not-permitted", "no client names classes on the evaluation queries"
    )  # fmt: skip


# ---------------------------------------------------------------- a whole run


def test_a_stage_of_labels_alone_has_a_figure(data: Path, tmp_path: Path) -> None:
    """Without it a scenario under preset labels-only would have nothing to report."""
    clients = [
        {"name": n, "task": t, "policy": {"preset": "labels-only"}}
        for n, t in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ]
    report = tiny.run(tmp_path, data, clients=clients, stages=LABELS)
    contract.validate(report.data)
    (row,) = report.data["stages"][0]["results"]
    assert (row["method"], row["status"], row["experts"]) == ("vote", "ok", list(tiny.CLIENTS))
    assert row["average"]["ensemble_accuracy"] is not None
    assert row["average"]["merge_accuracy"] is None
    assert report.data["portland"] is None
    assert not any("Portland" in note for note in report.data["notes"])
    assert "vote" in report.markdown()
