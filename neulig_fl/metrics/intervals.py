"""Intervals for gaps: score intervals for a task and for averages, Student's t over seeds.

A task's merge and ensemble predictions are paired by query. Of n queries, b are right merged only
and c are right ensembled only; the difference of the two accuracies is (b - c) / n, as a fraction.
What is in percentage points has a name that ends in `_pp`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from neulig_fl.core.errors import InputError

Verdict = Literal["equivalent", "different", "inconclusive"]
Discordant = tuple[int, int, int]
Counts = NDArray[np.float64]

ALLOWANCE = 0.2
"""What a skewness of 1 adds to the normal quantile."""

MOST_ALLOWANCE = 10.0
MOST_QUERIES = 10**8
"""Of a task; beyond, the solution in float64 would have too few digits."""

STEPS = 100
"""Of Newton's method at most; a dozen do."""


class Spread(TypedDict):
    """Mean, standard deviation and interval over seeds; null where one seed cannot tell."""

    mean: float
    sd: float | None
    ci95: tuple[float, float] | None


def score_interval(
    discordant: Sequence[Discordant], level: float = 0.95, allowance: float = ALLOWANCE
) -> tuple[float, float]:
    """Score interval for the mean over T tasks of the paired differences (b - c) / n.

    Let m be the mean of the observed differences. Under the hypothesis that the true mean is d, the
    tasks' probabilities p_t (only the first model is right) and q_t (only the second) are taken at
    their joint maximum likelihood. With v the variance of m there and g its skewness, the score is

        s(d) = (m - d) / sqrt(v),  v = sum_t (p_t + q_t - (p_t - q_t)^2) / n_t / T^2

    and the interval holds every d with |s(d)| <= z + allowance |g|. For one task and no allowance
    it is Tango's. The allowance is for discordant queries that are few and mostly of one side,
    where z alone is too small; where either side has as many, g is near 0.

    Args:
        discordant: (b, c, n) for each task: queries that only the first model gets right, those
            that only the second does, and all queries, 1 to `MOST_QUERIES`.
        level: coverage, between 0 and 1, and so far from 1 that z is finite.
        allowance: what a skewness of 1 adds to z, 0 to `MOST_ALLOWANCE`.

    Returns:
        Both ends, as fractions in [-1, 1], with m between them, and a width also where no query is
        discordant. Swapping every b and c mirrors them exactly.

    Raises:
        InputError: no task, counts that cannot be counts of n queries, a level outside (0, 1), or
            an allowance that is none.

    Example:
        >>> [round(end, 4) for end in score_interval([(6, 16, 161)], allowance=0.0)]
        [-0.124, -0.0054]
        >>> [round(end, 4) for end in score_interval([(1, 0, 500), (0, 0, 500), (2, 1, 500)])]
        [-0.002, 0.0054]

    Source: Tango 1998, Statistics in Medicine 17:891-908, for one task; the joint likelihood is
        that of Miettinen and Nurminen 1985, Statistics in Medicine 4:213-226, without their
        assumption that tasks have a common difference. The allowance is ours:
        docs/method.md has what it does to the coverage.
    """
    _check_tasks(discordant)
    z = _quantile(level)
    if not _is_number(allowance) or not 0.0 <= allowance <= MOST_ALLOWANCE:
        raise InputError(
            f"allowance: {allowance!r} is none; allowed: a number from 0 to {MOST_ALLOWANCE:g}"
        )
    b, c, n = np.array(discordant, dtype=np.float64).T
    return _lower_end(b, c, n, z, allowance), -_lower_end(c, b, n, z, allowance)


def _lower_end(b: Counts, c: Counts, n: Counts, z: float, allowance: float) -> float:
    """The smallest d with s(d) <= z + allowance |g|; -1 where every query is the second's."""
    if np.array_equal(c, n):
        return -1.0

    def excess(multiplier: float) -> float:
        _, variance, skewness = mean_moments(*tilted(b, c, n, np.asarray(multiplier)), n)
        distance = multiplier * math.sqrt(float(variance))
        return distance - z - allowance * abs(float(skewness))

    enough = float(n.sum())
    while excess(enough) <= 0.0:
        enough *= 2.0
    found = brentq(excess, 0.0, enough, xtol=1e-9 * enough, rtol=1e-12)
    return float(mean_moments(*tilted(b, c, n, np.asarray(found)), n)[0])


