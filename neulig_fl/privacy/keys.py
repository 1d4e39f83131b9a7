"""A party's keys: Ed25519 to sign its ledger, X25519 for records that are sealed to it.

A public key is one short text, `ed25519:` or `x25519:` and the key in base64url, that fits into a
scenario. The X25519 key is signed by the Ed25519 key, so pinning the one pins both. What is signed
begins with what it is for, so that no signature can be shown in another place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from neulig_fl.core.errors import BadReply

SIGNING, AGREEMENT = "ed25519", "x25519"
"""What the text of a public key begins with."""

MOST_HAND_OVERS = 64
"""Hand-overs of one party that are looked at."""

HandOver = dict[str, str]
"""The old and the new key's texts, and both their signatures."""

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_AGREEMENT_PURPOSE, _FROM_PURPOSE, _TO_PURPOSE = "agreement key", "hand-over", "take-over"


def encoded(data: bytes) -> str:
    """Base64url without padding.

    Example:
        >>> encoded(b"ab")
        'YWI'
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(text: object, size: int) -> bytes | None:
    """What `encoded` was given, if it was so many bytes; None for any other text.

    Base64 has several texts for the same bytes; only the one that `encoded` makes is taken, so that
    no character can be changed unseen.

    Example:
        >>> decoded("YWI", 2), decoded("YWJ", 2), decoded("YWI", 3)
        (b'ab', None, None)
    """
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == size and encoded(data) == text else None


def public_bytes(text: object, kind: str) -> bytes | None:
    """The 32 bytes of a public key's text; None when it is no key of that kind.

    Args:
        text: such as `ed25519:...`.
        kind: `SIGNING` or `AGREEMENT`.
    """
    if not isinstance(text, str) or not text.startswith(f"{kind}:"):
        return None
    return decoded(text.removeprefix(f"{kind}:"), _KEY_BYTES)


def signed_by(key: object, purpose: str, message: bytes, signature: object) -> bool:
    """Whether a signature is this key's, for this purpose, over this message; never raises.

    Args:
        key: the text of an Ed25519 public key.
        purpose: what the signature is for.
        message: what was signed.
        signature: its text.
    """
    raw, mark = public_bytes(key, SIGNING), decoded(signature, _SIGNATURE_BYTES)
    if raw is None or mark is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(mark, _prefixed(purpose, message))
    except (InvalidSignature, ValueError):
        return False
    return True


def _prefixed(purpose: str, message: bytes) -> bytes:
    return f"neulig-fl {purpose} 1\n".encode() + message


def fingerprint(key: str) -> str:
    """A public key for people to compare: 128 bits of its SHA-256, in groups of four.

    Example:
        >>> fingerprint("ed25519:" + "A" * 43)
        '7237 06cb 634e 72db baed b300 a13c 5989'
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


@dataclass(frozen=True)
class PublicIdentity:
    """What others know of a party.

    Args:
        key: its Ed25519 key's text; this is what is pinned.
        agreement: its X25519 key's text.
        proof: signature of the Ed25519 key over the X25519 key.
        hand_overs: how earlier keys handed over to this one, oldest first.

    Raises:
        BadReply: a signature is not right, or the hand-overs do not lead to `key`.
    """

    key: str
    agreement: str
    proof: str
    hand_overs: tuple[HandOver, ...] = ()

    def __post_init__(self) -> None:
        known = public_bytes(self.key, SIGNING) and public_bytes(self.agreement, AGREEMENT)
        message = str(self.agreement).encode()
        if not known or not signed_by(self.key, _AGREEMENT_PURPOSE, message, self.proof):
            raise BadReply.public(
                "its keys are not an Ed25519 key and an X25519 key that the first one signed"
            )
        if lineage(self.hand_overs, self.key) is None:
            raise BadReply.public("its hand-overs do not lead to its key, one signed by the other")

    @property
    def lineage(self) -> tuple[str, ...]:
        """All keys that this party had, the present one last."""
        return lineage(self.hand_overs, self.key) or ()

    def record(self) -> dict[str, Any]:
        """As it travels."""
        return {**asdict(self), "hand_overs": list(self.hand_overs)}

    @staticmethod
    def read(record: object) -> PublicIdentity:
        """What `record` made, checked.

        Raises:
            BadReply: it is no such record, or a signature in it is not right.
        """
        names = {each.name for each in fields(PublicIdentity)}
        if not isinstance(record, dict) or set(record) != names:
            raise BadReply.public("it did not say its keys")
        steps = record["hand_overs"]
        if not isinstance(steps, list) or len(steps) > MOST_HAND_OVERS:
            raise BadReply.public(f"its hand-overs are not a list of at most {MOST_HAND_OVERS}")
        return PublicIdentity(**{**record, "hand_overs": tuple(steps)})


