"""Tests of the intervals: published numbers, a slow independent solution, coverage."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq, minimize_scalar

from neulig_fl.errors import InputError
from neulig_fl.intervals import (
    equivalence,
    paired_bootstrap,
    percentile,
    spread,
    stratified_tango,
    tango,
)


@st.composite
def counts(draw: st.DrawFn, most: int = 3000) -> tuple[int, int, int]:
    """Counts b, c of n queries, the corners included."""
    n = draw(st.integers(1, most))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


def slow_tango(b: int, c: int, n: int, level: float) -> tuple[float, float]:
    """The same interval from a numerical maximisation of the likelihood under p_b - p_c = d."""

    def score(d: float) -> float:
        def minus_log_likelihood(p_c: float) -> float:
            p_b, rest = p_c + d, 1.0 - 2.0 * p_c - d
            pairs = [(b, p_b), (c, p_c), (n - b - c, rest)]
            return -sum(count * math.log(max(p, 1e-300)) for count, p in pairs if count)

        low, high = max(0.0, -d), (1.0 - d) / 2.0
        best = minimize_scalar(
            minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        )
        variance = 2.0 * best.x + d - d * d
        return (b - c - n * d) / math.sqrt(n * variance)

    z = stats.norm.ppf((1.0 + level) / 2.0)
    tiny, estimate = 1e-9, (b - c) / n
    low = brentq(lambda d: score(d) - z, -1.0 + tiny, estimate - tiny)
    return low, brentq(lambda d: score(d) + z, estimate + tiny, 1.0 - tiny)


@pytest.mark.parametrize(
    ("b", "c", "n", "level", "low", "high"),
    [
        (1, 7, 21, 0.95, -0.517, -0.026),  # Bentur et al. 2009, in Fagerland et al. 2014, Table II
        (6, 16, 161, 0.95, -0.1240, -0.0054),  # Cavo et al. 2012, in R's contingencytables
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # R's PropCIs::scoreci.mp(25, 28, 618)
    ],
)
def test_tango_published(b: int, c: int, n: int, level: float, low: float, high: float) -> None:
    """Without it the interval could be another one than Tango's."""
    digits = 3 if n == 21 else 4
    assert [round(end, digits) for end in tango(b, c, n, level)] == [low, high]


@pytest.mark.parametrize(
    ("b", "c", "n"),
    [(3, 5, 40), (1, 0, 12), (0, 1, 300), (40, 20, 160), (2, 2, 9), (7, 0, 1000), (5, 6, 11)],
)
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_tango_slow(b: int, c: int, n: int, level: float) -> None:
    """Without it the closed form of the constrained estimate could be wrong where no table is."""
    assert tango(b, c, n, level) == pytest.approx(slow_tango(b, c, n, level), abs=2e-5)


@given(counts())
@settings(deadline=None)
def test_tango_laws(found: tuple[int, int, int]) -> None:
    """Without it an interval could lean to one side, miss its estimate, or have no width."""
    b, c, n = found
    low, high = tango(b, c, n)
    assert tango(c, b, n) == (-high, -low)
    assert -1.0 <= low <= (b - c) / n <= high <= 1.0
    assert low < high
    narrow = tango(b, c, n, 0.5)
    assert low <= narrow[0] <= narrow[1] <= high


def test_tango_no_disagreement() -> None:
    """Without it a gap of 0 on few queries would look certain."""
    z = 1.959963984540054
    assert tango(0, 0, 50) == pytest.approx((-z * z / (50 + z * z), z * z / (50 + z * z)))


