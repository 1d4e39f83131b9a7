"""Whether the leverage that clients signed, and allow, is what the receipts of a run come to.

Every signed entry of a part in a sum names the weights under which vectors were summed, and the
leverage that its client counted. Both are in the receipts, so whoever has these can count again, by
`posterior`, which shares nothing with the code that clients count with. Two questions:

1. Did a client sign less than its own rows in this run come to? More it may: it also counts rows of
   other runs, what other clients told it, and sums whose receipts were lost.
2. Do all rows together, which the server has, tell more of a client than its policies allow? So
   may a sum and the records that others released alone before it (`alone.told_alone`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from neulig_fl.ledger import chain, expert_account
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.privacy import posterior
from neulig_fl.privacy.leverage import MODEL
from neulig_fl.records.secagg import alone

TOLERANCE = 1e-6
"""Leverages that differ by less are the same: the clients' is of floating point."""

Survivors = Mapping[str, Collection[str]]
"""Who was in the sum of a round in the end, by the round's id."""


@dataclass(frozen=True)
class SummedRow:
    """The weights of one sum, as one client signed them.

    Args:
        receipt: index of the receipt.
        client: whose entry.
        expert: the entry's tag of the expert; None where it names none.
        group: of the experts.
        round: the sum's id.
        statistic: what was summed.
        weights: by client.
    """

    receipt: int
    client: str
    expert: str | None
    group: str
    round: str
    statistic: str
    weights: Mapping[str, float]


@dataclass
class LeverageCheck:
    """What counting again found.

    Args:
        entries: how many entries say a leverage that was counted again.
        faults: what disagrees, each with the index of its receipt.
        more: clients that signed more than the receipts come to.
    """

    entries: int = 0
    faults: list[Fault] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


def check(
    receipts: Sequence[Entry],
    outcomes: Mapping[str, Survivors],
    limits: Mapping[str, float],
) -> LeverageCheck:
    """Count every leverage again.

    Args:
        receipts: the server's; chain and signatures hold.
        outcomes: who survived the rounds that a client confirmed, for each client whose own ledger
            is known; who survived is else told by who has a receipt of the round.
        limits: `max_leverage` of each client's policies.
    """
    found, rows = LeverageCheck(), []
    for index, receipt in enumerate(receipts):
        new, problem = rows_of(index, receipt)
        rows += new
        if problem is not None:
            found.faults.append(Fault(index, problem))
    if not found.faults:
        received = _received(rows)
        for name in dict.fromkeys(row.client for row in rows):
            own = [row for row in rows if row.client == name]
            _claims(found, receipts, own, outcomes.get(name), received)
        found.faults += _beyond(rows, outcomes, received, limits)
        found.faults += _beside_alone(receipts, rows, outcomes, received, limits)
    return found


# ---------------------------------------------------------------- what the receipts say


def rows_of(index: int, receipt: Entry) -> tuple[list[SummedRow], str | None]:
    """The rows that a receipt's signed entry names, or what is wrong with them.

    Args:
        index: of the receipt.
        receipt: of a release or a refusal.
    """
    entry = receipt.get("entry")
    if not isinstance(entry, dict) or entry.get("event") != chain.RELEASE:
        return [], None
    sums = entry.get("sums")
    if sums is None:
        return [], None
    claimed, number = entry.get("leverage"), entry.get("round")
    if not _is_number(claimed) or not isinstance(number, str):
        return [], "names sums, and no leverage or no round of them"
    if not isinstance(sums, list) or not all(_is_row(each) for each in sums):
        return [], "names sums without a statistic or finite weights"
    about = (receipt.get("client"), entry.get("expert"), entry.get("group"))
    client, expert, group = (None if each is None else str(each) for each in about)
    made = (
        SummedRow(index, str(client), expert, str(group), number, each["of"], each["weights"])
        for each in sums
    )
    return [*made], None


