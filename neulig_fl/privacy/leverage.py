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
- Answers to other images. Answers to many images tell of a model, and so of its answers to others;
  only those to the same images, and parameters with all of them, count together (`joint`).
- Rows that no client of a sum ever heard of. A sum without client t still helps to solve for t. So
  every client guards every vector that it knows of, whoever takes part.

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
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import InputError

QUANTISATION = 1e-9
"""q, the root mean square error of a sum's entry over that of a vector's, for a row of length 1."""

NEGLIGIBLE = 1e-6
"""Share of the largest |weight| of a sum below which a client's part is lost in its rounding."""

ROUNDING = 1e-9
"""A leverage above its limit by no more is at the limit: that of a mean over two clients is 0.5."""

MODEL = "model"
"""The statistic of parameters, and of whatever single ones of which give parameters away."""

OUTPUTS = "outputs"
"""What the statistic of answers begins with; the name of their images follows."""


@dataclass(frozen=True)
class WeightedSum:
    """One sum that a server asked for or got.

    Args:
        statistic: names the vectors that are summed: `MODEL`, or `OUTPUTS` and their images. What
            follows from the same vectors by adding what the server knows has the same name.
        weights: each client's, by its stable name; who is not in it took no part.
        label: what is summed, in words.
        versions: which of its vectors each client put into it, where that is known: another tag for
            another expert of the same client.
        told: the clients that confirm it; None where it is known for certain.
        source: round, and one of the ways in which that may have ended: one of them at most is so.

    Raises:
        InputError: a weight that is not finite.
    """

    statistic: str
    weights: Mapping[str, float]
    label: str = field(default="", compare=False)
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    told: Collection[str] | None = field(default=None, compare=False)
    source: tuple[str, str] = field(default=("", ""), compare=False)

    def __post_init__(self) -> None:
        for client, weight in self.weights.items():
            if not math.isfinite(weight):
                raise InputError(
                    f"weight of client {client!r} in a sum over {self.words} is {weight}; "
                    "allowed: a finite number"
                )

    @property
    def words(self) -> str:
        """What is summed."""
        return self.label or self.statistic

    @property
    def participants(self) -> tuple[str, ...]:
        """Clients whose vectors move the sum, by name.

        Example:
            >>> WeightedSum(MODEL, {"a": 0.5, "b": 0.5, "c": 1e-300, "d": 0.0}).participants
            ('a', 'b')
        """
        return participants(self.weights)

    @property
    def group_size(self) -> int:
        """How many clients with equal weights hide one another as well: (sum |w|)^2 / sum w^2.

        Rounded to the nearest whole number.

        Example:
            >>> row = {"a": 0.4, "b": 0.3, "c": 0.3, "d": 1e-300}
            >>> WeightedSum(MODEL, row).group_size
            3

        Source: the effective sample size of weights; L. Kish, Survey Sampling, 1965, section 11.7.
        """
        largest = max(map(abs, self.weights.values()), default=0.0)
        if not largest:
            return 0
        sizes = [abs(weight) / largest for weight in self.weights.values()]
        return math.floor(math.fsum(sizes) ** 2 / math.fsum(x * x for x in sizes) + 0.5)

    def borne_out(self, *clients: str) -> bool:
        """Whether one of these clients says so, or all that have a weight in it.

        A lie about a client needs the word of somebody who was not there, and lacks its own. Many
        rows in which its weight is next to nothing would tell as much as one.
        """
        if self.told is None or any(client in self.told for client in clients):
            return True
        return all(client in self.told for client, weight in self.weights.items() if weight)

    def among(self, clients: Collection[str]) -> WeightedSum:
        """The sum with the vectors of these clients alone."""
        kept = {name: weight for name, weight in self.weights.items() if name in clients}
        return replace(self, weights=kept)

    def record(self) -> dict[str, Any]:
        """As a ledger's entry holds it."""
        return {"of": self.statistic, "weights": dict(self.weights)}


def participants(weights: Mapping[str, float]) -> tuple[str, ...]:
    """Clients whose |weight| is not negligible beside the largest, by name."""
    largest = max(map(abs, weights.values()), default=0.0)
    return tuple(sorted(c for c, w in weights.items() if w and abs(w) >= NEGLIGIBLE * largest))


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