@pytest.mark.parametrize(
    ("p_b", "p_c", "n"), [(0.03, 0.05, 300), (0.01, 0.01, 500), (0.3, 0.1, 60)]
)
def test_tango_coverage(p_b: float, p_c: float, n: int) -> None:
    """Without it "95 %" could be a name only."""
    interval = cache(tango)
    draws = np.random.default_rng(5).multinomial(n, [p_b, p_c, 1 - p_b - p_c], size=4000).tolist()
    inside = [low <= p_b - p_c <= high for low, high in (interval(b, c, n) for b, c, _ in draws)]
    assert 0.935 <= sum(inside) / len(inside) <= 0.970


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 0), (-1, 0, 5), (0, -1, 5), (3, 3, 5)], ids=str)
def test_tango_impossible_counts(b: int, c: int, n: int) -> None:
    """Without it impossible counts would give an interval instead of an error."""
    with pytest.raises(InputError, match=rf"b={b}, c={c}, n={n}: allowed"):
        tango(b, c, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_level(level: float) -> None:
    """Without it a level of 95 would be read as a share."""
    with pytest.raises(InputError, match="allowed: a number between 0 and 1"):
        tango(1, 2, 30, level)


def test_stratified_one_task() -> None:
    """Without it one task's average would have another interval than the task."""
    assert stratified_tango([(3, 5, 40)]) == pytest.approx(tango(3, 5, 40))


def test_stratified_coverage() -> None:
    """Without it the interval of an average could miss more often than it says."""
    shares, sizes = [(0.03, 0.05), (0.0, 0.02), (0.1, 0.02)], [100, 250, 60]
    truth = sum(p_b - p_c for p_b, p_c in shares) / 3
    generator = np.random.default_rng(11)
    drawn = [
        generator.multinomial(n, [p_b, p_c, 1 - p_b - p_c], size=800).tolist()
        for (p_b, p_c), n in zip(shares, sizes, strict=True)
    ]
    ends = [
        stratified_tango([(b, c, n) for (b, c, _), n in zip(row, sizes, strict=True)])
        for row in zip(*drawn, strict=True)
    ]
    assert 0.93 <= sum(low <= truth <= high for low, high in ends) / len(ends) <= 0.985


def test_stratified_no_disagreement() -> None:
    """Without it an average without any disagreement would have an interval of width 0."""
    low, high = stratified_tango([(0, 0, 100), (0, 0, 400)])
    assert low == -high
    assert high > 0.01


def test_bootstrap_deterministic() -> None:
    """Without it the same seed could give two reports."""
    tasks = [(5, 2, 100), (0, 1, 50)]
    first = paired_bootstrap(tasks, np.random.default_rng(3), resamples=500)
    assert np.array_equal(first, paired_bootstrap(tasks, np.random.default_rng(3), resamples=500))
    assert not np.array_equal(
        first, paired_bootstrap(tasks, np.random.default_rng(4), resamples=500)
    )


def test_bootstrap_moments() -> None:
    """Without it tasks of unequal size could be weighted by size instead of equally."""
    tasks = [(12, 30, 400), (3, 1, 50), (0, 0, 1000)]
    draws = paired_bootstrap(tasks, np.random.default_rng(0), resamples=40_000)
    mean = sum((b - c) / n for b, c, n in tasks) / 3
    variance = sum(((b + c) / n - ((b - c) / n) ** 2) / n for b, c, n in tasks) / 9
    assert draws.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / 40_000))
    assert draws.std() == pytest.approx(math.sqrt(variance), rel=0.02)


def test_bootstrap_slow() -> None:
    """Without it the multinomial could differ from resampling queries one by one."""
    b, c, n = 6, 15, 80
    query_gaps = np.array([1] * b + [-1] * c + [0] * (n - b - c))
    generator = np.random.default_rng(1)
    slow = generator.choice(query_gaps, size=(20_000, n)).mean(axis=1)
    fast = paired_bootstrap([(b, c, n)], np.random.default_rng(2), resamples=20_000)
    assert percentile(fast, 0.9) == pytest.approx(percentile(slow, 0.9), abs=0.013)


@pytest.mark.parametrize("function", [stratified_tango, paired_bootstrap])
def test_no_task(function: object) -> None:
    """Without it a mean over no task would divide by 0."""
    arguments = ([], np.random.default_rng(0)) if function is paired_bootstrap else ([],)
    with pytest.raises(InputError, match="no task was given"):
        function(*arguments)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("ci90", "verdict"),
    [
        ((-0.99, 0.99), "equivalent"),
        ((0.1, 0.9), "equivalent"),
        ((-1.0, 0.5), "inconclusive"),
        ((-0.5, 1.0), "inconclusive"),
        ((0.1, 1.0), "different"),
        ((-3.0, -1.5), "different"),
        ((0.0, 1.5), "inconclusive"),
    ],
)
def test_equivalence(ci90: tuple[float, float], verdict: str) -> None:
    """Without it an interval that touches the margin or 0 could be over-claimed."""
    assert equivalence(ci90, 1.0) == verdict


def test_equivalence_nonsense() -> None:
    """Without it swapped ends or a margin of 0 would give a verdict."""
    with pytest.raises(InputError, match="lower end comes first"):
        equivalence((1.0, -1.0), 1.0)
    with pytest.raises(InputError, match="a number above 0"):
        equivalence((-1.0, 1.0), 0.0)


def test_spread() -> None:
    """Without it the interval over seeds could use the normal in place of Student's t."""
    values = [91.2, 90.4, 92.9, 91.0]
    found = spread(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["sd"] == pytest.approx(np.std(values, ddof=1))
    assert found["ci95"] == pytest.approx(expected)


def test_spread_few() -> None:
    """Without it one seed would look as if it had no spread."""
    assert spread([1.5]) == {"mean": 1.5, "sd": None, "ci95": None}
    with pytest.raises(InputError, match="at least one seed"):
        spread([])