def tilted(b: Counts, c: Counts, n: Counts, multiplier: Counts) -> tuple[Counts, Counts]:
    """The tasks' likeliest probabilities where their mean difference is held below the observed.

    With T tasks and Lagrange's multiplier k >= 0 for the mean difference, let a = k / T. A task has

        p = b / (x + 2 a),  q = c / x,  1 - p - q = (n - b - c) / (x + a)

    with x such that the three sum to 1. Their sum falls in x and is convex, so that Newton's method
    from the left goes up to x without passing it. Where c = 0, x may come to 0: q is then what is
    left to 1. At the solution the observed mean less the held one is k v, so that s = k sqrt(v).

    Args:
        b: queries that only the first model gets right, (..., tasks).
        c: those that only the second does, (..., tasks).
        n: all queries, (tasks,).
        multiplier: k, (...).

    Returns:
        p and q, each (..., tasks).
    """
    a = np.asarray(multiplier / n.shape[-1])[..., None]
    rest = n - b - c
    x = np.maximum(np.maximum(c, n - 2.0 * a), 0.0)
    for _ in range(STEPS):
        parts = _share(b, x + 2.0 * a), _share(c, x), _share(rest, x + a)
        falls = _share(parts[0], x + 2.0 * a) + _share(parts[1], x) + _share(parts[2], x + a)
        excess = parts[0] + parts[1] + parts[2] - 1.0
        before, x = x, np.maximum(x + _share(excess, falls), 0.0)
        if np.all(np.abs(x - before) <= 1e-14 * n):
            break
    p = _share(b, x + 2.0 * a)
    return p, np.where(c > 0, _share(c, x), np.maximum(1.0 - p - _share(rest, x + a), 0.0))


def _share(part: Counts, whole: Counts) -> Counts:
    """The part divided by the whole; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)


def mean_moments(p: Counts, q: Counts, n: Counts) -> tuple[Counts, Counts, Counts]:
    """Mean, variance and skewness of the mean over tasks of (b - c) / n; skewness 0 without spread.

    Args:
        p: probabilities of a query that only the first model gets right, (..., tasks).
        q: probabilities of one that only the second does, (..., tasks).
        n: all queries, (tasks,).

    Returns:
        Three arrays, (...).
    """
    d, tasks = p - q, n.shape[-1]
    variance = (np.maximum(p + q - d * d, 0.0) / n).sum(axis=-1) / tasks**2
    third = ((d - 3.0 * d * (p + q) + 2.0 * d**3) / n**2).sum(axis=-1) / tasks**3
    return d.mean(axis=-1), variance, _share(third, variance**1.5)


def equivalence(ci90_pp: tuple[float, float], margin_pp: float) -> Verdict:
    """What two one-sided tests at 5 % say of a gap, from its 90 % interval.

    Args:
        ci90_pp: the 90 % interval of the gap, percentage points.
        margin_pp: the largest gap that still counts as none, percentage points, above 0.

    Returns:
        "equivalent": the interval lies inside (-margin, margin). "different": it excludes 0 and is
        not inside. "inconclusive": neither, there are too few queries to tell.

    Raises:
        InputError: a margin that is not above 0 and finite, or an interval with its ends swapped.

    Example:
        >>> [equivalence(ci90, 1.0) for ci90 in [(-0.4, 0.7), (-3.0, -1.2), (-2.0, 0.5)]]
        ['equivalent', 'different', 'inconclusive']

    Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15:657-680.
    """
    low, high = ci90_pp
    if not 0.0 < margin_pp < math.inf:
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
        InputError: no value, or one that is not finite.

    Example:
        >>> three = spread([90.0, 92.0, 94.0])
        >>> three["mean"], three["sd"], [round(end, 2) for end in three["ci95"] or ()]
        (92.0, 2.0, [87.03, 96.97])
        >>> spread([90.0])
        {'mean': 90.0, 'sd': None, 'ci95': None}
    """
    if not values:
        raise InputError("spread over seeds: no value was given; run at least one seed")
    if not all(map(math.isfinite, values)):
        raise InputError(
            f"spread over seeds: {list(values)} are not all finite; leave out the rest"
        )
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
    if n > MOST_QUERIES:
        raise InputError(
            f"paired counts: n={n}; allowed: at most {MOST_QUERIES:,} queries, as float64 resolves"
        )


def _check_tasks(discordant: Sequence[Discordant]) -> None:
    if not discordant:
        raise InputError("paired counts: no task was given; evaluate at least one task")
    for counts in discordant:
        if len(counts) != 3 or not all(_is_number(each) and each % 1 == 0 for each in counts):
            raise InputError(
                f"paired counts {tuple(counts)}: allowed: b, c and n, three whole numbers"
            )
        b, c, n = map(int, counts)  # NumPy's small integers would wrap around
        _check_counts(b, c, n)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _quantile(level: float) -> float:
    """Of the standard normal distribution: z with P(|x| <= z) = level.

    Raises:
        InputError: the level is not one, or float64 does not tell it from 1.
    """
    if not _is_number(level) or not 0.0 < level < 1.0:
        raise InputError(f"level: {level!r} is not a coverage; allowed: a number between 0 and 1")
    z = float(ndtri((1.0 + level) / 2.0))
    if not math.isfinite(z):
        raise InputError(
            f"level: {level!r} is 1 in float64; allowed: a number between 0 and 1, such as 0.95"
        )
    return z
