"""What a client keeps between two messages of a secure sum. It holds secrets: see `to_bytes`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.privacy.secagg.messages import Roster
from neulig_fl.privacy.secagg.shares import PAIR_BYTES
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.wire import (
    DIGEST_BYTES,
    Reader,
    in_order,
    pack_blob,
    pack_count,
    pack_name,
)

_MAGIC = b"NLSS1 state"


class Step(IntEnum):
    """The last step that a client has done."""

    ADVERTISED = 1
    SHARED = 2
    MASKED = 3
    CONFIRMED = 4
    REVEALED = 5


@dataclass(frozen=True)
class ClientState:
    """One client's side of one secure sum.

    Args:
        terms: of the sum.
        client: whose state it is.
        step: the last step done.
        advert: the message that it sent first.
        sealing_key: private X25519 key for shares; forgotten once the others' shares are open.
        mask_seed: gives the key for pairwise masks; forgotten once the vector is masked.
        self_seed: gives the self-mask; forgotten once the vector is masked.
        roster: the message with everyone's keys.
        held: pairs of shares by whose they are, this client's own among them; forgotten once those
            that undo the outcome are revealed.
        outcome: the one outcome that it has confirmed.
    """

    terms: Terms
    client: str
    step: Step
    advert: bytes
    sealing_key: bytes = field(repr=False)
    mask_seed: bytes = field(repr=False)
    self_seed: bytes = field(repr=False)
    roster: bytes = field(default=b"", repr=False)
    held: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    outcome: bytes = b""

    @property
    def peers(self) -> tuple[str, ...]:
        """Whose vectors can be in the sum, as far as this client knows; itself among them."""
        return tuple(name for name, _ in self.held)

    @property
    def said(self) -> dict[str, bytes]:
        """What each client in the roster signed beside its keys: SHA-256, by name."""
        adverts = Roster.read(self.roster, self.terms.digest).adverts
        return {advert.client: advert.said for advert in adverts}

    def to_bytes(self) -> bytes:
        """The state as bytes: secret, for a file that nobody else can read.

        It must be safely stored before the message of the same step is sent, and never be put back
        to an older one: a client that forgets what it answered could answer the opposite.
        """
        fields = (
            self.client.encode(), self.advert, self.sealing_key, self.mask_seed, self.self_seed,
            self.roster, self.outcome,
        )  # fmt: skip
        held = b"".join(pack_name(name) + pair for name, pair in self.held)
        blobs = b"".join(pack_blob(each) for each in fields)
        start = _MAGIC + bytes([self.step]) + self.terms.to_bytes()
        whole = start + blobs + pack_count(len(self.held)) + held
        return hashlib.sha256(whole).digest() + whole

    @classmethod
    def from_bytes(cls, data: bytes) -> ClientState:
        """The state from what `to_bytes` gave.

        Raises:
            RunError: the bytes are no state. The message shows none of them.
        """
        try:
            if hashlib.sha256(data[DIGEST_BYTES:]).digest() != data[:DIGEST_BYTES]:
                raise ValueError("not whole")
            return cls._read(Reader(data[DIGEST_BYTES:]))
        except (ValueError, InputError):
            problem = "its stored state of a secure sum is damaged"
            raise RunError(
                f"secure sum: {problem}; leave the file aside and begin a new round",
                public_reason=problem,
            ) from None

    @classmethod
    def _read(cls, reader: Reader) -> ClientState:
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise ValueError("no state")
        step, terms = Step(reader.take(1)[0]), Terms.read(reader)
        client, advert, sealing, mask, own, roster, outcome = (reader.blob() for _ in range(7))
        held = tuple((reader.name(), reader.take(PAIR_BYTES)) for _ in range(reader.count()))
        reader.end()
        in_order([name for name, _ in held])
        return cls(
            terms, client.decode(), step, advert, sealing, mask, own, roster, held, outcome
        )  # fmt: skip
