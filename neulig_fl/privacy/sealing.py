"""Sealed payloads: only the named recipient can open one, and only for what it was sealed for.

A fresh X25519 key agrees with the recipient's; HKDF-SHA256 makes a key and a nonce of what they
share and of both public keys; ChaCha20-Poly1305 encrypts the payload. The `binding` (run, stage,
client, kind, shapes and so on) goes in as associated data: the recipient computes it from what it
asked for, so a record that is moved to another place does not open. `Seen` refuses the same record
twice.

    sealed = "NLFS" | version (1 byte) | fresh public key (32) | ciphertext | tag (16)

What sealing does not hide: that a record was sent, when, and how long it is. Nor does it say who
sealed it: the sender's signed ledger entry over the sealed bytes' SHA-256 does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.privacy.keys import AGREEMENT, public_bytes

MAGIC, VERSION = b"NLFS", 1
_START = MAGIC + bytes([VERSION])
_PUBLIC, _TAG, _KEY, _NONCE = 32, 16, 32, 12
_HEADER = len(_START) + _PUBLIC

OVERHEAD = _HEADER + _TAG
"""Bytes by which a sealed payload is longer than the payload."""

MOST_BYTES = 2**31 - 1 - _TAG
"""Bytes of the largest payload that one call of the cipher takes."""

Bytes = bytes | bytearray | memoryview


def binding(
    *,
    run: str,
    stage: str,
    client: str,
    recipient: str,
    group: str,
    kind: str,
    queries: str | None,
    fraction: float,
    shapes: Sequence[tuple[str, str, tuple[int, ...]]],
) -> bytes:
    """What a sealed record is bound to, as bytes that both sides compute for themselves.

    Args:
        run: the run's id.
        stage: that asks.
        client: that seals.
        recipient: who opens: `server`, or another client's name.
        group: whose expert, A or B.
        kind: of record.
        queries: the query set; None for kinds without queries.
        fraction: share of the query set.
        shapes: name, dtype and shape of every array (`kinds.layout`).

    Example:
        >>> said = dict(run="r", stage="s", client="ada", recipient="server", group="A", kind="sum")
        >>> binding(**said, queries=None, fraction=1.0, shapes=[("sum", "<f8", (1,))])[:31]
        b'{"client":"ada","fraction":1.0,'
    """
    said = {
        "run": run,
        "stage": stage,
        "client": client,
        "recipient": recipient,
        "group": group,
        "kind": kind,
        "queries": queries,
        "fraction": float(fraction),
        "shapes": [[name, dtype, list(shape)] for name, dtype, shape in shapes],
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def seal(payload: Bytes, recipient_public: str, binding: bytes) -> bytes:
    """Encrypt a payload to its recipient.

    Payload and result are all that is held: 2 x the payload's size.

    Args:
        payload: any bytes, less than 2 GiB.
        recipient_public: the text of the recipient's X25519 key.
        binding: what it is sealed for; authenticated, not sent.

    Returns:
        `OVERHEAD` bytes more than the payload; other bytes each time.

    Raises:
        InputError: `recipient_public` is no X25519 key, or the payload is too large.

    Example:
        >>> from neulig_fl.privacy.keys import Identity
        >>> mine = Identity.new()
        >>> open_sealed(seal(b"abc", mine.agreement, b"run 1"), mine.agreement_key, b"run 1")
        b'abc'
    """
    raw = public_bytes(recipient_public, AGREEMENT)
    if raw is None:
        raise InputError(
            f"{recipient_public!r} is no X25519 public key; allowed: {AGREEMENT}: and 43 "
            "characters of base64url, as `hello` says it",
            public_reason="the recipient's public key is none",
        )
    if len(payload) > MOST_BYTES:
        raise InputError(
            f"a payload of {len(payload)} bytes cannot be sealed; at most {MOST_BYTES} can",
            public_reason="the payload is too large to be sealed",
        )
    fresh = X25519PrivateKey.generate()
    own = fresh.public_key().public_bytes_raw()
    try:
        key, nonce = _derived(fresh.exchange(X25519PublicKey.from_public_bytes(raw)), own, raw)
    except ValueError as error:
        raise InputError(
            f"{recipient_public!r} is a point of low order; everyone could open what is sealed to "
            "it; ask its owner for another key",
            public_reason="the recipient's public key is none",
        ) from error
    buffer = _buffer(_HEADER + len(payload) + _TAG)
    with buffer.getbuffer() as view:
        view[:_HEADER] = _START + own
        ChaCha20Poly1305(key).encrypt_into(nonce, payload, binding, view[_HEADER:])
    return buffer.getvalue()


def open_sealed(sealed: Bytes, recipient_private: X25519PrivateKey, binding: bytes) -> bytes:
    """Decrypt what `seal` made.

    Args:
        sealed: as it came.
        recipient_private: of the key that it was sealed to.
        binding: what the recipient asked for.

    Returns:
        The payload; nothing of it where anything is wrong.

    Raises:
        BadReply: it is no sealed payload, was changed, or was sealed for somebody or something
            else.
    """
    if len(sealed) < OVERHEAD or bytes(sealed[: len(_START)]) != _START:
        raise BadReply(
            f"the payload is not sealed as version {VERSION} of neulig-fl seals",
            public_reason="the payload is not sealed",
        )
    view = memoryview(sealed)
    fresh = fresh_key(view)
    own = recipient_private.public_key().public_bytes_raw()
    buffer = _buffer(len(sealed) - OVERHEAD)
    try:
        shared = recipient_private.exchange(X25519PublicKey.from_public_bytes(fresh))
        key, nonce = _derived(shared, fresh, own)
        with buffer.getbuffer() as room:
            ChaCha20Poly1305(key).decrypt_into(nonce, view[_HEADER:], binding, room)
    except (InvalidTag, ValueError) as error:
        problem = (
            "the sealed payload does not open: it was changed, or sealed to another key or for "
            "another run, stage, client, kind or shape"
        )
        raise BadReply.public(problem) from error
    return buffer.getvalue()


def fresh_key(sealed: Bytes) -> bytes:
    """The fresh public key of a sealed payload: it identifies the sealing."""
    return bytes(sealed[len(_START) : _HEADER])


class Seen:
    """What a recipient has opened already: the same record does not open twice.

    It lives as long as a run on the recipient's side: a record of another run does not open anyway,
    because the run is in its binding.
    """

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def open(self, sealed: Bytes, recipient_private: X25519PrivateKey, binding: bytes) -> bytes:
        """As `open_sealed`, once for each record.

        Raises:
            BadReply: as `open_sealed`, and for a record that was opened before.
        """
        key = fresh_key(sealed)
        if key in self._keys:
            problem = "the sealed payload was received before"
            raise BadReply.public(problem)
        payload = open_sealed(sealed, recipient_private, binding)
        self._keys.add(key)
        return payload


def _derived(shared: bytes, fresh: bytes, recipient: bytes) -> tuple[bytes, bytes]:
    """Key and nonce; each sealing has its own, because its fresh key is its own."""
    hkdf = HKDF(SHA256(), _KEY + _NONCE, salt=fresh + recipient, info=b"neulig-fl sealed 1")
    made = hkdf.derive(shared)
    return made[:_KEY], made[_KEY:]


def _buffer(size: int) -> io.BytesIO:
    """Zeros that can be written in place and taken as `bytes` without a copy."""
    return io.BytesIO(bytes(size))
