"""Exact order statistics of vectors that are seen in pieces: no copy of a whole vector is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods._entrywise import pieces
from neulig_fl.merging.methods._given import Given

if TYPE_CHECKING:
    from torch import Tensor

Pieces = Callable[[], Iterator["Tensor"]]
"""Makes a new pass over the vectors: pieces of all of them, float32 (experts, numbers)."""

_HALF = 2**15
_BINS = 2**16
_ALL_BUT_SIGN = 0x7FFFFFFF


def order_statistics(vectors: Pieces, ranks: Sequence[int]) -> Tensor:
    """The numbers that have these ranks in every vector, exactly, in two passes.

    The bits of floats, read as integers, have the order of the floats, once those of negative ones
    are turned round. The first pass counts the upper 16 bits; the second counts the lower 16 bits
    of the numbers that share their upper ones with the one that is sought.

    Args:
        vectors: makes a pass; both passes see the same numbers, none of them NaN.
        ranks: 1 for the smallest number of a vector, up to how many numbers it has.

    Returns:
        float32 (experts, ranks).

    Example:
        >>> vector = torch.tensor([[3.0, -1.0, 2.0, 0.0]])
        >>> order_statistics(lambda: iter((vector[:, :3], vector[:, 3:])), [1, 2, 4])
        tensor([[-1.,  0.,  3.]])
    """
    counts = _counts_of_upper_bits(vectors).cumsum(dim=1)
    wanted = torch.tensor(ranks).expand(len(counts), len(ranks)).contiguous()
    upper = torch.searchsorted(counts, wanted)
    padded = torch.nn.functional.pad(counts, (1, 0))
    inside = wanted - padded.gather(1, upper)
    counts = _counts_of_lower_bits(vectors, upper).cumsum(dim=2)
    lower = torch.searchsorted(counts, inside[..., None])[..., 0]
    return _floats(upper, lower)


def thresholds(vectors: Pieces, size: int, density: float) -> Tensor:
    """The magnitude that a number must have to be among the largest of its vector.

    Args:
        vectors: as for `order_statistics`.
        size: how many numbers a vector has.
        density: share of the numbers to keep.

    Returns:
        float32 (experts,): where k = floor(density * size), the (size - k)-th smallest magnitude,
        as in the code of TIES. So k + 1 numbers reach it, or more where some are equal; all do
        where density is 1.
    """
    rank = max(1, size - int(size * density))
    return order_statistics(lambda: (piece.abs() for piece in vectors()), [rank])[:, 0]


def task_vectors(given: Given) -> Iterator[Tensor]:
    """Every client's task vector, in pieces, (experts, numbers), in order of the given entries."""
    for name in given.entries:
        for vectors, _, _ in pieces(given, name):
            yield vectors.flatten(1)


def size(given: Given) -> int:
    """How many numbers a task vector has."""
    return sum(math.prod(shape) for shape in given.entries.values())


def _counts_of_upper_bits(vectors: Pieces) -> Tensor:
    """How many numbers have the same upper bits, (experts, bins), the bins in order."""
    counts: list[Tensor] = []
    for piece in vectors():
        upper = (_bits(piece) >> 16).add_(_HALF)
        found = [torch.bincount(row, minlength=_BINS) for row in upper]
        counts = [a.add_(b) for a, b in zip(counts, found, strict=True)] if counts else found
    total = torch.stack(counts)
    negative, other = total[:, :_HALF], total[:, _HALF:]
    return torch.cat([negative.flip(1), other], dim=1)


def _counts_of_lower_bits(vectors: Pieces, upper: Tensor) -> Tensor:
    """The same of the lower bits, where the upper ones are those of a bin, (experts, ranks)."""
    counts = torch.zeros((*upper.shape, _BINS), dtype=torch.int64)
    wanted = (_bits(_floats(upper, 0)) >> 16).tolist()
    for piece in vectors():
        for row, bins, into in zip(_bits(piece).numpy(), wanted, counts, strict=True):
            high = row >> 16
            for one, count in zip(bins, into, strict=True):
                found = torch.from_numpy(row[high == one])  # NumPy picks few of many much faster
                if len(found):
                    count.add_(torch.bincount(_turned(found) & (_BINS - 1), minlength=_BINS))
    return counts


def _floats(upper: Tensor, lower: Tensor | int) -> Tensor:
    """The floats of bins in order, from the number of the bin and the number within it."""
    return _turned(((upper - _HALF) * _BINS + lower).to(torch.int32)).view(torch.float32)


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int32)


def _turned(bits: Tensor) -> Tensor:
    """Bits of floats as integers in the order of the floats, and back."""
    return bits ^ ((bits >> 31) & _ALL_BUT_SIGN)
