"""Whether a client's own ledger and the server's receipts of one run agree.

Both sides can leave something out; neither can do it unseen by the other. What a client entered and
the server did not receive, such as a reply that was lost, the server must have noted as a refusal.
Outcomes of secure sums stand in the client's ledger alone: no bytes leave with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neulig_fl import ledger
from neulig_fl.greeting import RUN
from neulig_fl.ledger import Entry, Fault
from neulig_fl.receipts import signed_entries

REFUSED = "refused: "
"""What a receipt's reason begins with when the client's gate refused."""


def anothers(name: str, own: Sequence[Entry]) -> Fault | None:
    """The first entry of a ledger that is about another client than the one whose it is."""
    for index, entry in enumerate(own):
        if entry.get("client") != name:
            return Fault(index, f"is of client {str(entry.get('client'))[:60]!r}")
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
    noted = [e for e in receipts if e.get("client") == name and "entry" not in e]
    rest = [
        (i, e)
        for i, e in enumerate(own)
        if e.get(RUN) == run and i not in received and e.get("event") != ledger.OUTCOME
    ]
    return _untold(rest, noted) or _missing(rest, noted)


def _untold(rest: Sequence[tuple[int, Entry]], noted: Sequence[Entry]) -> Fault | None:
    """The first entry without a receipt that the server has not noted as refused or lost."""
    left = Counter(map(_about, noted))
    for index, entry in rest:
        left[_about(entry)] -= 1
        if left[_about(entry)] < 0:
            return Fault(index, f"is a {entry.get('event')} that no receipt tells of")
    return None


def _missing(rest: Sequence[tuple[int, Entry]], noted: Sequence[Entry]) -> Fault | None:
    """A refusal that the server tells of and the client did not enter."""
    entered = Counter(_about(e) for _, e in rest if e.get("event") == ledger.REFUSAL)
    for receipt in noted:
        if str(receipt.get("reason")).startswith(REFUSED):
            entered[_about(receipt)] -= 1
            if entered[_about(receipt)] < 0:
                stage, kind, _ = _about(receipt)
                what = f"does not hold the refusal of {kind} in stage {stage} that a receipt"
                return Fault(None, f"{what} tells of")
    return None


def _about(entry: Entry) -> tuple[str, str, str]:
    """What a refusal, or an entry that the server has no receipt of, is about."""
    return (str(entry.get("stage")), str(entry.get("kind")), str(entry.get("queries")))
