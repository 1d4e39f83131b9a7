"""The messages of the last two steps: who survived, who says so, and the shares that undo masks."""

from __future__ import annotations

from dataclasses import dataclass, field

from neulig_fl.privacy.secagg.shares import SHARE_BYTES
from neulig_fl.privacy.secagg.wire import (
    body,
    head,
    in_order,
    pack_blob,
    pack_count,
    pack_name,
    pack_names,
    read_signature,
)

SELF, MASK = 0, 1
"""Of which seed a revealed share is."""


@dataclass(frozen=True)
class Outcome:
    """Whose vectors are in the sum, and who dropped out after sending shares.

    Args:
        survivors: sorted names.
        dropped: sorted names.
    """

    survivors: tuple[str, ...]
    dropped: tuple[str, ...]

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return head(b"o", terms) + pack_names(self.survivors) + pack_names(self.dropped)

    def signed(self, terms: bytes, roster: bytes) -> bytes:
        """What a survivor signs."""
        names = pack_names(self.survivors) + pack_names(self.dropped)
        return head(b"w", terms) + roster + names

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Outcome:
        """The message in some bytes."""
        reader = body(data, b"o", terms)
        outcome = cls(reader.names(), reader.names())
        reader.end()
        return outcome


@dataclass(frozen=True)
class Confirmation:
    """A survivor's word for the outcome.

    Args:
        client: whose word.
        signature: by its long-term key; empty where nobody signs.
    """

    client: str
    signature: bytes

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return head(b"c", terms) + pack_name(self.client) + pack_blob(self.signature)

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Confirmation:
        """The message in some bytes."""
        reader = body(data, b"c", terms)
        confirmation = cls(reader.name(), read_signature(reader))
        reader.end()
        return confirmation


@dataclass(frozen=True)
class Request:
    """Asks the survivors for their shares: the outcome, and who confirmed it.

    Args:
        outcome: as it was confirmed.
        confirmations: sorted by client.
    """

    outcome: Outcome
    confirmations: tuple[Confirmation, ...]

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        words = b"".join(pack_blob(each.to_bytes(terms)) for each in self.confirmations)
        outcome = pack_blob(self.outcome.to_bytes(terms))
        return head(b"q", terms) + outcome + pack_count(len(self.confirmations)) + words

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Request:
        """The message in some bytes."""
        reader = body(data, b"q", terms)
        outcome = Outcome.read(reader.blob(), terms)
        words = tuple(Confirmation.read(reader.blob(), terms) for _ in range(reader.count()))
        reader.end()
        in_order([each.client for each in words])
        return cls(outcome, words)


@dataclass(frozen=True)
class Reveal:
    """A survivor's shares: of each survivor's self seed, and of each dropped client's mask seed.

    Args:
        client: who kept them.
        shares: by whose seed it is, SELF or MASK, 16 bytes; sorted, one for each client.
    """

    client: str
    shares: tuple[tuple[str, int, bytes], ...] = field(repr=False)

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        shares = b"".join(pack_name(n) + bytes([kind]) + share for n, kind, share in self.shares)
        count = pack_count(len(self.shares))
        return head(b"v", terms) + pack_name(self.client) + count + shares

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Reveal:
        """The message in some bytes."""
        reader = body(data, b"v", terms)
        client, count = reader.name(), reader.count()
        shares = tuple(
            (reader.name(), reader.take(1)[0], reader.take(SHARE_BYTES)) for _ in range(count)
        )
        reader.end()
        in_order([name for name, _, _ in shares])
        return cls(client, shares)