def _is_row(said: object) -> bool:
    if not isinstance(said, dict) or not isinstance(said.get("of"), str):
        return False
    weights = said.get("weights")
    return isinstance(weights, dict) and all(_is_number(each) for each in weights.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _received(rows: Sequence[SummedRow]) -> Survivors:
    """Whose masked vectors the server got, by round."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.round, []).append(row.client)
    return found


def _restricted(row: SummedRow, survivors: Survivors) -> Mapping[str, float]:
    kept = survivors.get(row.round, row.weights)
    return {name: weight for name, weight in row.weights.items() if name in kept}


def _ways(
    rows: Sequence[SummedRow], outcomes: Survivors | None, received: Survivors
) -> list[list[Mapping[str, float]]]:
    """The weights that count: one way where outcomes are known.

    Without them a round that nobody confirmed cannot be told from one that lost a client.
    """
    if outcomes is not None:
        return [[_restricted(row, outcomes) for row in rows]]
    return [[row.weights for row in rows], [_restricted(row, received) for row in rows]]


# ---------------------------------------------------------------- what follows


def _leverage(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return _counted(tuple(tuple(sorted(row.items())) for row in rows))


@cache
def _counted(rows: tuple[tuple[tuple[str, float], ...], ...]) -> dict[str, float]:
    return posterior.leverages([dict(row) for row in rows])


def _claims(
    found: LeverageCheck,
    receipts: Sequence[Entry],
    own: Sequence[SummedRow],
    outcomes: Survivors | None,
    received: Survivors,
) -> None:
    """Hold what one client signed against its own rows up to then."""
    for index in dict.fromkeys(row.receipt for row in own):
        asked = [row for row in own if row.receipt == index]
        past = [row for row in own if row.receipt < index and row.expert in (asked[0].expert, None)]
        counted = [_highest(asked, past, each) for each in _ways(past, outcomes, received)]
        said = float(receipts[index]["entry"]["leverage"])
        found.entries += 1
        if said < min(counted) - TOLERANCE:
            what = f"says a leverage of {said:.6g} where its own rows come to {min(counted):.6g}"
            found.faults.append(
                Fault(index, f"the entry that client {own[0].client!r} signed {what}")
            )
        elif said > max(counted) + TOLERANCE and own[0].client not in found.more:
            found.more.append(own[0].client)


def _highest(
    asked: Sequence[SummedRow], past: Sequence[SummedRow], weights: Sequence[Mapping[str, float]]
) -> float:
    """A client's largest leverage in the sums asked for, after its past rows with these weights."""
    known = [*zip(past, weights, strict=True), *((row, row.weights) for row in asked)]
    highest = 0.0
    for anchor in dict.fromkeys(row.statistic for row, _ in known):
        if any(_together(anchor, row.statistic) for row in asked):
            rows = [each for row, each in known if _together(anchor, row.statistic)]
            highest = max(highest, _leverage(rows).get(asked[0].client, 0.0))
    return highest


def _together(anchor: str, statistic: str) -> bool:
    """Whether sums over one statistic count for another: those over models count for all answers.

    Images that overlap under different names are not known here.
    """
    return statistic in (anchor, MODEL)


def _beyond(
    rows: Sequence[SummedRow],
    outcomes: Mapping[str, Survivors],
    received: Survivors,
    limits: Mapping[str, float],
) -> Iterator[Fault]:
    """What all clients' rows together tell of each client, against what its policies allow."""
    confirmed = {number: names for own in outcomes.values() for number, names in own.items()}
    for group, statistic in dict.fromkeys((row.group, row.statistic) for row in rows):
        of = [r for r in rows if r.group == group and _together(statistic, r.statistic)]
        # All who are in a sum sign the same row.
        once = {(r.round, r.statistic, chain.canonical(r.weights)): r for r in of}
        ways = _ways([*once.values()], confirmed if outcomes else None, received)
        told = [_leverage(each) for each in ways]
        for name, limit in limits.items():
            value = min(each.get(name, 0.0) for each in told)
            if value > limit + TOLERANCE:
                what = f"together the sums over {statistic} tell {value:.6g} of client {name!r}"
                yield Fault(of[-1].receipt, f"{what}, above its max_leverage {limit:g}")


def _beside_alone(
    receipts: Sequence[Entry],
    rows: Sequence[SummedRow],
    outcomes: Mapping[str, Survivors],
    received: Survivors,
    limits: Mapping[str, float],
) -> Iterator[Fault]:
    """What each sum tells of those in it, beside what others had released alone until then.

    Whoever had released the same alone has nothing left to guard. What left after a sum, no client
    could know of.
    """
    left = [(at, each) for at, each in enumerate(receipts) if _told_alone(each)]
    confirmed = {number: names for own in outcomes.values() for number, names in own.items()}
    for number, statistic in dict.fromkeys((row.round, row.statistic) for row in rows):
        asked = [row for row in rows if (row.round, row.statistic) == (number, statistic)]
        first, last, group = asked[0].receipt, asked[-1].receipt, asked[0].group
        before = [each for at, each in left if at < first and each["entry"].get("group") == group]
        counted = [
            str(e["client"])
            for e in before
            if any(_together(statistic, each) for each in _told_alone(e))
        ]
        together = {
            (r.round, r.statistic, chain.canonical(r.weights)): r
            for r in rows
            if r.group == group and r.receipt <= last and _together(statistic, r.statistic)
        }
        ways = _ways([*together.values()], confirmed if outcomes else None, received)
        for name in dict.fromkeys(row.client for row in asked) if counted else ():
            own = [each["entry"] for each in before if each["client"] == name]
            if any(_gives(entry, receipts[first]["entry"], statistic) for entry in own):
                continue
            others = [{other: 1.0} for other in dict.fromkeys(counted) if other != name]
            value = min(_leverage([*each, *others]).get(name, 0.0) for each in ways)
            limit = limits.get(name, 1.0)
            if value > limit + TOLERANCE:
                what = f"the sums over {statistic} and what others released alone before tell"
                whom = f"{value:.6g} of client {name!r}, above its max_leverage {limit:g}"
                yield Fault(last, f"{what} {whom}")


def _told_alone(receipt: Entry) -> list[str]:
    """What a record tells of that left in no sum in this run, for the first time or again."""
    entry = receipt.get("entry")
    if not isinstance(entry, dict) or entry.get("event") not in expert_account.LEFT:
        return []
    return alone.told_alone({**entry, "event": chain.RELEASE})


def _gives(entry: Entry, asked: Entry, statistic: str) -> bool:
    """Whether a client's record that left alone gave what its vector in a sum tells."""
    left = {**entry, "event": chain.RELEASE}
    return alone.gives(left, str(asked.get("kind")), asked.get("fraction", 1.0), [statistic])
