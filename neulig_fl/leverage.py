"""Leverage: how far the sums that a server knows determine one client's vector.

Secure sums hide single vectors only as far as linear algebra allows. Let B be the stack of all
weight rows under which the same T vectors were summed, (sums, T), its columns the clients by name,
0 where a client took no part. The leverage of client t is the t-th diagonal entry of B^+ B, the
projection onto what the rows span.

What it says. The server's best linear guess at theta_t is sum_s (B^+ B)_ts theta_s. For vectors of
the same size that have nothing to do with one another, a guess misses theta_t by a share
1 - leverage of its square: at 1 the vector is known, at 0.5 the relative error is 0.71.

What it does not say.

- Sizes. Where theta_t is much larger than the others, or what the server knows of the others is
  subtracted first (a shared origin, public data, a colluding client's own vector), what remains of
  the others is small and theta_t is known well at any leverage. With c colluding clients the rows
  without their columns count.
- Likeness. Vectors that resemble one another are known from their mean alone, at leverage 1 / T.
- Combinations. theta_1 - theta_2 may be determined while both leverages are 0.5.
- Other statistics of the same model: features tell of parameters. Each has a history of its own,
  and none is safe by the other's.
- Rows that a client never heard of. A sum without client t still helps to solve for t. So a server
  tells every client every row, and clients who take part refuse for those who do not.

Rounding. Rows that differ very little determine a vector only through a tiny singular value s, and
what a sum loses by rounding is amplified by 1 / s. The diagonal is that of

    B^T B (B^T B + q^2 I)^-1

over rows scaled to length 1, q being the error of a sum's entry relative to a vector's. It is 1e-9,
whatever a sum's real error: with it the form is B^+ B to rounding, and a singular value counts from
1e-9 on. Rows that differ by a rounding error in float32 count as different, which refuses too much
rather than too little. This form never falls when a row is added, and it is the share of a vector's
variance that the sums explain when entries and errors are independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulig_fl.errors import InputError

QUANTISATION = 1e-9
"""q, the root mean square error of a sum's entry over that of a vector's, for a row of length 1."""

ROUNDING = 1e-9
"""A leverage above the limit by no more than this is at the limit: two clients' mean gives 0.5."""


@dataclass(frozen=True)
class WeightedSum:
    """One sum that a server asked for or got.

    Args:
        statistic: names the vectors that are summed: which expert's, of which group, what of it.
            What follows from the same vectors by adding what the server knows (parameters and task
            vectors) has the same name.
        weights: each client's, by its stable name; who is not in it took no part.

    Raises:
        InputError: a weight that is not finite.
    """

    statistic: str
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for client, weight in self.weights.items():
            if not math.isfinite(weight):
                raise InputError(
                    f"weight of client {client!r} in a sum over {self.statistic} is {weight}; "
                    "allowed: a finite number"
                )

    @property
    def participants(self) -> tuple[str, ...]:
        """Clients whose weight is not 0, by name."""
        return tuple(sorted(c for c, w in self.weights.items() if w))


