"""The file of predictions: what was written is read again, and nothing else is read."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from neulig_fl.core.errors import InputError
from neulig_fl.metrics import predictions
from neulig_fl.metrics.evaluation import TaskScore
from neulig_fl.metrics.predictions import Key, QuerySet

NEULIG: Key = ("neulig", "sample", None)
VOTE: Key = ("vote", None, None)


def _query_set(task: str, n: int) -> QuerySet:
    return QuerySet(task=task, n=n, images=f"{n:064x}", labels=f"{n + 1:064x}")


def _score(task: str, targets: list[int], merged: Any, ensembled: Any) -> TaskScore:
    kept = [None if each is None else torch.tensor(each) for each in (merged, ensembled)]
    return TaskScore(task, torch.tensor(targets), kept[0], kept[1], torch.rand(len(targets), 2))


SCORES: dict[str, dict[Key, list[TaskScore]]] = {
    "outputs": {
        NEULIG: [_score("a|b", [0, 1], None, [1, 1]), _score("c", [2, 0, 1], None, [2, 2, 2])],
        VOTE: [_score("a|b", [0, 1], None, [-1, 300]), _score("c", [2, 0], None, [2, 0])],
        ("ties", None, "k 0.1"): [],
    },
    "merging": {NEULIG: [_score("a|b", [0, 1], [0, 0], [1, 1])]},
}
"""Of two stages; the vote has answers to fewer queries of `c`; `ties` has no result."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What SCORES gives."""
    return predictions.write(tmp_path / "p.safetensors", SCORES, _query_set)


def test_what_was_written_is_read_again(file: Path) -> None:
    """Without it accuracies would be counted from other predictions than the run made."""
    found = predictions.read(file)
    assert {stage: list(rows) for stage, rows in found.scores.items()} == {
        "outputs": [NEULIG, VOTE], "merging": [NEULIG]
    }  # fmt: skip
    for stage, rows in found.scores.items():
        for key, scores in rows.items():
            for score, wanted in zip(scores, SCORES[stage][key], strict=True):
                assert score.task == wanted.task
                for side in ("targets", "merged", "ensembled"):
                    kept, given_ = getattr(score, side), getattr(wanted, side)
                    assert (kept is None) == (given_ is None)
                    assert kept is None or kept.tolist() == given_.tolist()
    assert found.queries == {
        (task, n): _query_set(task, n) for task, n in (("a|b", 2), ("c", 3), ("c", 2))
    }


def test_the_same_predictions_give_the_same_bytes(file: Path, tmp_path: Path) -> None:
    """Without it two runs that agree would look as if they did not."""
    again = predictions.write(tmp_path / "again.safetensors", SCORES, _query_set)
    assert again.read_bytes() == file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_but_numbers_of_classes_is_kept(file: Path) -> None:
    """Without it a CoopVec, or a number per query and class, could slip into the file unnoticed."""
    kept = load_file(file)
    assert sorted(kept) == [
        "ensemble.0.0", "ensemble.0.1", "ensemble.1.0", "ensemble.1.2", "ensemble.2.0",
        "labels.0", "labels.1", "labels.2", "merge.2.0",
    ]  # fmt: skip
    assert all(each.ndim == 1 and not each.is_floating_point() for each in kept.values())


@given(st.lists(st.integers(-1, 70_000), max_size=5))
def test_the_smallest_type_holds_every_class(classes: list[int]) -> None:
    """Without it a class above 255 would come back as another one."""
    kept = predictions._smallest(torch.tensor(classes, dtype=torch.int64))
    assert kept.tolist() == classes
    few = all(0 <= each < 256 for each in classes)
    assert (kept.element_size() == 1) or not few


def _index(file: Path) -> Any:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["index"])


BROKEN: dict[str, tuple[Any, str]] = {
    "another format": (lambda i, t: i.update(format=2), "Input should be 1"),
    "a key more": (lambda i, t: i.update(more=1), "Extra inputs are not permitted"),
    "a hash that is none": (lambda i, t: i["queries"][0].update(images="x"), "pattern"),
    "queries that are not there": (lambda i, t: i["rows"][0]["queries"].append(9), "row 0 names q"),
    "a task twice": (lambda i, t: i["rows"][0]["queries"].append(2), "row 0 names a task twice"),
    "a row twice": (
        lambda i, t: i["rows"][1].update(i["rows"][0] | {"queries": [0, 2]}), "row 1 is there twice"
    ),
    "labels missing": (lambda i, t: t.pop("labels.1"), "'labels.1' is missing"),
    "a tensor of no row": (lambda i, t: t.update({"merge.7.0": t["merge.2.0"].clone()}), "'merge.7.0'"),
    "fractions": (lambda i, t: t.update({"merge.2.0": torch.rand(2)}), "not 2 numbers of classes"),
    "too few": (
        lambda i, t: t.update({"merge.2.0": torch.zeros(1, dtype=torch.uint8)}), "not 2 numbers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_no_run_writes_is_refused(name: str, file: Path) -> None:
    """Without it a file of somebody else's would end in a traceback, or in figures of nothing."""
    spoil, wanted = BROKEN[name]
    index, tensors = _index(file), load_file(file)
    spoil(index, tensors)
    save_file(tensors, file, {"index": json.dumps(index)})
    with pytest.raises(InputError, match="cut off, or not as a run writes it") as raised:
        predictions.read(file)
    assert wanted in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_without_an_index_is_refused(file: Path) -> None:
    """Without it Portland's weights, say, would be read as predictions."""
    save_file(load_file(file), file)
    with pytest.raises(InputError, match="it has no index"):
        predictions.read(file)


def test_a_truncated_file_is_one_clear_error(file: Path, tmp_path: Path) -> None:
    """Without it a copy that broke off would end in a traceback of a library."""
    content = file.read_bytes()
    for length in (0, 4, 20, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="cut off, or not as a run writes it"):
            predictions.read(file)
    with pytest.raises(InputError, match="no predictions are there"):
        predictions.read(tmp_path / "none")


def test_a_run_without_any_result_has_an_empty_file(tmp_path: Path) -> None:
    """Without it a run whose stages only share would fail at its end."""
    found = predictions.read(predictions.write(tmp_path / "p", {"one": {}}, _query_set))
    assert (found.scores, found.queries) == ({}, {})
