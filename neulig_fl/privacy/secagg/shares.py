"""Seeds, the keys that derive from them, and the shares by which others can restore them.

Each client draws two seeds of 16 bytes, the size that the library's Shamir shares take: the self
seed gives its self-mask, the mask seed its X25519 key for pairwise masks. Every key comes out of
HKDF-SHA256, salted with the digest of the terms, and serves one purpose.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from neulig_fl.privacy.secagg.wire import pack_name

SEED_BYTES = 16
SHARE_BYTES = 16
PAIR_BYTES = 2 * SHARE_BYTES
"""A share of the self seed, then one of the mask seed."""
SEALED_BYTES = 12 + PAIR_BYTES + 16
"""Nonce, two shares, tag."""
_LABEL = b"neulig-fl secure-aggregation 1 "


def new_seed() -> bytes:
    """A seed from the operating system's generator."""
    return secrets.token_bytes(SEED_BYTES)


def new_key() -> bytes:
    """A private X25519 key from the operating system's generator, 32 bytes."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public half, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def mask_key(seed: bytes, terms: bytes) -> bytes:
    """The private X25519 key for pairwise masks that a mask seed stands for."""
    return _derived(seed, terms, b"mask key")


def self_mask(seed: bytes, terms: bytes) -> bytes:
    """The key of the self-mask that a self seed stands for."""
    return _derived(seed, terms, b"self mask")


def self_check(seed: bytes, terms: bytes) -> bytes:
    """What shows that a restored self seed is the right one, and nothing else of it."""
    return _derived(seed, terms, b"self check")


def pair_mask(private: bytes, public: bytes, terms: bytes, roster: bytes) -> bytes:
    """The key of the mask that two clients share; both halves of the two keys give the same.

    Args:
        private: one client's X25519 key for masks.
        public: the other's.
        terms: digest of the terms.
        roster: digest of the roster.

    Raises:
        ValueError: the public key is none that a client can have.
    """
    return _derived(_agreed(private, public), terms, b"pair mask" + roster)


def split(seed: bytes, threshold: int, count: int) -> list[bytes]:
    """Shamir shares of a seed; `threshold` of them restore it.

    Example:
        >>> shares = split(bytes(16), 2, 3)
        >>> combine({1: shares[0], 3: shares[2]}) == bytes(16)
        True
    """
    return [share for _, share in Shamir.split(threshold, count, seed, ssss=False)]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The seed.

    Args:
        shares: exactly as many as the threshold, by place from 1.
    """
    return Shamir.combine(sorted(shares.items()), ssss=False)


@dataclass(frozen=True)
class Way:
    """What a sealed pair of shares is bound to.

    Args:
        terms: digest of the terms.
        roster: digest of the roster.
        sender: whose seeds they are shares of.
        recipient: who is to keep them.
    """

    terms: bytes
    roster: bytes
    sender: str
    recipient: str

    @property
    def bound(self) -> bytes:
        """All of it as bytes."""
        return self.terms + self.roster + pack_name(self.sender) + pack_name(self.recipient)


def seal(pair: bytes, private: bytes, public: bytes, way: Way) -> bytes:
    """Encrypt two shares for the one who is to keep them.

    Args:
        pair: the share of the self seed, then that of the mask seed.
        private: the sender's X25519 key for shares.
        public: the recipient's.
        way: who sends it to whom, in which round.

    Returns:
        60 bytes.

    Raises:
        ValueError: the public key is none that a client can have.
    """
    nonce = secrets.token_bytes(12)
    return nonce + _box(private, public, way).encrypt(nonce, pair, way.bound)


def unseal(sealed: bytes, private: bytes, public: bytes, way: Way) -> bytes:
    """What `seal` was given.

    Args:
        sealed: 60 bytes.
        private: the recipient's X25519 key for shares.
        public: the sender's.
        way: who sends it to whom, in which round.

    Raises:
        ValueError: it was changed, swapped, replayed, or made for others or under other terms.
    """
    try:
        return _box(private, public, way).decrypt(sealed[:12], sealed[12:], way.bound)
    except InvalidTag:
        raise ValueError("changed, swapped, replayed or made in another round") from None


def _box(private: bytes, public: bytes, way: Way) -> ChaCha20Poly1305:
    key = _derived(_agreed(private, public), way.terms, b"share" + way.bound)
    return ChaCha20Poly1305(key)


def _agreed(private: bytes, public: bytes) -> bytes:
    """Raises ValueError where the public key is of low order."""
    own, other = X25519PrivateKey.from_private_bytes(private), X25519PublicKey.from_public_bytes
    return own.exchange(other(public))


def _derived(secret: bytes, terms: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=terms, info=_LABEL + info).derive(secret)
