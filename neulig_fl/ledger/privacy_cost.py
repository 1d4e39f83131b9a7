"""What releases cost each client in differential privacy, from the accounts that they signed.

Whoever noises nothing claims nothing. Where something was noised, every other release of the same
client counts as well: it depends on the client's model, has no noise, and makes epsilon infinite.
Earlier runs count too, as the client signs it: the server has no other way to know of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neulig_fl.ledger import chain
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.expert_account import charged, charges, json_number
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Spent

Figure = float | str | None
"""Epsilon in a report: a number, `inf`, or null where nothing is claimed."""


def account(receipts: Sequence[Entry], stages: Sequence[str]) -> dict[str, Any]:
    """The report's `privacy`.

    Args:
        receipts: the server's, with the clients' signed entries.
        stages: names of the stages, in order.

    Returns:
        `epsilon` of the client that spent most, with its `delta` and `adjacency`; the same for each
        client, with the kinds that left without noise, the earlier runs that it includes, and the
        account of each of its experts; and, stage by stage, what the stage's own new records came
        to and what had been spent until its end, both of the client that spent most. All null and
        empty where no account was signed.

    Example:
        >>> account([], ["one"])["epsilon"] is None
        True
    """
    entries = [each["entry"] for each in receipts if isinstance(each.get("entry"), dict)]
    clients = _experts(entries)
    found = together(clients)
    delta = found["delta"]
    if delta is None:
        return {**found, "stages": []}
    lines = []
    for at, stage in enumerate(stages):
        new = [e for e in entries if e.get("stage") == stage and e["event"] == chain.RELEASE]
        until = [e for e in entries if e.get("stage") in stages[: at + 1]]
        so_far = [_spent(experts, delta) for experts in _experts(until).values()]
        own = [accountant.spent(charges(each), delta) for each in _by_client(new).values()]
        lines.append({"stage": stage, "epsilon": _most(own), "so_far": _most(so_far)})
    return {**found, "stages": lines}


def together(clients: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """What several experts of each client cost it together.

    Args:
        clients: each client's experts, as in a report: `expert`, and its account's `delta`,
            `adjacency`, `noise`, `unprotected`, `runs` and `earlier_runs`.

    Returns:
        A report's `privacy` but its `stages`.
    """
    noised = [each for experts in clients.values() for each in experts if each["noise"]]
    if not noised:
        return {"epsilon": None, "delta": None, "adjacency": None, "clients": []}
    delta = max(float(each["delta"]) for each in noised)
    spent = {name: _spent(experts, delta) for name, experts in clients.items()}
    return {
        "epsilon": _most(list(spent.values())),
        "delta": delta,
        "adjacency": noised[0]["adjacency"],
        "clients": [
            {
                "client": name,
                "epsilon": json_number(spent[name].epsilon),
                "unprotected": list(
                    dict.fromkeys(kind for each in experts for kind in each["unprotected"])
                ),
                "earlier_runs": max(each["earlier_runs"] for each in experts),
                "runs": list(dict.fromkeys(run for each in experts for run in each["runs"])),
                "experts": list(experts),
            }
            for name, experts in clients.items()
        ],
    }


def over_seeds(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs of one scenario cost each client together: their images are the same.

    Another seed trains another expert, on the same images, so what left of each adds up. An expert
    that several runs know, by the tag of a store that outlived them, is counted once, as it was
    when most had left of it.

    Args:
        reports: one a seed.

    Returns:
        A report's `privacy` but its `stages`.
    """
    clients: dict[str, dict[object, dict[str, Any]]] = {}
    for number, report in enumerate(reports):
        for each in _clients(report, number):
            known = clients.setdefault(each["client"], {})
            for expert in each["experts"]:
                before = known.get(expert["expert"], expert)
                known[expert["expert"]] = max(before, expert, key=_size)
    found = together({name: list(experts.values()) for name, experts in clients.items()})
    if found["adjacency"] is None:
        return found
    return {**found, "adjacency": f"{found['adjacency']}, of all seeds at once"}


def _size(expert: Mapping[str, Any]) -> tuple[int, int]:
    return sum(count for _, count in expert["noise"]), len(expert["unprotected"])


def _clients(report: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """A report's clients; of a run that claims nothing, with what they gave away."""
    said: list[dict[str, Any]] = report["privacy"]["clients"]
    if said:
        return said
    kinds: dict[str, dict[str, None]] = {}
    for stage in report["stages"]:
        for each in stage["releases"]:
            kinds.setdefault(each["client"], {})[each["kind"]] = None
    return [
        {"client": name, "experts": [_unsigned(f"of run {number}", list(sent))]}
        for name, sent in kinds.items()
    ]


def _experts(entries: Iterable[Entry]) -> dict[str, list[dict[str, Any]]]:
    """Each client's experts, with what was last signed of each.

    Accounts grow, so the last is the whole. Of an expert without one, only what it sent is known.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name, mine in _by_client(entries).items():
        by_expert: dict[object, list[Entry]] = {}
        for entry in mine:
            by_expert.setdefault(entry.get("expert"), []).append(entry)
        found[name] = [_expert(tag, sent) for tag, sent in by_expert.items()]
    return found


def _expert(tag: object, sent: Sequence[Entry]) -> dict[str, Any]:
    signed = sent[-1].get("account")
    if signed is None:
        return _unsigned(tag, list(dict.fromkeys(str(entry["kind"]) for entry in sent)))
    return {"expert": tag, **{k: v for k, v in signed.items() if k != "epsilon"}}


def _unsigned(tag: object, kinds: list[str]) -> dict[str, Any]:
    """An expert of which nothing was ever noised."""
    said = {"expert": tag, "delta": None, "adjacency": None, "noise": [], "unprotected": kinds}
    return {**said, "runs": [], "earlier_runs": 0}


def _by_client(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(str(entry["client"]), []).append(entry)
    return found


def _spent(experts: Iterable[Mapping[str, Any]], delta: float) -> Spent:
    return accountant.spent(charged(experts), delta)


def _most(spent: Sequence[Spent]) -> Figure:
    """Epsilon of whoever spent most; null where nobody spent anything."""
    return json_number(max(each.epsilon for each in spent)) if spent else None
