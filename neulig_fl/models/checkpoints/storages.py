"""Tensors on the storages of a PyTorch file: every view is checked before a byte is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neulig_fl.models.checkpoints.contents import StoredTensor

Fetch = Callable[[int, int], bytearray]
"""(first byte, number of bytes) of a storage; exactly so many."""

_MOST_DIMENSIONS = 64


class Malformed(Exception):
    """A file that says what cannot be; the message says what."""


@dataclass(frozen=True)
class Storage:
    """A row of numbers in a file.

    Args:
        dtype: of each number.
        count: how many there are.
        fetch: reads some of its bytes.
        start: where a view of a larger storage begins, in numbers.
    """

    dtype: torch.dtype
    count: int
    fetch: Fetch
    start: int = 0

    def values(self, first: int, count: int) -> Tensor:
        """`count` numbers from the `first` on, of shape (count,)."""
        size = self.dtype.itemsize
        raw = self.fetch((self.start + first) * size, count * size)
        return torch.frombuffer(raw, dtype=self.dtype) if count else torch.empty(0).to(self.dtype)


def tensor(storage: Any, offset: Any, size: Any, stride: Any, dtype: Any = None) -> StoredTensor:
    """A tensor as a file describes it: a view of a storage.

    Args:
        storage: the storage.
        offset: its first number.
        size: its sizes.
        stride: numbers from one element to the next, for each dimension.
        dtype: where it is not the storage's.

    Raises:
        Malformed: the view reaches beyond the storage, or holds more than the storage.
    """
    if not isinstance(storage, Storage):
        raise Malformed("a tensor has no storage")
    if isinstance(dtype, torch.dtype) and dtype != storage.dtype:
        scale = storage.dtype.itemsize / dtype.itemsize
        count, start = int(storage.count * scale), int(storage.start * scale)
        storage = Storage(dtype, count, storage.fetch, start)
    sizes, strides = _counts(size), _counts(stride)
    (first,) = _counts((offset,))
    if len(sizes) != len(strides):
        raise Malformed(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
    numbers = math.prod(sizes)
    reach = 1 + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    reach = reach if numbers else 0
    if first + reach > storage.count or numbers > storage.count:
        raise Malformed(
            f"a tensor of shape {sizes} reaches beyond its storage of {storage.count} numbers"
        )

    def read() -> Tensor:
        flat: Tensor = storage.values(first, reach)
        return flat.as_strided(sizes, strides).contiguous()

    return StoredTensor(sizes, storage.dtype, read)


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > _MOST_DIMENSIONS:
        raise Malformed("a tensor's sizes are no list of a few counts")
    if not all(type(v) is int and 0 <= v < 2**62 for v in values):
        raise Malformed("a tensor's sizes are no counts")
    return tuple(values)


def from_file(path: Path, start: int) -> Fetch:
    """Reads the bytes of a storage that begins at `start` of a file."""

    def fetch(first: int, count: int) -> bytearray:
        raw = bytearray(count)
        with path.open("rb") as file:
            file.seek(start + first)
            got = file.readinto(raw)
        if got != count:
            raise Malformed("the file ends within a tensor")
        return raw

    return fetch


def from_bytes(held: bytes | bytearray, start: int) -> Fetch:
    """Reads the bytes of a storage that begins at `start` of what is in memory already."""

    def fetch(first: int, count: int) -> bytearray:
        raw = bytearray(held[start + first : start + first + count])
        if len(raw) != count:
            raise Malformed("the file ends within a tensor")
        return raw

    return fetch
