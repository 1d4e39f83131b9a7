"""Masks: keystreams of ChaCha20, added to words modulo 2^32.

A key serves one mask of one sum. Chunk c of a mask is the keystream under nonce c, so any chunk can
be made without the ones before it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from neulig_fl.privacy.secagg.fixed_point import WORD, Words

_BLOCK = 2**15
"""Words made at once: a block of each of three arrays stays in the processor's cache."""
_ZEROS = bytes(_BLOCK * WORD.itemsize)


@dataclass(frozen=True)
class Mask:
    """One mask over a whole vector.

    Args:
        key: 32 secret bytes, used for this mask alone.
        sign: 1 to add it, -1 to take it off.
    """

    key: bytes = field(repr=False)
    sign: int

    def __post_init__(self) -> None:
        if self.sign not in (1, -1):
            raise ValueError(f"a mask's sign is {self.sign}; allowed: 1, -1")


class Noise:
    """Uniform bits that nobody can predict or repeat: their key is drawn here and kept nowhere."""

    def __init__(self) -> None:
        self._stream = _keystream(secrets.token_bytes(32), 0)

    def bits(self, size: int) -> NDArray[np.uint16]:
        """The next 16 bits for so many entries, of shape (size,); at most 2^15."""
        found = np.empty(size, np.uint16)
        self._stream.update_into(memoryview(_ZEROS)[: found.nbytes], found.view(np.uint8).data)
        return found


def apply(masks: Sequence[Mask], index: int, chunk: Words) -> None:
    """Add masks to one chunk, in place.

    Args:
        masks: what to add, or to take off.
        index: which chunk of the vector it is, from 0.
        chunk: (entries,) its words.

    Example:
        >>> mask, chunk = Mask(bytes(32), 1), np.arange(3, dtype=WORD)
        >>> apply([mask, Mask(bytes(32), -1)], 0, chunk)
        >>> chunk.tolist()
        [0, 1, 2]
    """
    streams = [(_keystream(mask.key, index), mask.sign) for mask in masks]
    words = np.empty(min(_BLOCK, len(chunk)), WORD)
    for start in range(0, len(chunk), _BLOCK):
        block = chunk[start : start + _BLOCK]
        part = words[: len(block)]
        zeros, into = memoryview(_ZEROS)[: part.nbytes], part.view(np.uint8).data
        for stream, sign in streams:
            stream.update_into(zeros, into)
            (np.add if sign > 0 else np.subtract)(block, part, out=block)


def _keystream(key: bytes, index: int) -> CipherContext:
    """The nonce of the library is a counter of 8 bytes, then a nonce of 8; all little-endian."""
    nonce = bytes(8) + index.to_bytes(8, "little")
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor()
