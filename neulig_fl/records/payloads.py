"""A record's payload: its arrays as bytes, checked before they leave and when they come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply
from neulig_fl.records.kinds import Arrays, Field, bytes_of


def pack(arrays: Arrays, fields: Sequence[Field], who: str) -> bytes:
    """The payload of a record.

    Args:
        arrays: the record's arrays, by name.
        fields: what they must be (`layout`).
        who: whose record it is, for errors.

    Raises:
        BadReply: an array is missing, has another shape, or is not finite.
    """
    parts = []
    for name, dtype, shape in fields:
        array = arrays.get(name)
        if array is None or array.shape != shape:
            found = "nothing" if array is None else str(array.shape)
            raise _bad(who, f"{name} has shape {found} instead of {shape}")
        require_finite(array, name, who)
        with np.errstate(over="ignore"):
            sent = np.ascontiguousarray(array, dtype=dtype)
        require_finite(sent, name, who)  # a float64 can be too large for a float32
        parts.append(sent.tobytes())
    return b"".join(parts)


def unpack(payload: memoryview | bytes, fields: Sequence[Field], who: str) -> Arrays:
    """A payload's arrays: read-only views, no copies.

    Raises:
        BadReply: the payload has another size than the fields, or holds a value that is not finite.
    """
    needed = bytes_of(fields)
    if len(payload) != needed:
        raise _bad(who, f"{len(payload)} bytes instead of {needed}")
    arrays: Arrays = {}
    offset = 0
    for name, dtype, shape in fields:
        count = math.prod(shape)
        array = np.frombuffer(payload, dtype=dtype, count=count, offset=offset).reshape(shape)
        require_finite(array, name, who)
        arrays[name] = array
        offset += array.nbytes
    return arrays


def require_finite(array: NDArray[np.generic], name: str, who: str) -> None:
    """Stop at a number that is none.

    Args:
        array: of any dtype.
        name: of the array, for errors.
        who: whose it is, for errors.

    Raises:
        BadReply: it is of floats, and one of them is infinite or NaN.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise _bad(who, f"{name} holds {bad} values that are not finite")


def _bad(who: str, problem: str) -> BadReply:
    return BadReply(f"{who}: {problem}", public_reason=problem)
