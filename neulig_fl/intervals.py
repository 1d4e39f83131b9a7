"""Intervals for gaps: score intervals for a task, a bootstrap for averages, Student's t over seeds.

A task's merge and ensemble predictions are paired by query. Of n queries, b are right merged only
and c are right ensembled only; the difference of the two accuracies is (b - c) / n, as a fraction.
What is in percentage points has a name that ends in `_pp`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from neulig_fl.errors import InputError

Verdict = Literal["equivalent", "different", "inconclusive"]
Discordant = tuple[int, int, int]


class Spread(TypedDict):
    """Mean, standard deviation and interval over seeds; null where one seed cannot tell."""

    mean: float
    sd: float | None
    ci95: tuple[float, float] | None


def tango(b: int, c: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval for the difference of two paired proportions, p_b - p_c.

    The interval holds every d with |T(d)| <= z, where

        T(d) = (b - c - n d) / sqrt(n (2 q + d (1 - d)))

    and q is the maximum-likelihood estimate of p_c when p_b - p_c = d. T falls in d, so that each
    end is found by bisection. Unlike a Wald interval it has a width where b = c = 0:
    +-z^2 / (n + z^2).

    Args:
        b: queries that only the first model gets right.
        c: queries that only the second model gets right.
        n: all queries, at least 1.
        level: coverage, between 0 and 1.

    Returns:
        Both ends, as fractions in [-1, 1]; (b - c) / n lies between them. Swapping b and c mirrors
        them exactly.

    Raises:
        InputError: counts that cannot be counts of n queries, or a level outside (0, 1).

    Example:
        >>> [round(end, 4) for end in tango(6, 16, 161)]
        [-0.124, -0.0054]
        >>> [round(end, 4) for end in tango(0, 0, 500)]
        [-0.0076, 0.0076]

    Source: Tango 1998, Statistics in Medicine 17:891-908.
    """
    _check_counts(b, c, n)
    z = float(ndtri((1.0 + _check_level(level)) / 2.0))
    return -_upper_end(c, b, n, z), _upper_end(b, c, n, z)


def _upper_end(b: int, c: int, n: int, z: float) -> float:
    """The largest d with T(d) >= -z; in closed form where the estimate's own variance is 0."""
    if b == n:
        return 1.0
    if b == c == 0:
        return z * z / (n + z * z)
    if c == n:
        return -(n - z * z) / (n + z * z)
    low, high = (b - c) / n, 1.0
    while low < (middle := (low + high) / 2.0) < high:
        if b - c - n * middle + z * math.sqrt(n * _variance(b, c, n, middle)) > 0.0:
            low = middle
        else:
            high = middle
    return high


def _variance(b: int, c: int, n: int, d: float) -> float:
    """2 q + d (1 - d), where 2 n q^2 + B q - c d (1 - d) = 0, by the form that does not cancel."""
    linear = -b - c + (2 * n - b + c) * d
    constant = -c * d * (1.0 - d)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    q = (root - linear) / (4 * n) if linear <= 0.0 else -2.0 * constant / (root + linear)
    return max(2.0 * q + d * (1.0 - d), 0.0)


def stratified_tango(discordant: Sequence[Discordant], level: float = 0.95) -> tuple[float, float]:
    """Score interval for the mean over tasks of (b - c) / n, from the tasks' own score intervals.

    Variances are recovered from the distance of each end from its estimate: for T tasks of mean m
    the upper end is m + sqrt(sum_t (u_t - d_t)^2) / T, and the lower end likewise. It has a width
    where the bootstrap has none, that is where no query of any task is discordant.

    Args:
        discordant: (b, c, n) for each task.
        level: coverage, between 0 and 1.

    Returns:
        Both ends, as fractions.

    Raises:
        InputError: no task, or counts that `tango` refuses.

    Example:
        >>> [round(end, 4) for end in stratified_tango([(0, 0, 500), (0, 0, 500)])]
        [-0.0054, 0.0054]

    Source: Zou and Donner 2008, Statistics in Medicine 27:1693-1702.
    """
    _check_tasks(discordant)
    estimates = [(b - c) / n for b, c, n in discordant]
    ends = [tango(b, c, n, level) for b, c, n in discordant]
    mean, tasks = sum(estimates) / len(estimates), len(estimates)
    below = math.hypot(*(d - lo for d, (lo, _) in zip(estimates, ends, strict=True)))
    above = math.hypot(*(hi - d for d, (_, hi) in zip(estimates, ends, strict=True)))
    return max(mean - below / tasks, -1.0), min(mean + above / tasks, 1.0)


