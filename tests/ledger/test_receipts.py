"""What a client's signed entry may say, whatever the server asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from neulig_fl.ledger import receipts

ENTRY: dict[str, Any] = {
    "event": "release", "index": 0, "time": 1.5, "kind": "logits", "protection": "none"
}  # fmt: skip
NOISED = {"protection": "gaussian", "noise_multiplier": 2.0, "delta": 1e-5, "epsilon": 1.0}
ALLOWED = "times its sensitivity; allowed: a number from 1e-100 to 1e+09"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"event": "repeat", "index": 7, "time": 3},
        {"epsilon": "inf"},
        {"epsilon": 0.0, "delta": 0.0},
        {"epsilon": 0, "delta": 1},
        {"adjacency": "replace one client's model"},
        NOISED,
    ],
    ids=str,
)
def test_an_honest_entry_is_taken(said: dict[str, Any]) -> None:
    """Without it an honest client would be called dishonest, and end the run."""
    assert receipts.entry_problem({**ENTRY, **said}) is None


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"event": "refusal"}, "is of a 'refusal', not of a release"),
        ({"event": "outcome"}, "is of a 'outcome', not of a release"),
        ({"event": None}, "is of a 'None', not of a release"),
        *(({"index": i}, f"has the index '{i}'") for i in (-1, True, False, 1.0, "1", None)),
        *(({"time": t}, "has no time") for t in (None, "now", True, math.nan, math.inf)),
        *(
            ({"epsilon": e}, f"claims an epsilon of '{e}'")
            for e in (-0.1, True, math.nan, math.inf, "none")
        ),
        *(({"delta": d}, f"claims a delta of '{d}'") for d in (-0.1, 1.1, True, math.nan, "1")),
        ({"adjacency": 1}, "claims an adjacency of '1'"),
        *(
            ({**NOISED, "noise_multiplier": m}, f"claims noise of '{m}' {ALLOWED}")
            for m in (0, -1.0, True, math.nan, math.inf, "2", 1e300, 1e-200)
        ),
        *(
            (
                {**NOISED, "delta": d},
                f"claims noise for a delta of '{d}'; allowed: above 0 and below 1",
            )
            for d in (None, 0.0, 1.0)
        ),
        ({"kind": None}, "is of the kind 'None'"),
        ({"time": 10**400}, "has no time"),
        ({**NOISED, "protection": "sealed"}, "claims noise under protection 'sealed'"),
    ],
    ids=str,
)
def test_an_entry_that_says_what_cannot_be_is_not_taken(said: dict[str, Any], problem: str) -> None:
    """Without it a forged figure would go into the report's privacy cost, signed and all."""
    assert receipts.entry_problem({**ENTRY, **said}) == problem
