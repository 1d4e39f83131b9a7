"""What the server knows: records as they were released, for as long as they are the latest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from neulig_fl.records import kinds
from neulig_fl.records.kinds import Request


def test_a_client_has_one_model_and_its_bytes_are_the_last_ones(data: Path, tmp_path: Path) -> None:
    """Without it a row would seem to need models that others have taken the place of."""
    known = tiny.released(tmp_path, data)
    sizes = known.setting.sizes
    arrays = {
        kind: {n: np.ones(s, d) for n, d, s in kinds.layout(kind, 1, sizes)}
        for kind in ("parameters", "task-vector")
    }
    taken = [
        ("ada", "A", "parameters", 7),
        ("bob", "A", "parameters", 11),
        ("ada", "B", "parameters", 13),
        ("ada", "A", "parameters", 17),
        ("ada", "A", "task-vector", 19),
        ("bob", "A", "task-vector", 23),
        ("bob", "A", "parameters", 29),
    ]
    sums = []
    for client, group, kind, size in taken:
        known.take(client, Request("one", group, kind), arrays[kind], size)
        sums.append(
            tuple(
                known.bytes.get((g, k, None))
                for g, k in (("A", "parameters"), ("A", "task-vector"), ("B", "parameters"))
            )
        )
    assert sums == [
        (7, None, None),
        (18, None, None),
        (18, None, 13),
        (28, None, 13),
        (11, 19, 13),
        (0, 42, 13),
        (29, 19, 13),
    ]


def test_bytes_of_answers_and_statistics_add_up(data: Path, tmp_path: Path) -> None:
    """Without it a row's price would be that of the last record alone."""
    known = tiny.released(tmp_path, data)
    for kind, queries in (("labels", "pool"), ("gram", None), ("offset-sum", None)):
        fields = kinds.layout(kind, 2 if queries else 1, known.setting.sizes)
        arrays = {name: np.ones(shape, dtype) for name, dtype, shape in fields}
        for client, size in (("ada", 3), ("bob", 5), ("ada", 7)):
            known.take(client, Request("one", "A", kind, queries), arrays, size)
        assert known.bytes[("A", kind, queries)] == 15


def test_answers_to_another_share_take_everybodys_place(data: Path, tmp_path: Path) -> None:
    """Without it rows of different queries would be stacked: a smaller share ended a run so."""
    known = tiny.released(tmp_path, data)
    fields = kinds.layout("features", 2, known.setting.sizes)
    arrays = {name: np.ones(shape, dtype) for name, dtype, shape in fields}
    seen = []
    for client, fraction in (("ada", 1.0), ("bob", 1.0), ("ada", 0.5), ("bob", 0.5), ("bob", 1.0)):
        known.take(client, Request("one", "A", "features", "pool", fraction), arrays, 10)
        seen.append((known.sharing("A", "pool"), len(known.outputs[("A", "features", "pool")])))
    assert seen == [
        (("ada",), 1),
        (("ada", "bob"), 2),
        (("ada",), 1),
        (("ada", "bob"), 2),
        (("bob",), 1),
    ]


@pytest.mark.parametrize("kind", ["probabilities", "top-k", "labels"])
def test_answers_that_cannot_be_mixed_are_kept_whole(kind: str, data: Path, tmp_path: Path) -> None:
    """Without it a client would be charged for answers that the server throws away."""
    known = tiny.released(tmp_path, data)
    fields = kinds.layout(kind, 2, known.setting.sizes)
    key = ("A", kind, "pool")
    for fraction, value in ((0.5, 1), (1.0, 2), (1.0, 3)):
        arrays = {name: np.full(shape, value, dtype) for name, dtype, shape in fields}
        client = "bob" if value == 3 else "ada"
        known.take(client, Request("one", "A", kind, "pool", fraction), arrays, 10)
    assert list(known.answers) == [key]
    assert {c: {int(a.flat[0]) for a in r.values()} for c, r in known.answers[key].items()} == {
        "ada": {2},
        "bob": {3},
    }
    assert list(known.answers[key]["ada"]) == [name for name, _, _ in fields]
    assert (known.outputs, known.bytes[key], known.sharing("A", "pool")) == ({}, 30, ())
