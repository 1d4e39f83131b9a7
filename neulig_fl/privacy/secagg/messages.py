"""The messages of a secure sum, in the order in which they travel.

    step       client to server    server to clients
    advertise  Advert              Roster
    share      Shares              Delivery (one for each client)
    mask       words, no header    Outcome
    confirm    Confirmation        Request
    reveal     Reveal              -

The last two steps are in `unmasking`. A message starts with its kind and the digest of the terms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from neulig_fl.privacy.secagg import wire
from neulig_fl.privacy.secagg.shares import SEALED_BYTES
from neulig_fl.privacy.secagg.wire import DIGEST_BYTES, KEY, NAME, SIGNATURE, Message, fixed, head

Sign = Callable[[bytes], bytes]
"""A client's long-term key: bytes in, signature out."""
Verify = Callable[[str, bytes, bytes], bool]
"""Whether a signature is that of the client: client, what was signed, signature."""


@dataclass(frozen=True)
class Advert(Message):
    """A client's public keys for one sum.

    Args:
        client: whose they are.
        sealing_key: X25519, 32 bytes, for the shares that others send it.
        mask_key: X25519, 32 bytes, for pairwise masks.
        said: SHA-256 of whatever else the client says to the others; zeros for nothing.
        signature: by the client's long-term key; empty where nobody signs.
    """

    KIND = b"a"
    FIELDS = (NAME, KEY, KEY, fixed(DIGEST_BYTES), SIGNATURE)

    client: str
    sealing_key: bytes
    mask_key: bytes
    said: bytes = bytes(DIGEST_BYTES)
    signature: bytes = b""

    def signed(self, terms: bytes) -> bytes:
        """What the signature, the last field, is of."""
        return head(self.KIND, terms) + b"".join(self.packed(terms)[:-1])


@dataclass(frozen=True)
class Roster(Message):
    """Everyone's public keys, the same bytes for all.

    Args:
        adverts: sorted by client.
    """

    KIND = b"r"
    FIELDS = (wire.messages(Advert),)

    adverts: tuple[Advert, ...]

    @property
    def clients(self) -> tuple[str, ...]:
        """Who is in it."""
        return tuple(advert.client for advert in self.adverts)

    def __getitem__(self, client: str) -> Advert:
        return next(advert for advert in self.adverts if advert.client == client)

    def digest(self, terms: bytes) -> bytes:
        """SHA-256 of the message."""
        return hashlib.sha256(self.to_bytes(terms)).digest()

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Self:
        """The message in some bytes; no key may stand in it twice."""
        roster = super().read(data, terms)
        keys = [key for a in roster.adverts for key in (a.sealing_key, a.mask_key)]
        if len(set(keys)) < len(keys):
            raise ValueError("two of its keys are the same")
        return roster


Sealed = tuple[tuple[str, bytes], ...]
"""Sealed pairs of shares, each with the name of its recipient, or of its sender."""
SEALED = wire.rows(NAME, fixed(SEALED_BYTES))


@dataclass(frozen=True)
class Shares(Message):
    """A client's shares for all others, each sealed for its recipient.

    Args:
        client: whose they are.
        check: shows whether a restored self seed is the right one.
        sealed: by recipient.
    """

    KIND = b"s"
    FIELDS = (NAME, KEY, SEALED)

    client: str
    check: bytes = field(repr=False)
    sealed: Sealed = field(repr=False)


@dataclass(frozen=True)
class Delivery(Message):
    """What the others sealed for one client.

    Args:
        client: the recipient.
        sealed: by sender.
    """

    KIND = b"d"
    FIELDS = (NAME, SEALED)

    client: str
    sealed: Sealed = field(repr=False)
