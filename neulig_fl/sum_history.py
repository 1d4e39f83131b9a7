"""The sums that a client took part in, from its own ledger, and what one more would tell of it.

A release within a sum names the weights of all whose vectors could be in it. Once the client has
confirmed who survived, these alone count. Sums of another expert are other vectors' sums.
"""

from __future__ import annotations

from collections.abc import Sequence

from neulig_fl import leverage, policy
from neulig_fl.ledger import OUTCOME, RELEASE, Entry
from neulig_fl.leverage import WeightedSum
from neulig_fl.limits import Claims
from neulig_fl.policy import Layer


def history(entries: Sequence[Entry], expert: str) -> list[WeightedSum]:
    """Every sum that one expert's vectors went into, as far as this client knows.

    Args:
        entries: its own ledger.
        expert: tag of the expert, as in the entries; what names none counts for every one.

    Example:
        >>> row = {"of": "parameters", "weights": {"ada": 0.5, "bob": 0.5}}
        >>> left = {"event": "release", "expert": "e", "round": "r", "sums": [row]}
        >>> known = {"event": "outcome", "round": "r", "survivors": ["ada"]}
        >>> [dict(s.weights) for e in ([left], [left, known]) for s in history(e, "e")]
        [{'ada': 0.5, 'bob': 0.5}, {'ada': 0.5}]
    """
    survivors = {e["round"]: e["survivors"] for e in entries if e["event"] == OUTCOME}
    found = []
    for entry in entries:
        counts = entry["event"] == RELEASE and entry.get("expert") in (expert, None)
        for row in entry.get("sums") or () if counts else ():
            kept = survivors.get(entry["round"], row["weights"])
            weights = {name: w for name, w in row["weights"].items() if name in kept}
            found.append(WeightedSum(row["of"], weights))
    return found


def released(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry under which a vector left in a round; None when none did."""
    return _of_round(entries, number, RELEASE)


def confirmed(entries: Sequence[Entry], number: str) -> Entry | None:
    """The entry that says who survived a round; None when nothing was confirmed."""
    return _of_round(entries, number, OUTCOME)


def _of_round(entries: Sequence[Entry], number: str, event: str) -> Entry | None:
    mine = (e for e in entries if e["event"] == event and e.get("round") == number)
    return next(mine, None)


def claims(past: Sequence[WeightedSum], asked: Sequence[WeightedSum], client: str) -> Claims:
    """What a client's vectors would be worth in the sums asked for, for limits.

    Args:
        past: `history`.
        asked: the sums asked for now, which count together.
        client: whose vectors.
    """
    after = leverage.predicted([*past, *asked])
    highest = max(after[each.statistic].get(client, 0.0) for each in asked)
    return Claims(
        leverage=round(highest, 12), group_size=min(len(each.participants) for each in asked)
    )


def refusal(
    layers: Sequence[Layer],
    past: Sequence[WeightedSum],
    asked: Sequence[WeightedSum],
    client: str,
) -> str | None:
    """Why a client takes no part in sums; None when it does.

    Beside its own vectors it guards those of clients who take no part (`leverage.refusal`).

    Args:
        layers: every policy that counts, each with its `max_leverage`.
        past: `history`.
        asked: the sums asked for now, which count together.
        client: who is asked.
    """
    return policy.first_refusal(
        layers,
        lambda rules: leverage.refusal(past, asked, client, rules.limits.max_leverage),
    )
