"""Why a client takes no part in a sum: whose vector it would tell, by all that clients remember.

Who works with the server may tell of sums that never were, as if a vector were known already and
nothing could be added to it. So what those tell of a client who were not there is doubted, and a
sum is refused that adds to a vector in any way in which the doubted may be true or false.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.leverage import ROUNDING, Overlap, WeightedSum, beside, known
from neulig_fl.records.budgets import named

MOST_DOUBTED = 5
"""Groups of clients, each alone with what it tells, whose word is tried both ways."""

MOST_DOUBTED_ROWS = 500
"""Doubted rows, beyond which nothing is tried: whoever tells so much would keep a client busy."""

MOST_CELLS = 4 * 10**6
"""Rows times clients, beyond which nothing is checked, and nothing granted."""


def objection(
    history: Sequence[WeightedSum],
    asked: Sequence[WeightedSum],
    client: str,
    max_leverage: float,
    overlap: Overlap = operator.eq,
    agreed: Sequence[WeightedSum] | None = None,
    theirs: Mapping[str, float] = MappingProxyType({}),
) -> str | None:
    """Why a client takes no part in some sums; None when it does. Needs no data.

    A client guards its own vector and every other one that the rows it knows name. Those who take
    no part are not there to refuse, and a sum without them can still single them out. Those who
    take part may not know the sums that were made without them: it is told for them what the rows
    before add to what is asked. What is asked by itself is theirs to judge, before their vectors
    leave; afterwards nobody can take one back, so what is added by who drops out is refused by all.

    Somebody who works with the server may tell of sums that never were, as if another's vector were
    known already and nothing could be added. So what is added to another's vector is asked in every
    way in which what is not borne out may be true or false (`Doubts`).

    Args:
        history: every sum that the client heard of, whether or not it took part.
        asked: the sums asked for now, which count together.
        client: who is asked.
        max_leverage: above 0, at most 1; at 1 nothing is refused.
        overlap: whether two sets of images share one.
        theirs: smaller limits of others, by name.
        agreed: the sums as those who take part let their vectors go into them; None: as `asked`.

    Returns:
        One line that names what is summed, the client whose vector would be singled out, the
        leverage, the limit, and how many sums count. It holds no weights and no values.

    Raises:
        InputError: a limit that is none.

    Example:
        >>> both, one = {"a": 0.5, "b": 0.5}, {"b": 1.0}
        >>> objection([], [WeightedSum("model", both)], "a", 0.5)
        >>> objection([WeightedSum("model", both)], [WeightedSum("model", one)], "b", 0.5)
        "leverage of client 'a' in sums over model would be 1.000, above max_leverage 0.5 \
(the default): 1 sum asked for, 1 before"
    """
    if not 0.0 < max_leverage <= 1.0:
        raise InputError(f"max_leverage is {max_leverage}; allowed: above 0, at most 1")
    clients, rows = {c for s in (*history, *asked) for c in s.weights}, len(history) + len(asked)
    if len(clients) * rows > MOST_CELLS:
        return f"sums of {len(clients)} clients in {rows} rows are more than can be checked"
    for old, new in beside(history, asked, overlap):
        offered = new if agreed is None else _like(new, agreed)
        alone, after = known(offered, asked), known([*old, *new], asked)
        doubts = Doubts(old, new, client)
        for name, value in after.items():
            limit = max_leverage
            if name != client:
                limit = min(max_leverage, theirs.get(name, max_leverage))
            if value <= limit + ROUNDING:
                continue
            if name != client:
                value = doubts.added(name, alone.get(name, 0.0))
            if value > limit + ROUNDING:
                return _reason(name, new[0].words, value, limit, len(new), len(old))
    return None


class Doubts:
    """How far sums add to another's vector, whichever part of what is doubted may be true.

    What the same clients confirm, and nobody else, is true or false together: who lies hides what
    it alone could tell. A sum that nobody confirms is doubted by itself, and of the ways in which a
    round may have ended, one is so at most. Where too much is doubted,
    none of it is believed where it would excuse a sum, and all where it would forbid one.

    Args:
        rows: the sums before.
        asked: those asked for now, which count together with them.
        client: who is asked.
    """

    def __init__(
        self, rows: Sequence[WeightedSum], asked: Sequence[WeightedSum], client: str
    ) -> None:
        self._rows, self._asked = rows, asked
        self._told = [frozenset(row.told or ()) for row in rows]
        self._groups: list[object] = [
            told or row.source for row, told in zip(rows, self._told, strict=True)
        ]
        self._sure = [row.borne_out(client) for row in rows]
        self._found: dict[tuple[bool, ...], list[tuple[_Leverages, _Leverages]]] = {}

    def added(self, name: str, alone: float) -> float:
        """The largest leverage of another to which the sums add; 0 where they add nothing.

        Args:
            name: whose vector.
            alone: its leverage in what is asked by itself, which it judges.
        """
        certain = tuple(
            sure or name in told for sure, told in zip(self._sure, self._told, strict=True)
        )
        if certain not in self._found:
            self._found[certain] = [
                (known(before, self._asked), known([*after, *self._asked], self._asked))
                for before, after in self._accounts(certain)
            ]
        found = 0.0
        for before, after in self._found[certain]:
            value = after.get(name, 0.0)
            if value > max(found, alone, before.get(name, 0.0)) + ROUNDING:
                found = value
        return found

    def _accounts(
        self, certain: Sequence[bool]
    ) -> Iterator[tuple[list[WeightedSum], list[WeightedSum]]]:
        """The sums that were, for what was known before, and for what will be known after."""
        doubted = {of for of, sure in zip(self._groups, certain, strict=True) if not sure}
        if len(doubted) > MOST_DOUBTED or certain.count(False) > MOST_DOUBTED_ROWS:
            yield list(itertools.compress(self._rows, certain)), list(self._rows)
            return
        for believed in itertools.product((True, False), repeat=len(doubted)):
            lies = set(itertools.compress(doubted, (not one for one in believed)))
            kept = [
                (row, sure)
                for row, group, sure in zip(self._rows, self._groups, certain, strict=True)
                if sure or group not in lies
            ]
            if _possible([row for row, sure in kept if not sure]):
                rows = [row for row, _ in kept]
                yield rows, rows


def _possible(rows: Sequence[WeightedSum]) -> bool:
    """Whether no round would have ended in two ways."""
    ends = {row.source for row in rows}
    return len(ends) == len({number for number, _ in ends})


_Leverages = Mapping[str, float]


def _like(rows: Sequence[WeightedSum], others: Sequence[WeightedSum]) -> list[WeightedSum]:
    """Those among others that are over the same vectors."""
    of = {row.statistic for row in rows}
    return [other for other in others if other.statistic in of]


def _reason(client: str, what: str, value: float, most: float, asked: int, before: int) -> str:
    # Rounded up: a refusal must not print a leverage equal to its limit.
    shown = math.ceil(value * 1000.0 - 1e-6) / 1000.0
    sums = f"{asked} sum{'' if asked == 1 else 's'} asked for, {before} before"
    return (
        f"leverage of client {client!r} in sums over {what} would be {shown:.3f}, above "
        f"{named('max_leverage', most)}: {sums}"
    )
