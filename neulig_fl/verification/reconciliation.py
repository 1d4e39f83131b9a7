"""Whether a client's own ledger and the server's receipts of one run agree.

Both sides can leave something out; neither can do it unseen by the other. What a client entered and
the server did not receive, such as a reply that was lost, the server must have noted as a refusal.
Outcomes of secure sums stand in the client's ledger alone: no bytes leave with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neulig_fl.core.errors import one_line
from neulig_fl.ledger import chain, entry_form
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.ledger.handshake import RUN
from neulig_fl.ledger.receipts import signed_entries

REFUSED = "refused: "
"""What a receipt's reason begins with when the client's gate refused."""


def anothers(name: str, own: Sequence[Entry], run: object) -> Fault | None:
    """The first entry of a run in which a client's own ledger is about another client.

    In other runs scenarios may have called the client otherwise: its store is the node's, its name
    is not.

    Args:
        name: of the client in this run.
        own: its ledger; the signatures hold.
        run: the run's id.
    """
    for index, entry in enumerate(own):
        if entry.get(RUN) == run and entry.get("client") != name:
            return Fault(index, f"is of client {str(entry.get('client'))[:60]!r}")
    return None


def impossible(own: Sequence[Entry]) -> Fault | None:
    """The first entry of a client's own ledger that says what no entry of its event can say."""
    for index, entry in enumerate(own):
        problem = entry_form.problem(entry)
        if problem is not None:
            return Fault(index, problem)
    return None


def disagreement(
    name: str, own: Sequence[Entry], receipts: Sequence[Entry], run: object
) -> Fault | None:
    """The first entry of a client's own ledger that the receipts do not agree with.

    Args:
        name: of the client.
        own: its ledger; chain and signatures hold.
        receipts: the server's; chain, signatures and indices hold.
        run: the run's id; entries of other runs are left alone.
    """
    received: set[int] = set()
    for number, entry in signed_entries(receipts, name):
        index = int(entry["index"])
        if index >= len(own) or own[index] != entry:
            return Fault(index, f"is not the entry that the server has in receipt {number}")
        received.add(index)
    rest, noted = _rest(own, received, run), _noted(name, receipts)
    return _untold(rest, noted) or _missing(rest, noted)


def doubtful(name: str, own: Sequence[Entry], receipts: Sequence[Entry], run: object) -> list[str]:
    """Refusals of a client that the server tells of as something else, such as a lost reply.

    A reply can be lost, so this is no forgery; nor can it be told from one.

    Args:
        name, own, receipts, run: as for `disagreement`, which found nothing.
    """
    received = {int(entry["index"]) for _, entry in signed_entries(receipts, name)}
    told = Counter(_reason(e) for e in _noted(name, receipts))
    found = []
    for _, entry in _rest(own, received, run):
        about, reason = _refusal(entry)
        told[about, reason] -= 1
        if entry.get("event") == chain.REFUSAL and told[about, reason] < 0:
            others = [str(e.get("reason")) for e in _noted(name, receipts) if _about(e) == about]
            found.append(f"{reason!r}, which the server notes as {others[0]!r}")
    return found


def _rest(own: Sequence[Entry], received: set[int], run: object) -> list[tuple[int, Entry]]:
    """Entries of a run that should be in a receipt, and are not."""
    return [
        (i, e)
        for i, e in enumerate(own)
        if e.get(RUN) == run and i not in received and e.get("event") != chain.OUTCOME
    ]


def _noted(name: str, receipts: Sequence[Entry]) -> list[Entry]:
    """What the server notes as refused or lost."""
    return [e for e in receipts if e.get("client") == name and "entry" not in e]


def _untold(rest: Sequence[tuple[int, Entry]], noted: Sequence[Entry]) -> Fault | None:
    """The first entry without a receipt that the server has not noted as refused or lost."""
    left = Counter(map(_about, noted))
    for index, entry in rest:
        left[_about(entry)] -= 1
        if left[_about(entry)] < 0:
            return Fault(index, f"is a {entry.get('event')} that no receipt tells of")
    return None


def _missing(rest: Sequence[tuple[int, Entry]], noted: Sequence[Entry]) -> Fault | None:
    """A refusal that the server tells of and the client did not enter, or with another reason."""
    refusals = [(i, e) for i, e in rest if e.get("event") == chain.REFUSAL]
    entered = Counter(_refusal(e) for _, e in refusals)
    silent = chain.SILENT if len(refusals) >= chain.MOST_REFUSALS else None
    for receipt in noted:
        about, reason = _reason(receipt)
        if not reason.startswith(REFUSED) or reason.removeprefix(REFUSED) == silent:
            continue
        entered[about, reason] -= 1
        if entered[about, reason] < 0:
            return _otherwise(refusals, about, reason)
    return None


def _otherwise(
    refusals: Sequence[tuple[int, Entry]], about: tuple[str, str, str], reason: str
) -> Fault:
    """What is wrong with a refusal that the server tells of."""
    for index, entry in refusals:
        if _about(entry) == about:
            own = _refusal(entry)[1]
            return Fault(index, f"is {own[:80]!r}, and a receipt tells of {reason[:80]!r}")
    stage, kind, _ = about
    what = f"does not hold the refusal of {kind} in stage {stage} that a receipt tells of"
    return Fault(None, what)


def _about(entry: Entry) -> tuple[str, str, str]:
    """What a refusal, or an entry that the server has no receipt of, is about."""
    return (str(entry.get("stage")), str(entry.get("kind")), str(entry.get("queries")))


def _reason(receipt: Entry) -> tuple[tuple[str, str, str], str]:
    """What a receipt is about, and why there is no record."""
    return _about(receipt), str(receipt.get("reason"))


def _refusal(entry: Entry) -> tuple[tuple[str, str, str], str]:
    """The same of a client's own refusal, in the server's words."""
    reason = entry.get("reason")
    return _about(entry), f"{REFUSED}{one_line(reason if isinstance(reason, str) else None)}"