def leverages(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every client's leverage under some weight rows.

    Args:
        rows: each client's weight, by name; finite. A row's scale changes nothing.

    Returns:
        By name in alphabetical order, each from 0 to 1. A client in no row is not in it.

    Raises:
        InputError: a weight that is not finite.

    Example:
        >>> {c: round(v, 6) for c, v in leverages([{"a": 0.2, "b": 0.2}, {"b": 1.0}]).items()}
        {'a': 1.0, 'b': 1.0}
    """
    clients = sorted({client for row in rows for client in row})
    stack = _unit_rows(rows, clients)
    if not stack.size:
        return dict.fromkeys(clients, 0.0)
    _, singular, directions = np.linalg.svd(stack, full_matrices=False)
    seen = singular**2 / (singular**2 + QUANTISATION**2)
    diagonal = np.einsum("kt,k->t", directions**2, seen)
    return {c: float(v) for c, v in zip(clients, diagonal.clip(0.0, 1.0), strict=True)}


def _unit_rows(rows: Sequence[Mapping[str, float]], clients: Sequence[str]) -> NDArray[np.float64]:
    """The rows at length 1, without those that are all zeros; (rows, clients)."""
    stack = np.array([[row.get(c, 0.0) for c in clients] for row in rows], dtype=np.float64)
    stack = stack.reshape(len(rows), len(clients))
    if not np.isfinite(stack).all():
        raise InputError("a row holds a weight that is not finite; allowed: finite numbers")
    largest = np.abs(stack).max(axis=1, initial=0.0)
    kept = stack[largest > 0.0] / largest[largest > 0.0, None]  # so that no square overflows
    unit: NDArray[np.float64] = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return unit


def predicted(sums: Sequence[WeightedSum]) -> dict[str, dict[str, float]]:
    """Every client's leverage after some sums, for each statistic.

    Args:
        sums: those that were given and those that are planned; the order is free.

    Returns:
        By statistic, in the order of their first sums, and client.

    Example:
        >>> plan = [WeightedSum("features A", {"a": 0.5, "b": 0.5})]
        >>> {c: round(v, 6) for c, v in predicted(plan)["features A"].items()}
        {'a': 0.5, 'b': 0.5}
    """
    return {
        statistic: leverages([s.weights for s in sums if s.statistic == statistic])
        for statistic in dict.fromkeys(s.statistic for s in sums)
    }


def refusal(
    history: Sequence[WeightedSum],
    asked: Sequence[WeightedSum],
    client: str,
    max_leverage: float,
) -> str | None:
    """Why a client takes no part in some sums; None when it does. Needs no data.

    A client guards its own vector, and the vectors of those who take no part in what is asked: they
    are not there to refuse, and a sum without them can still single them out. Those who take part
    guard their own.

    Args:
        history: every sum that the client heard of, whether or not it took part; all statistics.
        asked: the sums asked for now, which count together.
        client: who is asked.
        max_leverage: above 0, at most 1; at 1 nothing is refused.

    Returns:
        One line that names the statistic, the client whose vector would be singled out, the
        leverage, the limit, and how many sums count. It holds no weights and no values.

    Raises:
        InputError: a limit that is none.

    Example:
        >>> both, one = {"a": 0.5, "b": 0.5}, {"b": 1.0}
        >>> refusal([], [WeightedSum("features A", both)], "a", 0.5)
        >>> refusal([WeightedSum("features A", both)], [WeightedSum("features A", one)], "b", 0.5)
        "leverage of client 'a' in sums over features A would be 1.000, above max_leverage 0.5: \
1 sum asked for, 1 before"
    """
    if not 0.0 < max_leverage <= 1.0:
        raise InputError(f"max_leverage is {max_leverage}; allowed: above 0, at most 1")
    for statistic in dict.fromkeys(s.statistic for s in asked):
        new = [s for s in asked if s.statistic == statistic]
        old = [s for s in history if s.statistic == statistic]
        before = leverages([s.weights for s in old])
        after = leverages([s.weights for s in (*old, *new)])
        present = {name for s in new for name in s.participants}
        for name, value in after.items():
            rises = value > before.get(name, 0.0) + ROUNDING
            guarded = name == client or (name not in present and rises)
            if guarded and value > max_leverage + ROUNDING:
                return _reason(name, statistic, value, max_leverage, len(new), len(old))
    return None


def _reason(client: str, statistic: str, value: float, most: float, asked: int, before: int) -> str:
    # Rounded up: a refusal must not print a leverage equal to its limit.
    shown = math.ceil(value * 1000.0 - 1e-6) / 1000.0
    return (
        f"leverage of client {client!r} in sums over {statistic} would be {shown:.3f}, above "
        f"max_leverage {most:g}: {asked} sum{'' if asked == 1 else 's'} asked for, {before} before"
    )
