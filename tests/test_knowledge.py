"""What the server knows: records as they were released, for as long as they are the latest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from neulig_fl import records
from neulig_fl.records import Request


@pytest.mark.parametrize("kind", ["probabilities", "top-k", "labels"])
def test_answers_that_cannot_be_mixed_are_kept_whole(kind: str, data: Path, tmp_path: Path) -> None:
    """Without it a client would be charged for answers that the server throws away."""
    known = tiny.knowledge(tmp_path, data)
    fields = records.layout(kind, 2, known.setting.sizes)
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
