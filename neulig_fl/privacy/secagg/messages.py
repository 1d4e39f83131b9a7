"""The messages of a secure sum, in the order in which they travel.

    step       client to server    server to clients
    advertise  Advert              Roster
    share      Shares              Delivery (one for each client)
    mask       words, no header    Outcome
    confirm    Confirmation        Request
    reveal     Reveal              -

The last two steps are in `unmasking`. A message starts with its kind and the digest of the terms.
`read` raises ValueError, with nothing of the bytes in it, for whatever `to_bytes` did not write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from neulig_fl.privacy.secagg.shares import SEALED_BYTES
from neulig_fl.privacy.secagg.wire import (
    DIGEST_BYTES,
    KEY_BYTES,
    Reader,
    body,
    head,
    in_order,
    pack_blob,
    pack_count,
    pack_name,
    read_signature,
)

Sign = Callable[[bytes], bytes]
"""A client's long-term key: bytes in, signature out."""
Verify = Callable[[str, bytes, bytes], bool]
"""Whether a signature is that of the client: client, what was signed, signature."""


@dataclass(frozen=True)
class Advert:
    """A client's public keys for one sum.

    Args:
        client: whose they are.
        sealing_key: X25519, 32 bytes, for the shares that others send it.
        mask_key: X25519, 32 bytes, for pairwise masks.
        said: SHA-256 of whatever else the client says to the others; zeros for nothing.
        signature: by the client's long-term key; empty where nobody signs.
    """

    client: str
    sealing_key: bytes
    mask_key: bytes
    said: bytes = bytes(DIGEST_BYTES)
    signature: bytes = b""

    def signed(self, terms: bytes) -> bytes:
        """What the signature is of."""
        keys = self.sealing_key + self.mask_key
        return head(b"a", terms) + pack_name(self.client) + keys + self.said

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return self.signed(terms) + pack_blob(self.signature)

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Advert:
        """The message in some bytes."""
        reader = body(data, b"a", terms)
        name, sealing, mask = reader.name(), reader.take(KEY_BYTES), reader.take(KEY_BYTES)
        advert = cls(name, sealing, mask, reader.take(DIGEST_BYTES), read_signature(reader))
        reader.end()
        return advert


@dataclass(frozen=True)
class Roster:
    """Everyone's public keys, the same bytes for all.

    Args:
        adverts: sorted by client.
    """

    adverts: tuple[Advert, ...]

    @property
    def clients(self) -> tuple[str, ...]:
        """Who is in it."""
        return tuple(advert.client for advert in self.adverts)

    def __getitem__(self, client: str) -> Advert:
        return next(advert for advert in self.adverts if advert.client == client)

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        adverts = b"".join(pack_blob(advert.to_bytes(terms)) for advert in self.adverts)
        return head(b"r", terms) + pack_count(len(self.adverts)) + adverts

    def digest(self, terms: bytes) -> bytes:
        """SHA-256 of the message."""
        return hashlib.sha256(self.to_bytes(terms)).digest()

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Roster:
        """The message in some bytes; no key may stand in it twice."""
        reader = body(data, b"r", terms)
        roster = cls(tuple(Advert.read(reader.blob(), terms) for _ in range(reader.count())))
        reader.end()
        in_order(roster.clients)
        keys = [key for a in roster.adverts for key in (a.sealing_key, a.mask_key)]
        if len(set(keys)) < len(keys):
            raise ValueError("two of its keys are the same")
        return roster


Sealed = tuple[tuple[str, bytes], ...]
"""Sealed pairs of shares, each with the name of its recipient, or of its sender."""


def _pack_sealed(sealed: Sealed) -> bytes:
    return pack_count(len(sealed)) + b"".join(pack_name(name) + data for name, data in sealed)


def _sealed(reader: Reader) -> Sealed:
    found = tuple((reader.name(), reader.take(SEALED_BYTES)) for _ in range(reader.count()))
    in_order([name for name, _ in found])
    return found


@dataclass(frozen=True)
class Shares:
    """A client's shares for all others, each sealed for its recipient.

    Args:
        client: whose they are.
        check: shows whether a restored self seed is the right one.
        sealed: by recipient.
    """

    client: str
    check: bytes = field(repr=False)
    sealed: Sealed = field(repr=False)

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return head(b"s", terms) + pack_name(self.client) + self.check + _pack_sealed(self.sealed)

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Shares:
        """The message in some bytes."""
        reader = body(data, b"s", terms)
        shares = cls(reader.name(), reader.take(KEY_BYTES), _sealed(reader))
        reader.end()
        return shares


@dataclass(frozen=True)
class Delivery:
    """What the others sealed for one client.

    Args:
        client: the recipient.
        sealed: by sender.
    """

    client: str
    sealed: Sealed = field(repr=False)

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return head(b"d", terms) + pack_name(self.client) + _pack_sealed(self.sealed)

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Delivery:
        """The message in some bytes."""
        reader = body(data, b"d", terms)
        delivery = cls(reader.name(), _sealed(reader))
        reader.end()
        return delivery
