"""Fixed-point arithmetic modulo 2^32: weighted vectors as integers that masks can hide.

An entry x becomes floor(x scale + u) as a 32-bit word, two's complement, u drawn uniformly from
[0, 1) for this entry of this sum alone: the expectation is x scale. Rounding to the nearest would
be the same in every sum, and sums of the same vectors on grids of other sizes would tell digit
after digit of one of them. The scale is the largest power of two at which the sum of all clients'
entries stays within 2^30, so that multiplying by it is exact and a sum never wraps. Half of the
32-bit words are no possible sum: where masks did not cancel, every entry falls among those with a
probability of about one half, and the sum is refused.

Source: stochastic rounding, M. P. Connolly, N. J. Higham, T. Mary, doi:10.1137/20M1334796.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply, ClientRefused, InputError, RunError

WORD = np.dtype("<u4")
"""What travels: an entry modulo 2^32, little-endian."""

Words = NDArray[np.uint32]

_SIGNED = np.dtype("<i4")
_SPAN_BITS = 30
_LEAST, _LARGEST = 2.0**-60, 2.0**60
_BLOCK = 2**15
"""Entries worked on at once, so that they stay in the processor's cache."""
_UNIT = 2.0**-16
"""Takes 16 bits to [0, 1): so roundings are right on average to 2^-17 of a step."""
_ROUNDING = 1.0 + 2.0**-22
"""How far a weighted entry can come out beyond clip x |weight| by float32's rounding alone."""


def quantisation(clip: float, clients: int, headroom: float = 1.0) -> float:
    """The largest error of one entry of a sum: less than a step for each vector in it.

    Its standard deviation is at most sqrt(clients) / (2 scale).

    Args:
        clip: the largest |entry| of an unweighted vector.
        clients: how many vectors are summed.
        headroom: the largest sum of |weights|; 1 for convex combinations.

    Returns:
        clients / scale, in the units of the entries.

    Example:
        >>> quantisation(clip=1.0, clients=4) == 4 * 2.0**-30
        True
    """
    return clients / FixedPoint(clip, clients, headroom).scale


@dataclass(frozen=True)
class FixedPoint:
    """The grid on which one sum is made.

    Args:
        clip: the largest |entry| of an unweighted vector.
        clients: the most vectors that are summed.
        headroom: the largest sum of |weights|; 1 for convex combinations.

    Raises:
        InputError: clip x headroom does not fit between 2^-60 and 2^60.
    """

    clip: float
    clients: int
    headroom: float = 1.0

    def __post_init__(self) -> None:
        reach = self.clip * self.headroom
        if not (self.clip > 0 and self.headroom > 0 and _LEAST <= reach <= _LARGEST):
            raise InputError(
                f"secure sum: clip {self.clip} x headroom {self.headroom} does not fit 32 bits; "
                f"allowed: both positive, their product from {_LEAST:.3g} to {_LARGEST:.3g}; "
                "give a clip near the largest |entry| of a vector"
            )

    @property
    def scale(self) -> float:
        """Steps in one unit: the largest power of two with clip x headroom x scale <= 2^30."""
        mantissa, exponent = math.frexp(self.clip * self.headroom)
        return math.ldexp(1.0, _SPAN_BITS - exponent + (mantissa == 0.5))

    @property
    def limit(self) -> int:
        """The largest |entry| of a sum, in steps; rounding included."""
        reach = self.clip * self.headroom * self.scale * _ROUNDING
        return math.ceil(reach) + self.clients

    def encode(
        self,
        values: NDArray[Any],
        noise: Callable[[int], NDArray[np.uint16]],
        out: Words,
        weight: float,
        who: str,
    ) -> None:
        """Write weighted entries as words.

        Args:
            values: (entries,) float32 or float64, already multiplied by `weight`.
            noise: gives 16 uniform bits for so many entries, secret and used once: they decide
                which way an entry is rounded.
            out: (entries,) where the words go.
            weight: this client's weight.
            who: whose vector it is, for errors.

        Raises:
            ClientRefused: the weight is beyond the headroom.
            RunError: another dtype, an entry that is not finite, or one beyond clip x |weight|. No
                error shows a value.
        """
        if values.dtype not in (np.float32, np.float64):
            raise _bad(who, f"its vector is {values.dtype}; allowed: float32, float64")
        if not abs(weight) <= self.headroom * _ROUNDING:
            problem = f"a weight beyond the headroom of {self.headroom} was asked for"
            raise ClientRefused(
                f"{who}: {problem}; begin again with a larger headroom, or smaller weights",
                public_reason=problem,
            )
        allowed = self.clip * abs(weight) * _ROUNDING
        room = np.empty((2, min(_BLOCK, len(values))))
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            _require_within(block, allowed, who)
            steps, parts = room[:, : len(block)]
            np.multiply(block, self.scale, out=steps, dtype=np.float64)
            np.multiply(noise(len(block)), _UNIT, out=parts, dtype=np.float64)
            np.floor(np.add(steps, parts, out=steps), out=steps)
            out[start : start + _BLOCK].view(_SIGNED)[...] = steps

    def decode(self, words: Words, who: str) -> NDArray[np.float64]:
        """The entries of a sum of which all masks are off.

        Args:
            words: (entries,) the sum modulo 2^32.
            who: which sum it is, for errors.

        Returns:
            float64 array of shape (entries,).

        Raises:
            BadReply: an entry that no sum can have: masks did not cancel, or a client did not keep
                to the clip.
        """
        steps = words.view(_SIGNED)
        if len(steps) and (int(steps.max()) > self.limit or int(steps.min()) < -self.limit):
            problem = "the sum holds an entry that no sum within the clip can have"
            raise BadReply(
                f"{who}: {problem}: masks did not cancel, or a client sent other than it should; "
                "nothing of it is used; begin a new round",
                public_reason=problem,
            )
        return steps.astype(np.float64) / self.scale


def _require_within(block: NDArray[Any], allowed: float, who: str) -> None:
    """Both comparisons are false for NaN, so that NaN is never let through."""
    low, high = float(block.min()), float(block.max())
    if -allowed <= low and high <= allowed:
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _bad(who, "its vector holds an entry that is not finite")
    raise _bad(who, "its vector holds an entry beyond clip x |weight|; give a larger clip")


def _bad(who: str, problem: str) -> RunError:
    return RunError(f"{who}: {problem}; nothing was added to the sum", public_reason=problem)