@dataclass(frozen=True)
class Identity:
    """A party's private keys. Nothing of them is in its repr, and it cannot be pickled.

    Args:
        hand_overs: how earlier keys handed over to these, oldest first.
    """

    _signing: Ed25519PrivateKey = field(repr=False)
    _agreement: X25519PrivateKey = field(repr=False)
    hand_overs: tuple[HandOver, ...] = field(default=(), repr=False)

    @staticmethod
    def new() -> Identity:
        """Fresh keys of the operating system's generator."""
        return Identity(Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"Identity({self.key})"

    @cached_property
    def key(self) -> str:
        """The text of the Ed25519 public key."""
        return f"{SIGNING}:{encoded(self._signing.public_key().public_bytes_raw())}"

    @cached_property
    def agreement(self) -> str:
        """The text of the X25519 public key."""
        return f"{AGREEMENT}:{encoded(self._agreement.public_key().public_bytes_raw())}"

    @property
    def agreement_key(self) -> X25519PrivateKey:
        """The X25519 private key: opens what was sealed to this party."""
        return self._agreement

    @property
    def public(self) -> PublicIdentity:
        """What others may know."""
        proof = self.sign(_AGREEMENT_PURPOSE, self.agreement.encode())
        return PublicIdentity(self.key, self.agreement, proof, self.hand_overs)

    def sign(self, purpose: str, message: bytes) -> str:
        """The signature over a message, for one purpose alone."""
        return encoded(self._signing.sign(_prefixed(purpose, message)))

    def hand_over(self, new: Identity) -> HandOver:
        """Say that another key takes this one's place; both sign it, so neither can claim it alone.

        Example:
            >>> old, new = Identity.new(), Identity.new()
            >>> lineage([old.hand_over(new)], new.key) == (old.key, new.key)
            True
        """
        message = _hand_over_message(self.key, new.key)
        return {
            "old": self.key,
            "new": new.key,
            "by_old": self.sign(_FROM_PURPOSE, message),
            "by_new": new.sign(_TO_PURPOSE, message),
        }


def _hand_over_message(old: str, new: str) -> bytes:
    return f"{old}\n{new}".encode()


def lineage(hand_overs: Sequence[object], key: str) -> tuple[str, ...] | None:
    """The keys that led to a key, oldest first, itself last.

    Args:
        hand_overs: oldest first; may be anything.
        key: the present key.

    Returns:
        None when a signature is not right or the steps do not lead to `key`.
    """
    keys: list[str] = []
    for step in hand_overs:
        if not isinstance(step, dict) or set(step) != {"old", "new", "by_old", "by_new"}:
            return None
        old, new = str(step["old"]), str(step["new"])
        message = _hand_over_message(old, new)
        held = signed_by(old, _FROM_PURPOSE, message, step["by_old"]) and signed_by(
            new, _TO_PURPOSE, message, step["by_new"]
        )
        if not held or (keys and keys[-1] != old) or new in (*keys, old):
            return None
        keys = [*keys[:-1], old, new]
    if keys and keys[-1] != key:
        return None
    return tuple(keys) or (key,)