def paired_bootstrap(
    discordant: Sequence[Discordant], generator: np.random.Generator, resamples: int = 10_000
) -> NDArray[np.float64]:
    """Draws of the mean over tasks of (b - c) / n, resampling queries within each task.

    Resampling n queries with replacement changes b and c alone: each draw is one multinomial.
    Where no task has a discordant query every draw is 0: use `stratified_tango` there.

    Args:
        discordant: (b, c, n) for each task.
        generator: the source of randomness; the same state gives the same draws.
        resamples: number of draws.

    Returns:
        (resamples,) float64, fractions.

    Raises:
        InputError: no task, or counts that cannot be counts of n queries.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> paired_bootstrap([(5, 2, 100), (0, 1, 50)], generator, resamples=1000).shape
        (1000,)

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    _check_tasks(discordant)
    total = np.zeros(resamples, dtype=np.float64)
    for b, c, n in discordant:
        shares = [b / n, c / n, (n - b - c) / n]
        drawn = generator.multinomial(n, shares, size=resamples)
        total += (drawn[:, 0] - drawn[:, 1]) / n
    return total / len(discordant)


def percentile(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The central interval that holds a share `level` of the draws, in the draws' own unit.

    Example:
        >>> percentile(np.arange(101.0), 0.5)
        (25.0, 75.0)
    """
    tail = (1.0 - _check_level(level)) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return float(low), float(high)


def equivalence(ci90_pp: tuple[float, float], margin_pp: float) -> Verdict:
    """What two one-sided tests at 5 % say of a gap, from its 90 % interval.

    Args:
        ci90_pp: the 90 % interval of the gap, percentage points.
        margin_pp: the largest gap that still counts as none, percentage points, above 0.

    Returns:
        "equivalent": the interval lies inside (-margin, margin). "different": it excludes 0 and is
        not inside. "inconclusive": neither, there are too few queries to tell.

    Raises:
        InputError: a margin that is not above 0, or an interval with its ends swapped.

    Example:
        >>> [equivalence(ci90, 1.0) for ci90 in [(-0.4, 0.7), (-3.0, -1.2), (-2.0, 0.5)]]
        ['equivalent', 'different', 'inconclusive']

    Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15:657-680.
    """
    low, high = ci90_pp
    if not margin_pp > 0.0:
        raise InputError(f"margin_pp: {margin_pp} is not a margin; allowed: a number above 0")
    if not low <= high:
        raise InputError(f"ci90_pp: [{low}, {high}] is not an interval; its lower end comes first")
    if -margin_pp < low and high < margin_pp:
        return "equivalent"
    return "different" if low > 0.0 or high < 0.0 else "inconclusive"


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and 95 % Student interval of one figure over seeds.

    Args:
        values: one figure a seed, in any unit.

    Returns:
        The three in the values' unit; sd and ci95 are None for a single seed.

    Raises:
        InputError: no value.

    Example:
        >>> three = spread([90.0, 92.0, 94.0])
        >>> three["mean"], three["sd"], [round(end, 2) for end in three["ci95"] or ()]
        (92.0, 2.0, [87.03, 96.97])
        >>> spread([90.0])
        {'mean': 90.0, 'sd': None, 'ci95': None}
    """
    if not values:
        raise InputError("spread over seeds: no value was given; run at least one seed")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return {"mean": mean, "sd": None, "ci95": None}
    freedom = len(values) - 1
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / freedom)
    reach = float(stdtrit(freedom, 0.975)) * sd / math.sqrt(len(values))
    return {"mean": mean, "sd": sd, "ci95": (mean - reach, mean + reach)}


def _check_counts(b: int, c: int, n: int) -> None:
    if n < 1 or b < 0 or c < 0 or b + c > n:
        raise InputError(
            f"paired counts b={b}, c={c}, n={n}: allowed: n >= 1, b >= 0, c >= 0 and b + c <= n"
        )


def _check_tasks(discordant: Sequence[Discordant]) -> None:
    if not discordant:
        raise InputError("paired counts: no task was given; evaluate at least one task")
    for b, c, n in discordant:
        _check_counts(b, c, n)


def _check_level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise InputError(f"level: {level} is not a coverage; allowed: a number between 0 and 1")
    return level
