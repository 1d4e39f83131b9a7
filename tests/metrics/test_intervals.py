"""Tests of the intervals: published numbers, a slow independent solution, coverage."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq, minimize_scalar

from neulig_fl.core.errors import InputError
from neulig_fl.metrics.intervals import (
    _share,
    equivalence,
    mean_moments,
    score_interval,
    spread,
    tilted,
)


@st.composite
def counts(draw: st.DrawFn, most: int = 3000) -> tuple[int, int, int]:
    """Counts b, c of n queries, the corners included."""
    n = draw(st.integers(1, most))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


Task = tuple[int, int, int]


def likeliest(task: Task, d: float) -> tuple[float, float]:
    """A task's (p, log likelihood) under p - q = d, by a numerical maximisation."""
    b, c, n = task

    def minus_log_likelihood(q: float) -> float:
        pairs = [(b, q + d), (c, q), (n - b - c, 1.0 - 2.0 * q - d)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in pairs if count)

    bounds = max(0.0, -d), (1.0 - d) / 2.0
    best = minimize_scalar(
        minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}
    )
    return best.x + d, -best.fun


def excess(tasks: list[Task], d: float, level: float, allowance: float) -> float:
    """|score| less what the interval allows, for one task or two, from the definition."""
    shift = 0.0
    if len(tasks) == 2:
        found = minimize_scalar(
            lambda e: -likeliest(tasks[0], d + e)[1] - likeliest(tasks[1], d - e)[1],
            bounds=(abs(d) - 1.0 + 1e-9, 1.0 - abs(d) - 1e-9),
            method="bounded",
            options={"xatol": 1e-11},
        )
        shift = found.x
    second = third = 0.0
    for task, gap in zip(tasks, (d + shift, d - shift), strict=False):
        p, n = likeliest(task, gap)[0], task[2]
        values = ((1.0, p), (-1.0, p - gap), (0.0, 1.0 - 2.0 * p + gap))
        second += sum(share * (x - gap) ** 2 for x, share in values) / n
        third += sum(share * (x - gap) ** 3 for x, share in values) / n**2
    mean = sum((b - c) / n for b, c, n in tasks) / len(tasks)
    score = (mean - d) * len(tasks) / math.sqrt(second)
    z = stats.norm.ppf((1.0 + level) / 2.0)
    return float(abs(score) - z - allowance * abs(third) / second**1.5)


def slow_interval(tasks: list[Task], level: float, allowance: float) -> tuple[float, float]:
    """The same interval from the definition, by nested numerical searches."""
    mean = sum((b - c) / n for b, c, n in tasks) / len(tasks)

    def over(d: float) -> float:
        return excess(tasks, d, level, allowance)

    low = brentq(over, -0.6, mean - 1e-7, xtol=1e-9)
    return low, brentq(over, mean + 1e-7, 0.6, xtol=1e-9)


@pytest.mark.parametrize(
    ("b", "c", "n", "level", "low", "high"),
    [
        (1, 7, 21, 0.95, -0.517, -0.026),  # Bentur et al. 2009, in Fagerland et al. 2014, Table II
        (6, 16, 161, 0.95, -0.1240, -0.0054),  # Cavo et al. 2012, in R's contingencytables
        (28, 25, 618, 0.90, -0.0148, 0.0247),  # R's PropCIs::scoreci.mp(25, 28, 618)
    ],
)
def test_tango_published(b: int, c: int, n: int, level: float, low: float, high: float) -> None:
    """Without it one task's interval could be built on another one than Tango's."""
    digits = 3 if n == 21 else 4
    found = score_interval([(b, c, n)], level, allowance=0.0)
    assert [round(end, digits) for end in found] == [low, high]


ONE = [[(3, 5, 40)], [(1, 0, 50)], [(0, 1, 300)], [(40, 20, 160)], [(7, 0, 1000)], [(5, 6, 60)]]
TWO = [
    [(2, 9, 300), (4, 3, 100)],
    [(5, 2, 100), (1, 0, 500)],
    [(0, 3, 200), (6, 1, 200)],
]


@pytest.mark.parametrize("tasks", [*ONE, *TWO], ids=str)
@pytest.mark.parametrize("level", [0.90, 0.95])
def test_interval_slow(tasks: list[Task], level: float) -> None:
    """Without it the joint likelihood, the skewness or the level could be wrong unseen."""
    for allowance in (0.0, 0.2) if len(tasks) == 1 else (0.2,):
        found = score_interval(tasks, level, allowance)
        assert found == pytest.approx(slow_interval(tasks, level, allowance), abs=2e-6)


