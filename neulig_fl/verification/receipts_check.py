"""Whether receipts say what clients signed, and a report what the receipts say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulig_fl.ledger import chain, expert_account, privacy_cost, receipts
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.keys import PublicIdentity

_SAID = ("client", "stage", "group", "queries", "kind", "protection", "rows", "bytes", "sha256")
_CLAIMED = ("epsilon", "delta", "adjacency")


def fault(
    entries: Sequence[Entry], identities: Mapping[str, PublicIdentity], run: object
) -> Fault | None:
    """The first receipt that is no refusal and does not say what its client signed.

    Args:
        entries: the server's receipts; their chain holds.
        identities: the clients' keys.
        run: the run's id.
    """
    latest: dict[str, list[Entry]] = {}
    for index, receipt in enumerate(entries):
        problem = _problem(receipt, latest, identities, run)
        if problem is not None:
            return Fault(index, problem)
    return None


def _problem(
    receipt: Entry,
    latest: dict[str, list[Entry]],
    identities: Mapping[str, PublicIdentity],
    run: object,
) -> str | None:
    name, entry = str(receipt.get("client")), receipt.get("entry")
    if "entry" not in receipt:
        refused = isinstance(receipt.get("reason"), str)
        return None if refused else "holds neither the client's signed entry nor a reason"
    if name not in identities:
        return f"is of client {name!r}, who never said hello"
    if not isinstance(entry, dict):
        return "holds no signed entry of the client"
    problem = chain.signature_problem(entry, identities[name].key)
    problem = problem or receipts.entry_problem(entry)
    if problem is None:
        wanted = {RUN: run, **{k: receipt.get(k) for k in (*_SAID, *_CLAIMED)}}
        problem = receipts.difference({**dict.fromkeys(_CLAIMED), **entry}, wanted)
    earlier = latest.setdefault(name, [])
    problem = problem or receipts.out_of_order(entry, earlier[-1] if earlier else None)
    problem = problem or expert_account.problem(entry, earlier)
    earlier.append(entry)
    return None if problem is None else f"the entry that client {name!r} signed {problem}"


def told_otherwise(report: Mapping[str, Any], entries: Sequence[Entry]) -> str | None:
    """Where a report's releases, refusals or epsilons are not those of the receipts, in order.

    Args:
        report: content of report.json.
        entries: the server's receipts; chain and signatures hold.
    """
    stages = _objects(report.get("stages"))
    for kind, signed in (("releases", True), ("refusals", False)):
        kept = [(i, e) for i, e in enumerate(entries) if ("entry" in e) is signed]
        told = [
            {"stage": stage.get("name"), "group": stage.get("group"), **each}
            for stage in stages
            for each in _objects(stage.get(kind))
        ]
        problem = _compared(kind, told, kept)
        if problem is not None:
            return problem
    wanted = privacy_cost.account(entries, [str(stage.get("name")) for stage in stages])
    if chain.canonical(report.get("privacy")) != chain.canonical(wanted):
        return "its epsilons are not those that the signed entries come to"
    return None


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list in a report; what is none is missed by the comparison."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _compared(
    kind: str, told: Sequence[Mapping[str, Any]], kept: Sequence[tuple[int, Entry]]
) -> str | None:
    """Where a report's list departs from the receipts; None where it does not."""
    for number, (each, (index, entry)) in enumerate(zip(told, kept, strict=False)):
        beyond = [fact for fact in each if fact not in entry]
        problem = f"tells of {beyond[0]}, which was not signed" if beyond else None
        problem = problem or receipts.difference(dict(each), {fact: entry[fact] for fact in each})
        if problem is not None:
            return f"{kind} {number} {problem}, by entry {index} of the receipts"
    if len(told) != len(kept):
        return f"tells of {len(told)} {kind} where the receipts hold {len(kept)}"
    return None
