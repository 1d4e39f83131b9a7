"""Masks: the cipher's keystream, any chunk of it by itself, added and taken off modulo 2^32."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.privacy.secagg import masks
from neulig_fl.privacy.secagg.fixed_point import WORD
from neulig_fl.privacy.secagg.masks import Mask


def _slow(key: bytes, index: int, entries: int) -> list[int]:
    """The mask as its docstring says, one word at a time."""
    stream = Cipher(ChaCha20(key, bytes(8) + index.to_bytes(8, "little")), None).encryptor()
    data = stream.update(bytes(4 * entries))
    return [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(entries)]


def test_a_mask_is_the_ciphers_keystream() -> None:
    """Without it masks would hang on what the library does with its nonce.

    The first words of ChaCha20 under a zero key and nonce: RFC 8439, appendix A.1, vector 1.
    """
    chunk = np.zeros(4, WORD)
    masks.apply([Mask(bytes(32), 1)], 0, chunk)
    assert chunk.tobytes().hex() == "76b8e0ada0f13d90405d6ae55386bd28"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([1, 5, 2**15 - 1, 2**15, 2**15 + 3, 2**17]))
def test_blocks_are_the_whole_chunk(index: int, entries: int) -> None:
    """Without it entries at the seams of blocks would keep their masks, or have none."""
    one, two = Mask(os.urandom(32), 1), Mask(os.urandom(32), -1)
    chunk = np.arange(entries, dtype=WORD)
    masks.apply([one, two], index, chunk)
    plus, minus = _slow(one.key, index, entries), _slow(two.key, index, entries)
    for i in {0, 1, entries - 1, entries // 2, min(entries - 1, 2**15)} & set(range(entries)):
        assert chunk[i] == (i + plus[i] - minus[i]) % 2**32
    masks.apply([Mask(two.key, 1), Mask(one.key, -1)], index, chunk)
    assert (chunk == np.arange(entries)).all()


def test_chunks_have_masks_of_their_own() -> None:
    """Without it the difference of two chunks would be bare."""
    mask, seen = Mask(os.urandom(32), 1), []
    for index in (0, 1, 2, 2**32, 2**32 + 1):
        chunk = np.zeros(64, WORD)
        masks.apply([mask], index, chunk)
        seen.append(chunk.tobytes())
        assert chunk.tolist() == _slow(mask.key, index, 64)
    blocks = [data[at : at + 64] for data in seen for at in range(0, 256, 64)]
    assert len(set(blocks)) == len(blocks)


@pytest.mark.parametrize("sign", [0, 2, -2])
def test_a_mask_is_added_or_taken_off(sign: int) -> None:
    """Without it a sign of 0 would leave a vector bare."""
    with pytest.raises(ValueError, match=f"a mask's sign is {sign}; allowed: 1, -1"):
        Mask(bytes(32), sign)