def test_allowance() -> None:
    """Without it the default could be another one than the documented, or move an end too far."""
    assert score_interval([(1, 0, 300)]) == score_interval([(1, 0, 300)], 0.95, 0.2)
    for b, c, n in [(0, 0, 100), (1, 0, 300), (9, 0, 300), (6, 16, 161), (250, 250, 500)]:
        plain, found = score_interval([(b, c, n)], allowance=0.0), score_interval([(b, c, n)])
        for near, far in ((plain[0], found[0]), (found[1], plain[1])):
            assert 0.0 <= (near - far) * n < 0.5


@given(st.lists(counts(), min_size=1, max_size=4), st.randoms())
@settings(deadline=None, max_examples=20)
def test_interval_laws(tasks: list[Task], order: random.Random) -> None:
    """Without it an interval could lean to one side, miss its estimate, or have no width."""
    low, high = score_interval(tasks)
    assert score_interval([(c, b, n) for b, c, n in tasks]) == (-high, -low)
    mean = sum((b - c) / n for b, c, n in tasks) / len(tasks)
    assert -1.0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1.0
    assert low < high
    narrow = score_interval(tasks, 0.5)
    assert low <= narrow[0] <= narrow[1] <= high
    shuffled = order.sample(tasks, len(tasks))
    assert score_interval(shuffled) == pytest.approx((low, high), abs=1e-7)


@given(st.lists(counts(400), min_size=1, max_size=3), st.floats(-0.9, 0.9))
@settings(deadline=None, max_examples=50)
def test_interval_is_what_the_score_does_not_reject(tasks: list[Task], at: float) -> None:
    """Without it the search for an end could stop at a point that is none."""
    low, high = score_interval(tasks)
    b, c, n = np.array(tasks, dtype=np.float64).T
    mean = float(((b - c) / n).mean())
    if at < 0.0:
        b, c, mean, low = c, b, -mean, -high
    lagrange = abs(at) * 4.0 * float(n.sum())
    held, variance, skewness = mean_moments(*tilted(b, c, n, np.asarray(lagrange)), n)
    assert mean - held == pytest.approx(lagrange * variance, abs=1e-7)
    allowed = stats.norm.ppf(0.975) + 0.2 * abs(skewness)
    if abs(lagrange * math.sqrt(variance) - allowed) > 1e-5:
        assert (lagrange * math.sqrt(variance) <= allowed) == (held >= low)


@pytest.mark.parametrize("tasks", [[50], [100, 100, 100]])
def test_no_disagreement(tasks: list[int]) -> None:
    """Without it a gap of 0 on few queries would look certain, or more certain by a discordant one.

    Where no query is discordant and tasks are equal, d is a share of all N queries together:
    s(d)^2 = N d / (1 - d) in the formula of one task.
    """
    total = sum(tasks)
    z = 1.959963984540054
    plain = score_interval([(0, 0, n) for n in tasks], allowance=0.0)
    assert plain == pytest.approx((-z * z / (total + z * z), z * z / (total + z * z)))
    low, high = score_interval([(0, 0, n) for n in tasks])
    one_low, one_high = score_interval([(0, 0, n) for n in tasks[1:]] + [(1, 0, tasks[0])])
    assert high - low < one_high - one_low


def test_tasks_weigh_the_same() -> None:
    """Without it a large task would decide the mean, or a small one's few queries be forgotten."""
    small, large = (2, 0, 100), (0, 0, 1000)
    low, high = score_interval([small, large])
    alone = score_interval([small])
    assert low < 0.01 < high
    assert high - low == pytest.approx(0.5 * (alone[1] - alone[0]), rel=0.05)


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [((300,), [(0.03, 0.05)]), ((100, 250, 60), [(0.03, 0.05), (0.0, 0.02), (0.1, 0.02)])],
)
def test_coverage(sizes: tuple[int, ...], shares: list[tuple[float, float]]) -> None:
    """Without it "95 %" could be a name only."""
    truth = sum(p - q for p, q in shares) / len(shares)
    generator = np.random.default_rng(11)
    drawn = [
        generator.multinomial(n, [p, q, 1 - p - q], size=120).tolist()
        for (p, q), n in zip(shares, sizes, strict=True)
    ]
    interval = cache(score_interval)
    ends = [
        interval(tuple((b, c, n) for (b, c, _), n in zip(row, sizes, strict=True)))
        for row in zip(*drawn, strict=True)
    ]
    assert 0.90 <= sum(low <= truth <= high for low, high in ends) / len(ends) <= 0.995


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 0), (-1, 0, 5), (0, -1, 5), (3, 3, 5)], ids=str)
def test_impossible_counts(b: int, c: int, n: int) -> None:
    """Without it impossible counts would give an interval instead of an error."""
    with pytest.raises(InputError, match=rf"b={b}, c={c}, n={n}: allowed"):
        score_interval([(3, 4, 10), (b, c, n)])


COUNTS: list[list[Task]] = [
    [(1, 0, 300)],
    [(0, 0, 1)],
    [(1, 0, 1)],
    [(150, 150, 300)],
    [(0, 300, 300)],
    [(5, 2, 300), (0, 0, 10**8)],
]


