"""What a run cost each client in differential privacy, added up from the entries that they signed.

Whoever noises nothing claims nothing. Where something was noised, every other release of the same
client counts as well: it depends on the client's model, has no noise, and makes epsilon infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from neulig_fl import accountant
from neulig_fl.accountant import Charge, Spent
from neulig_fl.ledger import Entry

Figure = float | str | None
"""Epsilon in a report: a number, `inf`, or null where nothing is claimed."""


def account(receipts: Sequence[Entry], stages: Sequence[str]) -> dict[str, Any]:
    """The report's `privacy`.

    Args:
        receipts: the server's, with the clients' signed entries.
        stages: names of the stages, in order.

    Returns:
        `epsilon` of the client that spent most, with its `delta` and `adjacency`; the same for each
        client, with the kinds that left without noise; and, stage by stage, what the stage's own
        records came to and what had been spent until its end, both of the client that spent most.
        All null and empty where no record was noised.

    Example:
        >>> account([], ["one"])["epsilon"] is None
        True
    """
    entries = _once([each["entry"] for each in receipts if isinstance(each.get("entry"), dict)])
    noised = [entry for entry in entries if entry.get("noise_multiplier") is not None]
    if not noised:
        return {"epsilon": None, "delta": None, "adjacency": None, "clients": [], "stages": []}
    delta = max(float(entry["delta"]) for entry in noised)
    names = dict.fromkeys(str(entry["client"]) for entry in entries)
    clients = {name: _spent(_of(entries, "client", name), delta) for name in names}
    return {
        "epsilon": shown(max(spent.epsilon for spent in clients.values())),
        "delta": delta,
        "adjacency": noised[0].get("adjacency"),
        "clients": [
            {"client": name, "epsilon": shown(spent.epsilon), "unprotected": [*spent.unprotected]}
            for name, spent in clients.items()
        ],
        "stages": [
            {
                "stage": stage,
                "epsilon": _most(_of(entries, "stage", stage), delta),
                "so_far": _most(_until(entries, stages[: at + 1]), delta),
            }
            for at, stage in enumerate(stages)
        ],
    }


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """A record that left again, byte for byte, cost nothing again."""
    found: dict[tuple[str, str], Entry] = {}
    for number, entry in enumerate(entries):
        same = str(entry.get("fingerprint") or number)
        found.setdefault((str(entry["client"]), same), entry)
    return list(found.values())


def _of(entries: Sequence[Entry], key: str, value: str) -> list[Entry]:
    return [entry for entry in entries if entry.get(key) == value]


def _until(entries: Sequence[Entry], stages: Sequence[str]) -> list[Entry]:
    return [entry for entry in entries if entry.get("stage") in stages]


def _most(entries: Sequence[Entry], delta: float) -> Figure:
    """Epsilon of the client that spent most in some entries; null where there are none."""
    names = dict.fromkeys(str(entry["client"]) for entry in entries)
    spent = [_spent(_of(entries, "client", name), delta).epsilon for name in names]
    return shown(max(spent)) if spent else None


def _spent(entries: Sequence[Entry], delta: float) -> Spent:
    return accountant.spent(charges(entries), delta)


def charges(entries: Sequence[Entry]) -> list[Charge]:
    """What entries of a ledger cost; one without noise has no finite epsilon."""
    return [Charge(str(entry["kind"]), entry.get("noise_multiplier")) for entry in entries]


def shown(epsilon: float) -> float | str:
    """Epsilon as JSON can say it.

    Example:
        >>> shown(2.0), shown(math.inf)
        (2.0, 'inf')
    """
    return epsilon if math.isfinite(epsilon) else "inf"
