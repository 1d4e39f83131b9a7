r"""Noise for differential privacy: the discrete Gaussian, sampled exactly, from the system's bits.

    P[X = x] = exp(-x^2 / (2 sigma^2)) / sum_y exp(-y^2 / (2 sigma^2)),   x a whole number

Noise in floating point leaks through its low bits (Mironov 2012). Here values and noise are whole
multiples of one grid step, and the noise is a whole number with this very distribution.

How a sample is made. Let t be the first power of two >= sqrt(2 ln 2) sigma. Propose x = u + t v,
with v zeros before the first one in random bits and u uniform on 0 ... t-1: a discrete Laplace in
stairs of t. Accept with the chance 2^v exp(-x^2 / (2 sigma^2)), which is at most 1 for this t; give
it a random sign; and refuse minus zero, which would count zero twice. All but the chance is made of
integers. A uniform 64-bit number decides against the chance in float64, whose error is below 2^-45;
if the two are within 2^-40, the decision is made again in exact arithmetic, with as many further
random bits as it takes. So the outcome is that of an infinitely long random number against the
exact chance. A proposal with v > 62 is refused outright; it would be accepted with a chance below
2^-3700, and the distance in total variation is below that: nothing that a float64 delta could hold.

Randomness comes from `os.urandom` alone. There is no seed. How long a call takes depends on the
random bits and not on the values; nothing more is claimed about time.

Source: Canonne, Kamath and Steinke 2020, arXiv 2004.00010 (the distribution, its privacy, and
rejection from a discrete Laplace); the stairs are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from os import urandom

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.privacy.clipping import (
    MOST_UNITS,
    Floats,
    clip_factors,
    grid_step,
    joint_factor,
    on_grid,
    require_step,
    require_values,
)

MOST_SIGMA = 2.0**40
"""Largest sigma, in steps: x stays below 2^47 and is exact in float64."""

MARGIN = 2.0**-40
"""A decision closer than this is made in exact arithmetic."""

STAIR = 1.1775
"""A little more than sqrt(2 ln 2) = 1.17741."""

CHUNK = 2**20
HOPELESS = 4096
"""-ln of a chance that no random number is compared with to the last digit."""


def noised(rows: Floats, *, clip: float, sigma: float, step: float | None = None) -> Floats:
    """Rows clipped to C, on a grid, with discrete Gaussian noise in every entry.

    The L2 sensitivity is `clipping.sensitivity(clip, len(rows))`, also on the grid. The noise
    multiplier that an accountant wants is sigma over that.

    Args:
        rows: (rows, entries), float32 or float64; or (entries,), which is one row.
        clip: C, the largest L2 norm of a row.
        sigma: standard deviation of the noise of an entry, in the values' own unit.
        step: of the grid, a power of two; `clipping.grid_step` where it is None.

    Returns:
        The same shape and dtype; every value is a multiple of the step, exactly, and at most 2^24
        steps in size (clamped after the noise, which costs no privacy).

    Raises:
        InputError: C, sigma or step that give no protection or have no room. Sigma 0 is refused.
        BadReply: values that are not finite, or of another type or shape.

    Example:
        >>> sent = noised(np.ones((2, 3), np.float32), clip=1.0, sigma=0.5, step=0.25)
        >>> sent.shape, sent.dtype, bool((sent % 0.25 == 0).all())
        ((2, 3), dtype('float32'), True)

    Source: arXiv 2004.00010; what is claimed stands in docs/protections.md.
    """
    step = _checked([rows], clip, sigma, step)
    if rows.ndim not in (1, 2):
        raise BadReply(
            f"gaussian noise: shape {rows.shape}; allowed: (rows, entries) or (entries,)",
            public_reason="gaussian noise: values are not rows",
        )
    table = np.atleast_2d(rows)
    return _on_noisy_grid(table, clip_factors(table, clip), sigma, step).reshape(rows.shape)


def noised_together(
    arrays: Mapping[str, Floats], *, clip: float, sigma: float
) -> dict[str, Floats]:
    """Several arrays that are one vector, such as a task vector: clipped together, then noised.

    The L2 sensitivity is `clipping.sensitivity(clip, 1)`. One array is copied at a time.

    Args:
        arrays: any shapes, float32 or float64, by name.
        clip: C, the largest L2 norm of all arrays together.
        sigma: as for `noised`.

    Returns:
        The same names in the same order, shapes and dtypes; values on the grid.

    Raises:
        InputError: as for `noised`.
        BadReply: as for `noised`; the message does not say which array.
    """
    step = _checked(arrays.values(), clip, sigma, None)
    factor = joint_factor(list(arrays.values()), clip)
    return {
        name: _on_noisy_grid(array.reshape(1, -1), factor, sigma, step).reshape(array.shape)
        for name, array in arrays.items()
    }


def _checked(arrays: Iterable[Floats], clip: float, sigma: float, step: float | None) -> float:
    least = grid_step(clip, sigma)
    require_values(list(arrays))
    return least if step is None else require_step(step, clip, sigma)


def _on_noisy_grid(
    table: Floats, factors: NDArray[np.float64], sigma: float, step: float
) -> Floats:
    sent = np.empty(table.size, table.dtype)
    for part, steps in on_grid(table, factors, step, CHUNK):
        steps += sample(steps.size, sigma / step)  # exact: the step is a power of two
        sent[part] = np.clip(steps, -MOST_UNITS, MOST_UNITS) * step
    return sent


def sample(count: int, sigma: float) -> NDArray[np.int64]:
    """Independent whole numbers from the discrete Gaussian.

    Args:
        count: how many.
        sigma: the distribution's parameter, in steps. From 1 on it is the standard deviation to
            1e-6 of itself; below, the standard deviation is smaller.

    Returns:
        int64, (count,).

    Raises:
        InputError: sigma is not above 0, or above 2^40.

    Example:
        >>> sample(3, 10.0).shape
        (3,)
    """
    if not 0.0 < sigma <= MOST_SIGMA:
        raise InputError(f"sigma is {sigma} steps; allowed: above 0, at most {MOST_SIGMA:g}")
    stair = max(0, math.ceil(math.log2(STAIR * sigma)))
    found = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        missing = count - filled
        fresh = _accepted(min(3 * missing + 16, CHUNK), stair, sigma)[:missing]
        found[filled : filled + len(fresh)] = fresh
        filled += len(fresh)
    return found


def _accepted(proposals: int, stair: int, sigma: float) -> NDArray[np.int64]:
    """The accepted ones of some proposals; t = 2^stair."""
    first, second, third = np.frombuffer(urandom(24 * proposals), "<u8").reshape(3, proposals)
    negative = (first & np.uint64(1)).astype(bool)
    rest = first >> np.uint64(1)
    lowest = rest & (~rest + np.uint64(1))
    v = np.frexp(lowest.astype(np.float64))[1].astype(np.int64) - 1
    u = ((second >> np.uint64(1)) >> np.uint64(63 - stair)).astype(np.int64)
    x = (v << stair) + u
    # No one among 63 bits: v is -1 here.
    wanted = (v >= 0) & ~(negative & (x == 0))
    x, v, signs = x[wanted], v[wanted], np.where(negative[wanted], -1, 1)
    accepted: NDArray[np.int64] = (x * signs)[_below(third[wanted], x, v, sigma)]
    return accepted


def _below(
    words: NDArray[np.uint64], x: NDArray[np.int64], v: NDArray[np.int64], sigma: float
) -> NDArray[np.bool_]:
    """Whether uniform numbers, known to 64 bits, are below 2^v exp(-x^2 / (2 sigma^2))."""
    chances = _chances(x, v, sigma)
    uniform = words * 2.0**-64
    below: NDArray[np.bool_] = uniform < chances
    for i in np.flatnonzero(np.abs(uniform - chances) <= MARGIN):
        below[i] = _below_exactly(int(words[i]), int(x[i]), int(v[i]), sigma)
    return below


def _chances(x: NDArray[np.int64], v: NDArray[np.int64], sigma: float) -> NDArray[np.float64]:
    """2^v exp(-x^2 / (2 sigma^2)), wrong by less than 2^-45."""
    with np.errstate(over="ignore", under="ignore"):
        chances: NDArray[np.float64] = np.ldexp(np.exp(-0.5 * np.square(x / sigma)), v)
    return chances


def _below_exactly(word: int, x: int, v: int, sigma: float) -> bool:
    """The same for one number, with more random bits for as long as its known ones leave it open.

    Ends: but for x = 0 the chance is irrational.
    """
    if x == 0:
        return True
    exponent = Fraction(x * x) / (2 * Fraction(sigma) ** 2)
    bits = 64
    while True:
        low, high = _bounds(exponent, v, digits=bits // 2)
        if Fraction(word + 1, 2**bits) <= low:
            return True
        if Fraction(word, 2**bits) >= high:
            return False
        word, bits = (word << 64) | int.from_bytes(urandom(8), "big"), bits + 64


def _bounds(exponent: Fraction, v: int, digits: int) -> tuple[Fraction, Fraction]:
    """Fractions around 2^v exp(-exponent). Python's `Decimal.exp` is correctly rounded."""
    capped = min(exponent, Fraction(HOPELESS))
    top, bottom = Decimal(capped.numerator), Decimal(capped.denominator)
    with localcontext(Context(prec=digits, Emin=MIN_EMIN, Emax=MAX_EMAX)) as context:
        context.rounding = ROUND_FLOOR
        high = (-(top / bottom)).exp().next_plus()
        context.rounding = ROUND_CEILING
        low = (-(top / bottom)).exp().next_minus()
    at_least = Fraction(low) * 2**v if exponent <= HOPELESS else Fraction(0)
    return at_least, Fraction(high) * 2**v