@pytest.mark.parametrize("tasks", COUNTS, ids=str)
@pytest.mark.parametrize(
    "level",
    [0.0, -0.0, -0.95, 1.0, 1 - 1e-17, 1 - 1e-16, 95.0, math.nan, math.inf, True, None, "0.95"],
)
def test_level(level: Any, tasks: list[Task]) -> None:
    """Without it a level of 95 would be read as a share, or one near 1 end in a library's error."""
    with pytest.raises(InputError, match=f"^level: {level!r} .*allowed: a number between 0 and 1"):
        score_interval(tasks, level)


@pytest.mark.parametrize("tasks", COUNTS, ids=str)
@pytest.mark.parametrize("level", [5e-324, 1e-17, 1e-9, 1 - 1e-9, 1 - 1e-15, 1 - 2.0**-52])
def test_extreme_levels_have_intervals_in_order(level: float, tasks: list[Task]) -> None:
    """Without it a level that is allowed could end in a library's error, or lose the estimate."""
    low, high = score_interval(tasks, level)
    estimate = sum((b - c) / n for b, c, n in tasks) / len(tasks)
    assert -1.0 <= low <= estimate + 1e-12
    assert estimate - 1e-12 <= high <= 1.0
    half = score_interval(tasks, 0.5)
    assert (high - low > half[1] - half[0]) == (level > 0.5)


@pytest.mark.parametrize("allowance", [-0.1, 10.1, math.nan, math.inf, None, "0.2", True])
def test_what_is_no_allowance(allowance: Any) -> None:
    """Without it an allowance of no number would end in a library's error."""
    with pytest.raises(InputError, match=r"allowance: .* allowed: a number from 0 to 10"):
        score_interval([(1, 2, 30)], 0.95, allowance)
    widths = [high - low for low, high in (score_interval([(1, 2, 30)], 0.95, a) for a in (0, 10))]
    assert widths[0] < widths[1], "both ends of what is allowed have an interval"


@pytest.mark.parametrize(
    "counts",
    [
        (1.5, 0, 3),
        (math.nan, 0, 3),
        (0, 0, math.inf),
        ("1", 0, 3),
        (1, 0),
        (True, 0, 3),
        (1, 0, None),
    ],
    ids=str,
)
def test_counts_that_are_no_whole_numbers(counts: Any) -> None:
    """Without it a share in place of a count would have an interval, or a library's error."""
    with pytest.raises(InputError, match=r"paired counts .*: allowed: b, c and n, three whole"):
        score_interval([(3, 4, 10), counts])


def test_more_queries_than_the_solution_resolves() -> None:
    """Without it the interval of 10^12 queries would be a point, and not around the estimate."""
    with pytest.raises(InputError, match="at most 100,000,000"):
        score_interval([(1, 0, 10**8 + 1)])
    with pytest.raises(InputError, match="at most 100,000,000"):
        score_interval([(1, 0, 10**400)])
    scaled = [[n * end for end in score_interval([(1, 0, n)])] for n in (10**5, 10**8)]
    assert scaled[0] == pytest.approx(scaled[1], rel=0.05)


def test_small_integers_do_not_wrap_around() -> None:
    """Without it counts of NumPy's that are more than the queries would get an interval."""
    small = [tuple(np.array([200, 100, 250], dtype=np.uint8))]
    with pytest.raises(InputError, match=r"b=200, c=100, n=250"):
        score_interval(small)
    fitting = [tuple(np.array(each, dtype=np.uint8)) for each in TWO[0][1:] * 2]
    assert score_interval(fitting) == score_interval(TWO[0][1:] * 2)


def test_many_cells_at_once_are_each_cell_alone() -> None:
    """Without it the table of coverage would mix its cells."""
    p, q = np.array([[0.1, 0.3], [0.02, 0.0]]), np.array([[0.2, 0.05], [0.0, 0.01]])
    n = np.array([50.0, 200.0])
    whole = np.stack(mean_moments(p, q, n), axis=1)
    alone = [mean_moments(*row, n) for row in zip(p, q, strict=True)]
    assert whole == pytest.approx(np.array(alone))


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_share_of_nothing_is_nothing(size: int) -> None:
    """Without it a probability of what never happened would be whatever lay in the memory."""
    part, whole = np.ones(size), np.zeros(size)
    whole[1:] = 4.0
    for _ in range(3):
        np.full(size, 7.0)  # freed at once: what an array without values would begin with
        assert _share(part, whole).tolist() == [0.0, *[0.25] * (size - 1)]


def test_no_task() -> None:
    """Without it a mean over no task would divide by 0."""
    with pytest.raises(InputError, match="no task was given"):
        score_interval([])


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
    for margin in (0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="a number above 0"):
            equivalence((-1.0, 1.0), margin)


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
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="are not all finite"):
            spread([1.0, bad])
