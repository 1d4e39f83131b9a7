"""Clipping to an L2 norm and rounding to a grid, so that sensitivity is a bound and not a hope.

Adjacency is "replace one client's model": all n rows of a record may change at once. Each row
has an L2 norm of at most C after clipping, so the record moves by at most 2 C sqrt(n). Rounding
must not undo that. Values are rounded towards zero, which makes no entry larger, so the norm on the
grid is at most C as well and the sensitivity stays 2 C sqrt(n).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply, InputError

Floats = NDArray[np.floating[Any]]

MOST_UNITS = 2**24
"""Largest magnitude on the grid, in steps: every integer up to it is exact in float32."""

TAIL = 16.0
"""Standard deviations of noise for which the grid has room; beyond, values are clamped to it."""

SLACK = 2.0**-20
"""Share of C given up, so that rounding in float64 cannot lift a norm above C: a sum of d squares
is wrong by less than d 2^-53 of itself, and d is at most `MOST_ENTRIES` = 2^30."""

MOST_ENTRIES = 2**30
LIMITS = (1e-30, 1e30)


def sensitivity(clip: float, rows: int) -> float:
    """L2 sensitivity of n clipped rows when a client's model is replaced: 2 C sqrt(n).

    Args:
        clip: C, the largest L2 norm of a row.
        rows: n; 1 for a task vector, which is one row.

    Raises:
        InputError: C outside `LIMITS`, or no row.

    Example:
        >>> sensitivity(0.5, 4)
        2.0
    """
    require_positive("clip", clip)
    if rows < 1:
        raise InputError(f"a record of {rows} rows has no sensitivity; rows must be at least 1")
    return 2.0 * clip * math.sqrt(rows)


def grid_step(clip: float, sigma: float) -> float:
    """The finest power of two on which clipped, noised values have room in a float32.

        step = 2^ceil(log2((C + 16 sigma) / 2^24))

    Every multiple of it up to 2^24 steps is exact in float32 and float64. Where sigma is at least
    C, sigma is more than 2^18 steps.

    Args:
        clip: C, the largest L2 norm of a row.
        sigma: standard deviation of the noise, in the values' own unit.

    Raises:
        InputError: C or sigma outside `LIMITS`.

    Example:
        >>> grid_step(1.0, 1.0) == 2.0**-19
        True
    """
    room = require_positive("clip", clip) + TAIL * require_positive("sigma", sigma)
    mantissa, exponent = math.frexp(room / MOST_UNITS)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)


def require_positive(name: str, value: float) -> float:
    """The value, if it is a finite number inside `LIMITS`; 0 is no noise and no clip.

    Raises:
        InputError: anything else.
    """
    if not LIMITS[0] <= value <= LIMITS[1]:
        raise InputError(
            f"{name} is {value}; allowed: {LIMITS[0]:g} to {LIMITS[1]:g}. "
            "A release without noise is not protected: ask for protection none by its name"
        )
    return value


def require_step(step: float, clip: float, sigma: float) -> float:
    """The step, if it is a power of two on which clipped, noised values have room.

    Raises:
        InputError: another number, or a finer grid than `grid_step`.
    """
    least = grid_step(clip, sigma)
    if not (math.isfinite(step) and step >= least and math.frexp(step)[0] == 0.5):
        raise InputError(
            f"grid step is {step}; allowed: a power of two, at least {least} for clip {clip} "
            f"and sigma {sigma}"
        )
    return step


def require_values(arrays: Sequence[Floats]) -> None:
    """Stop at what cannot be clipped: a NaN has no norm, and an infinity no direction.

    Raises:
        BadReply: other types than float32 and float64, values that are not finite, or too many.
    """
    for array in arrays:
        if array.dtype not in (np.float32, np.float64):
            raise _bad(f"values are {array.dtype}; allowed: float32, float64")
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            raise _bad(f"{bad} of {array.size} values are not finite; nothing is released")
    entries = sum(array.size for array in arrays)
    if entries > MOST_ENTRIES:
        raise _bad(f"{entries} values; the bound on the norm holds up to {MOST_ENTRIES}")


def clip_factors(rows: Floats, clip: float) -> NDArray[np.float64]:
    """What to multiply each row by, so that its norm is at most C: min(1, C / norm).

    Args:
        rows: (rows, entries), finite.
        clip: C.

    Returns:
        (rows,), between 0 and 1. A float64 row whose squares overflow gets 0.

    Example:
        >>> clip_factors(np.array([[3.0, 4.0], [0.3, 0.4]]), 1.0).round(4)
        array([0.2, 1. ])
    """
    return _factors(_squares(rows), clip)


def joint_factor(arrays: Sequence[Floats], clip: float) -> NDArray[np.float64]:
    """The same for several arrays that are one vector together; (1,)."""
    total = sum((_squares(array.reshape(1, -1)) for array in arrays), start=np.zeros(1))
    return _factors(total, clip)


def _squares(rows: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        # einsum converts as it goes: no second copy of a large record.
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares


def _factors(squares: NDArray[np.float64], clip: float) -> NDArray[np.float64]:
    most = clip * (1.0 - SLACK)
    norms = np.sqrt(squares)
    return np.divide(most, norms, out=np.ones_like(norms), where=norms > most)


def on_grid(
    values: Floats, factors: NDArray[np.float64], step: float, chunk: int
) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Clipped values in steps, rounded towards zero, a chunk at a time.

    Args:
        values: (rows, entries), finite.
        factors: (rows,), from `clip_factors`.
        step: the grid's, a power of two.
        chunk: entries at a time; what is needed beside the values grows with this alone.

    Yields:
        Where the chunk lies in the flat array, and its int64 values.
    """
    flat = values.reshape(-1)
    width = max(1, values.shape[1])
    for start in range(0, flat.size, chunk):
        part = slice(start, min(start + chunk, flat.size))
        row = np.arange(part.start, part.stop) // width
        steps = flat[part].astype(np.float64) * factors[row] / step
        yield part, np.trunc(steps).astype(np.int64)


def _bad(problem: str) -> BadReply:
    return BadReply.public(f"gaussian noise: {problem}")
