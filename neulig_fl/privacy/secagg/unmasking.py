"""The messages of the last two steps: who survived, who says so, and the shares that undo masks."""

from __future__ import annotations

from dataclasses import dataclass, field

from neulig_fl.privacy.secagg import wire
from neulig_fl.privacy.secagg.shares import SHARE_BYTES
from neulig_fl.privacy.secagg.wire import BYTE, NAME, NAMES, SIGNATURE, Message, fixed, head

SELF, MASK = 0, 1
"""Of which seed a revealed share is."""


@dataclass(frozen=True)
class Outcome(Message):
    """Whose vectors are in the sum, and who dropped out after sending shares.

    Args:
        survivors: sorted names.
        dropped: sorted names.
    """

    KIND = b"o"
    FIELDS = (NAMES, NAMES)

    survivors: tuple[str, ...]
    dropped: tuple[str, ...]

    def signed(self, terms: bytes, roster: bytes) -> bytes:
        """What a survivor signs."""
        return head(b"w", terms) + roster + b"".join(self.packed(terms))


@dataclass(frozen=True)
class Confirmation(Message):
    """A survivor's word for the outcome.

    Args:
        client: whose word.
        signature: by its long-term key; empty where nobody signs.
    """

    KIND = b"c"
    FIELDS = (NAME, SIGNATURE)

    client: str
    signature: bytes


@dataclass(frozen=True)
class Request(Message):
    """Asks the survivors for their shares: the outcome, and who confirmed it.

    Args:
        outcome: as it was confirmed.
        confirmations: sorted by client.
    """

    KIND = b"q"
    FIELDS = (wire.message(Outcome), wire.messages(Confirmation))

    outcome: Outcome
    confirmations: tuple[Confirmation, ...]


@dataclass(frozen=True)
class Reveal(Message):
    """A survivor's shares: of each survivor's self seed, and of each dropped client's mask seed.

    Args:
        client: who kept them.
        shares: by whose seed it is, SELF or MASK, 16 bytes; sorted, one for each client.
    """

    KIND = b"v"
    FIELDS = (NAME, wire.rows(NAME, BYTE, fixed(SHARE_BYTES)))

    client: str
    shares: tuple[tuple[str, int, bytes], ...] = field(repr=False)
