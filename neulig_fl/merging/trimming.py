"""Trimmed task vectors: a mask of the largest numbers, one bit for each, and the numbers it keeps.

A client trims its own task vector, so that what the trimming drops never leaves: whoever merges has
theta_0 at those places. TIES trims every task vector first; of vectors that were trimmed as far
already it drops nothing more, and its merged model is the same (but that TIES keeps all numbers
that are exactly as large as the smallest one kept, where a record has room for the first of them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply
from neulig_fl.merging.running_statistics import is_statistic

MASK, VALUES = "mask", "values"

Arrays = dict[str, NDArray[np.generic]]
Shape = tuple[int, ...]


def layout(entries: Mapping[str, Shape], fraction: float) -> list[tuple[str, str, Shape]]:
    """Name, dtype and shape of every array of a trimmed task vector.

    Args:
        entries: shape of every floating state-dict entry, in order.
        fraction: share of the task vector's numbers that is kept.

    Returns:
        `mask`, a bit for each number; `values`, the numbers that it keeps; and the differences of
        BatchNorm's running statistics, whole: they are no part of the task vector, and a variance
        of which some channels keep the checkpoint's fits neither model.

    Example:
        >>> layout({"w": (3, 3), "bn.running_mean": (3,)}, 0.25)
        [('mask', '|u1', (2,)), ('values', '<f4', (3,)), ('bn.running_mean', '<f4', (3,))]
    """
    size = _size(entries)
    running = [(name, "<f4", shape) for name, shape in entries.items() if is_statistic(name)]
    mask = (MASK, "|u1", (math.ceil(size / 8),))
    return [mask, (VALUES, "<f4", (kept(size, fraction),)), *running]


def kept(size: int, fraction: float) -> int:
    """How many numbers a trimmed task vector keeps: one more than the fraction, as in TIES' code.

    Args:
        size: numbers of the task vector.
        fraction: share to keep.

    Example:
        >>> kept(100, 0.2), kept(100, 1.0)
        (21, 100)
    """
    return min(size, int(size * fraction) + 1)


def keeps_all(entries: Mapping[str, Shape], fraction: float) -> bool:
    """Whether nothing is trimmed.

    Args:
        entries: shape of every floating state-dict entry, in order.
        fraction: share to keep.

    Example:
        >>> keeps_all({"w": (10, 10)}, 0.99), keeps_all({"w": (10, 10)}, 0.98)
        (True, False)
    """
    size = _size(entries)
    return kept(size, fraction) >= size


def trimmed(vector: Arrays, fraction: float) -> Arrays:
    """Keep the numbers of largest magnitude, taken over the whole vector; of equal ones the first.

    Args:
        vector: the difference to theta_0, by entry.
        fraction: share to keep.

    Returns:
        Every array of `layout`.

    Source: arXiv:2306.01708, section 4, step 1 (trim).
    """
    parts = [np.ravel(value) for name, value in vector.items() if not is_statistic(name)]
    whole = np.concatenate(parts).astype(np.float32)
    count = kept(len(whole), fraction)
    sizes = np.abs(whole)
    sizes[np.isnan(sizes)] = np.inf  # kept, so that it is seen and refused
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    mask = sizes > least
    equal = np.flatnonzero(sizes == least)
    mask[equal[: count - int(mask.sum())]] = True
    found: Arrays = {MASK: np.packbits(mask), VALUES: whole[mask]}
    return found | {name: value for name, value in vector.items() if is_statistic(name)}


def restored(arrays: Arrays, entries: Mapping[str, Shape]) -> Arrays:
    """The task vector that a trimmed one stands for: 0 where nothing was kept.

    Args:
        arrays: every array of `layout`.
        entries: shape of every floating state-dict entry, in order.

    Returns:
        Every entry, float32.

    Raises:
        BadReply: the mask keeps other numbers than came.
    """
    wrong = problem(arrays, entries)
    if wrong is not None:
        raise BadReply.public(wrong)
    size = _size(entries)
    whole = np.zeros(size, np.float32)
    whole[_bits(arrays)[:size]] = arrays[VALUES]
    found: Arrays = {}
    start = 0
    for name, shape in entries.items():
        if is_statistic(name):
            found[name] = arrays[name]
            continue
        count = math.prod(shape)
        found[name] = whole[start : start + count].reshape(shape)
        start += count
    return found


def problem(arrays: Arrays, entries: Mapping[str, Shape]) -> str | None:
    """Why a record is no trimmed task vector, though its arrays have the right shapes; or None."""
    size, bits, came = _size(entries), _bits(arrays), len(arrays[VALUES])
    marked = int(bits.sum())
    if marked == came and not bits[size:].any():
        return None
    beyond = ", some of them beyond the last" if bits[size:].any() else ""
    return f"the mask keeps {marked} of {size} numbers{beyond}, and {came} came"


def _bits(arrays: Arrays) -> NDArray[np.bool_]:
    return np.unpackbits(np.asarray(arrays[MASK], np.uint8)).astype(np.bool_)


def _size(entries: Mapping[str, Shape]) -> int:
    return sum(math.prod(shape) for name, shape in entries.items() if not is_statistic(name))
