"""A client's vector in a secure sum, and what the server cuts out of the sum.

Part after part, each part's arrays after one another, row-major: both sides know the shapes before
anything travels (`SumRequest.fields`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.records.kinds import Arrays, Dimensions, Field
from neulig_fl.records.secagg.requests import SumRequest

LEAST_SHARE = 2.0**-20
"""Below it the shares of those who are left cancel, and dividing by their sum gives noise."""


def weighted(
    build: Callable[[], Arrays],
    asked: SumRequest,
    client: str,
    sizes: Dimensions,
    rows_by_task: Mapping[str, int],
    clip: float,
) -> Iterator[NDArray[np.float64]]:
    """A client's vector, tensor by tensor, each times the client's share in its part.

    Args:
        build: makes the record of which the vector consists; called when the first tensor is asked
            for, and not before.
        asked: what is summed.
        client: whose vector.
        sizes: what shapes follow from.
        rows_by_task: queries of each task in the query set, in the record's order.
        clip: the largest |entry| that may be in it.

    Raises:
        BadReply: an array is missing, has another shape, or holds an entry that is not finite or
            beyond the clip. No error shows a value.
    """
    arrays, starts = build(), _starts(rows_by_task)
    for part, fields in zip(asked.parts, asked.fields(sizes, rows_by_task), strict=True):
        share = part.share(client)
        for name, _, shape in fields:
            whole = shape if part.task is None else (sum(rows_by_task.values()), *shape[1:])
            array = _checked(arrays.get(name), name, whole)
            piece = array if part.task is None else array[starts[part.task] :][: shape[0]]
            _require_within(piece, clip, name)
            yield np.multiply(piece, share, dtype=np.float64)


def _starts(rows_by_task: Mapping[str, int]) -> dict[str, int]:
    starts, start = {}, 0
    for task, rows in rows_by_task.items():
        starts[task] = start
        start += rows
    return starts


def _checked(array: NDArray[Any] | None, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if array is None or array.shape != shape:
        found = "nothing" if array is None else str(array.shape)
        raise _bad(f"{name} has shape {found} instead of {shape}")
    if array.dtype.kind != "f":
        raise _bad(f"{name} is {array.dtype} and not of floating numbers")
    return array


def _require_within(array: NDArray[Any], clip: float, name: str) -> None:
    """Both comparisons are false for NaN, so that NaN is never let through."""
    if not array.size:
        return
    low, high = float(array.min()), float(array.max())
    if -clip <= low and high <= clip:
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _bad(f"{name} holds an entry that is not finite")
    raise _bad(f"{name} holds an entry beyond secure_aggregation.clip {clip:g}; give a larger clip")


def _bad(problem: str) -> BadReply:
    return BadReply(f"{problem}; nothing was added to the sum", public_reason=problem)


def divided(
    total: NDArray[np.float32],
    asked: SumRequest,
    survivors: Sequence[str],
    sizes: Dimensions,
    rows_by_task: Mapping[str, int],
) -> tuple[dict[str, NDArray[np.float32]], ...]:
    """Each part's arrays, over the survivors' shares in it.

    Args:
        total: (entries,) the sum; it is divided in place.
        asked: what was summed.
        survivors: whose vectors are in it.
        sizes: what shapes follow from.
        rows_by_task: queries of each task in the query set.

    Returns:
        One mapping a part, of views of `total`: parameters by name, or `{kind: rows}`.

    Raises:
        InputError: the survivors' weights in a part sum to 0, or nearly so.
    """
    found, start = [], 0
    for part, fields in zip(asked.parts, asked.fields(sizes, rows_by_task), strict=True):
        whole = math.fsum(part.share(name) for name in survivors)
        if abs(whole) < LEAST_SHARE:
            raise InputError("the weights of those who are left sum to 0")
        arrays, start = _cut(total, start, fields)
        for array in arrays.values():
            np.divide(array, np.float32(whole), out=array)
        found.append(arrays)
    return tuple(found)


def _cut(
    total: NDArray[np.float32], start: int, fields: Sequence[Field]
) -> tuple[dict[str, NDArray[np.float32]], int]:
    arrays = {}
    for name, _, shape in fields:
        size = math.prod(shape)
        arrays[name] = total[start : start + size].reshape(shape)
        start += size
    return arrays, start