Overlap = Callable[[str, str], bool]
"""Whether two sets of images may share one, by their names."""


def joint(
    sums: Sequence[WeightedSum], overlap: Overlap = operator.eq
) -> dict[str, list[WeightedSum]]:
    """Sums that count together, because their vectors give one another away.

    Answers to images that overlap are taken for the same vectors, whatever kind they are of and
    whatever the images are called. Parameters determine all answers, so they count with each set of
    images. Answers to other images are other vectors.

    Args:
        sums: of one expert of each client.
        overlap: whether two sets of images share one.

    Returns:
        By set of images, in the order of their first sums; of `MODEL` parameters alone.

    Example:
        >>> rows = [WeightedSum(name, {"a": 1.0}) for name in ("outputs x", "model", "outputs y")]
        >>> for name, found in joint(rows).items():
        ...     print(name, [s.statistic for s in found])
        outputs x ['outputs x', 'model']
        model ['model']
        outputs y ['model', 'outputs y']
    """
    return {
        anchor: [s for s in sums if s.statistic == MODEL or _together(anchor, s, overlap)]
        for anchor in dict.fromkeys(s.statistic for s in sums)
    }


def beside(
    history: Sequence[WeightedSum], asked: Sequence[WeightedSum], overlap: Overlap = operator.eq
) -> Iterator[tuple[list[WeightedSum], list[WeightedSum]]]:
    """What counts together with sums that are asked for.

    Args:
        history: the sums before.
        asked: those asked for now.
        overlap: whether two sets of images share one.

    Yields:
        The sums before and those asked for, of each set that `joint` makes and that holds one that
        is asked for.
    """
    for rows in joint([*history, *asked], overlap).values():
        new = [s for s in rows if any(s is each for each in asked)]
        if new:
            yield rows[: len(rows) - len(new)], new


def _together(anchor: str, other: WeightedSum, overlap: Overlap) -> bool:
    if MODEL in (anchor, other.statistic):
        return anchor == other.statistic
    prefix = f"{OUTPUTS} "
    names = [each.removeprefix(prefix) for each in (anchor, other.statistic)]
    return anchor == other.statistic or overlap(names[0], names[1])


def known(sums: Sequence[WeightedSum], asked: Sequence[WeightedSum] = ()) -> dict[str, float]:
    """Every client's leverage under sums that count together: the largest of three countings.

    A client may have another vector in another sum, as its `versions` say: another, or the same one
    by another name, since recipes that differ in a word can train the same expert. Vectors that are
    taken for the same determine more in most cases, and less where two unlike ones would have
    cancelled. So a client's vectors are counted as one, in all sums, and in those that do not
    contradict the versions in `asked`; and each version by itself, an unknown one beside no other
    as that in `asked`.

    Args:
        sums: of `joint`.
        asked: those among them that are asked for now.

    Returns:
        By client's name.
    """
    now = {client: version for s in asked for client, version in s.versions.items()}
    same = [s for s in sums if all(s.versions.get(c, now[c]) == now[c] for c in now)]
    found = leverages([s.weights for s in sums])
    if not any(s.versions for s in sums):
        return found
    apart = leverages(
        [
            {f"{s.versions.get(c) or assumed.get(c, '')}\n{c}": w for c, w in s.weights.items()}
            for s, assumed in ((s, now if any(s is each for each in same) else {}) for s in sums)
        ]
    )
    for counted in (leverages([s.weights for s in same]), apart):
        for column, value in counted.items():
            client = column.rpartition("\n")[2]
            found[client] = max(found.get(client, 0.0), value)
    return dict(sorted(found.items()))


def predicted(sums: Sequence[WeightedSum]) -> dict[str, dict[str, float]]:
    """Every client's leverage after some sums.

    Args:
        sums: those that were given and those that are planned; the order is free.

    Returns:
        By what counts together, as `joint` names it, and client.

    Example:
        >>> plan = [WeightedSum("model", {"a": 0.5, "b": 0.5})]
        >>> {c: round(v, 6) for c, v in predicted(plan)["model"].items()}
        {'a': 0.5, 'b': 0.5}
    """
    return {name: known(rows) for name, rows in joint(sums).items()}
