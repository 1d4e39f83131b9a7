"""Tests of the noise: its distribution against the exact one, the grid, the clip, the randomness."""

from __future__ import annotations

import ast
import inspect
import math
import random
import warnings
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.privacy import clipping, discrete_gaussian
from neulig_fl.privacy.clipping import MOST_UNITS, grid_step, sensitivity
from neulig_fl.privacy.discrete_gaussian import noised, noised_together, sample

MANY = 200_000
FALSE_ALARM = 1e-8
"""Chance that one test of a distribution fails for no reason; all together stay below 1e-6."""


def exact(sigma: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Whole numbers and their probabilities under the discrete Gaussian, by the definition."""
    reach = math.ceil(40 * sigma) + 3
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return x, weights / weights.sum()


def spread(sigma: float) -> float:
    """Exact standard deviation; below sigma where sigma is small."""
    x, p = exact(sigma)
    return math.sqrt(float((p * x**2).sum()))


def goodness(found: NDArray[np.int64], sigma: float) -> float:
    """P-value of a chi-square test; values are pooled until each class expects 25."""
    x, p = exact(sigma)
    expected = p * len(found)
    inner = np.flatnonzero(expected >= 25)
    low, high = x[inner[0]], x[inner[-1]]
    counts = np.bincount(np.clip(found, low, high) - low, minlength=high - low + 1)
    classes = np.bincount(np.clip(x, low, high) - low, weights=expected)
    return float(stats.chisquare(counts, classes).pvalue)


@cache
def drawn(sigma: float) -> NDArray[np.int64]:
    """Many samples, made once."""
    return sample(MANY, sigma)


# ---------------------------------------------------------------- the distribution


@pytest.mark.parametrize("sigma", [0.35, 0.5, 0.9, 1.0, 1.7, 3.0, 7.3, 64.0])
def test_samples_follow_the_discrete_gaussian(sigma: float) -> None:
    """Without it the noise could be another than the one that epsilon is computed for."""
    assert goodness(drawn(sigma), sigma) > FALSE_ALARM


@pytest.mark.parametrize("sigma", [0.5, 0.9])
def test_the_test_of_the_distribution_sees_a_rounded_gaussian(sigma: float) -> None:
    """Without it the test above could pass for anything that looks like a bell."""
    rounded = np.rint(np.random.default_rng(1).normal(0.0, sigma, MANY)).astype(np.int64)
    assert goodness(rounded, sigma) < FALSE_ALARM


@pytest.mark.parametrize("sigma", [0.5, 0.9, 1.0, 1.7, 7.3, 64.0, 1000.3, 2.0**20, 2.0**40])
def test_the_standard_deviation_is_right_to_two_percent(sigma: float) -> None:
    """Without it less noise than reported could be added; 2 % is more than 6 standard errors."""
    found = drawn(sigma)
    wanted = spread(sigma) if sigma < 100.0 else sigma
    assert math.sqrt(float(np.mean(found.astype(np.float64) ** 2))) == pytest.approx(
        wanted, rel=0.02
    )
    if sigma >= 1.0:
        assert wanted == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 7.3, 2.0**20])
def test_samples_are_symmetric(sigma: float) -> None:
    """Without it noise would shift what is released; zero counted twice would show here too."""
    found = drawn(sigma)
    up, down = int((found > 0).sum()), int((found < 0).sum())
    assert stats.binomtest(up, up + down).pvalue > FALSE_ALARM


@pytest.mark.parametrize("sigma", [1000.3, 2.0**20])
def test_large_sigmas_follow_the_gaussian_in_every_stair(sigma: float) -> None:
    """Without it an error that the standard deviation does not show could sit at a stair's edge."""
    edges = stats.norm.ppf(np.linspace(0.0, 1.0, 201)[1:-1]) * sigma
    counts = np.bincount(np.searchsorted(np.ceil(edges), drawn(sigma), "right"), minlength=200)
    cumulative = np.concatenate([[0.0], stats.norm.cdf((np.ceil(edges) - 0.5) / sigma), [1.0]])
    assert stats.chisquare(counts, MANY * np.diff(cumulative)).pvalue > FALSE_ALARM


def test_noise_of_neighbours_is_independent() -> None:
    """Without it averaging over the entries of a row would remove the noise faster than reported."""
    found = drawn(7.3).astype(np.float64)
    for lag in (1, 2, 32):
        correlation = np.corrcoef(found[:-lag], found[lag:])[0, 1]
        assert abs(correlation) < 6.0 / math.sqrt(MANY)


# ---------------------------------------------------------------- exactness


def test_the_chance_in_floating_point_is_as_good_as_claimed() -> None:
    """Without it a decision could be taken for clear that is not, and the sampler be biased."""
    draw = np.random.default_rng(2)
    for _ in range(1500):
        sigma = float(2.0 ** draw.uniform(-3, 40))
        stair = max(0, math.ceil(math.log2(discrete_gaussian.STAIR * sigma)))
        v = int(draw.integers(0, 6))
        x = (v << stair) + int(draw.integers(0, 2**stair))
        chance = float(discrete_gaussian._chances(np.array([x]), np.array([v]), sigma)[0])
        exponent = Fraction(x * x) / (2 * Fraction(sigma) ** 2)
        low, high = discrete_gaussian._bounds(exponent, v, 60)
        assert 0 <= high - low < Fraction(1, 10**50)
        assert low - Fraction(1, 2**45) < Fraction(chance) < high + Fraction(1, 2**45)
        assert high < 1 + Fraction(1, 10**50)


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_exact_decisions_alone_give_the_same_distribution(
    sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the path that one decision in 2^39 takes would never have run."""
    monkeypatch.setattr(discrete_gaussian, "MARGIN", 2.0)
    assert goodness(sample(6_000, sigma), sigma) > FALSE_ALARM


@pytest.mark.parametrize(("bits", "below"), [(b"\x00", True), (b"\xff", False)])
def test_a_close_decision_asks_for_more_bits(
    bits: bytes, below: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it 64 bits would be taken for the whole random number, a bias of 2^-64."""
    asked = []

    def chosen(count: int) -> bytes:
        asked.append(count)
        return bits * count

    monkeypatch.setattr(discrete_gaussian, "urandom", chosen)
    low, _ = discrete_gaussian._bounds(Fraction(1, 2), 0, 60)
    word = math.floor(low * 2**64)
    assert discrete_gaussian._below_exactly(word, 1, 0, 1.0) is below
    assert asked == [8]
    assert discrete_gaussian._below_exactly(word - 1, 1, 0, 1.0) is True
    assert discrete_gaussian._below_exactly(word + 1, 1, 0, 1.0) is False
    assert asked == [8]


@pytest.mark.parametrize(("bits", "below"), [(b"\x00", True), (b"\xff", False)])
def test_a_sampler_in_doubt_decides_exactly(
    bits: bytes, below: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a close decision would be left to the last digit of a float64."""
    monkeypatch.setattr(discrete_gaussian, "urandom", lambda count: bits * count)
    low, _ = discrete_gaussian._bounds(Fraction(1, 2), 0, 60)
    near = math.floor(low * 2**64)
    words = np.array([near, near - 1, near + 1, near - 2**20, near + 2**20, 0], np.uint64)
    x, v = np.ones(6, np.int64), np.zeros(6, np.int64)
    found = discrete_gaussian._below(words, x, v, 1.0)
    assert found.tolist() == [below, True, False, True, False, True]


def test_no_decision_is_wrong_in_the_last_bit() -> None:
    """Without it float64, which is wrong by some 2^-53, would decide what it cannot know."""
    draw = np.random.default_rng(8)
    for sigma in draw.uniform(0.6, 1.6, 200).tolist():
        low, _ = discrete_gaussian._bounds(Fraction(1) / (2 * Fraction(sigma) ** 2), 0, 60)
        near = math.floor(low * 2**64)
        words = np.array([near - 1, near + 1], np.uint64)
        found = discrete_gaussian._below(words, np.ones(2, np.int64), np.zeros(2, np.int64), sigma)
        assert found.tolist() == [True, False]


def test_a_hopeless_chance_is_refused_without_a_huge_number() -> None:
    """Without it a sigma far below one step would stop the client for want of memory."""
    assert discrete_gaussian._below_exactly(1, 1, 0, 1e-12) is False
    assert not sample(1000, 1e-12).any()


def test_random_bits_without_a_one_are_no_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it such a proposal would be a size below zero."""
    monkeypatch.setattr(discrete_gaussian, "urandom", bytes)
    assert len(discrete_gaussian._accepted(5, 3, 4.0)) == 0


def test_minus_zero_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it zero would be twice as likely as it must be."""
    first = np.array([0b10, 0b11], "<u8")  # v = 0; positive, then negative
    words = np.concatenate([first, np.zeros(4, "<u8")]).tobytes()
    monkeypatch.setattr(discrete_gaussian, "urandom", lambda count: words)
    assert discrete_gaussian._accepted(2, 0, 0.5).tolist() == [0]


# ---------------------------------------------------------------- randomness


def test_no_seed_repeats_the_noise() -> None:
    """Without it who knows the scenario's seed could take the noise away."""
    seen = []
    for _ in range(3):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        seen.append(tuple(sample(20, 1000.0)))
    assert len(set(seen)) == 3


@pytest.mark.parametrize("module", [discrete_gaussian, clipping])
def test_noise_comes_from_the_operating_system_alone(module: object) -> None:
    """Without it a generator with a seed could slip in where the noise must be secret."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    imports = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    origins = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not names & {"random", "default_rng", "Generator", "manual_seed", "seed"}
    assert not {"random", "torch", "neulig_fl.core.randomness"} & {*imports, *origins}


# ---------------------------------------------------------------- the mechanism


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.floating]:
    """Rows of any size, some zero, some far beyond the clip."""
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** generator.uniform(-6, 6, (rows, 1)) * (generator.random((rows, 1)) > 0.1)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return (generator.normal(size=(rows, width)) * scale).astype(dtype)


def whole(table: NDArray[np.floating], clip: float, step: float) -> list[list[int]]:
    """The clipped values in steps, before any noise, as Python's integers."""
    factors = clipping.clip_factors(table, clip)
    flat = np.concatenate([v for _, v in clipping.on_grid(table, factors, step, 7)])
    return flat.reshape(table.shape).tolist()  # type: ignore[no-any-return]


@given(tables(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=300, deadline=None)
def test_no_row_on_the_grid_is_longer_than_the_clip(
    table: NDArray[np.floating], clip: float, sigma: float
) -> None:
    """Without it rounding could lift the sensitivity above the one that epsilon is computed for."""
    step = grid_step(clip, sigma)
    rows = whole(table, clip, step)
    most = (Fraction(clip) / Fraction(step)) ** 2
    assert all(sum(k * k for k in row) <= most for row in rows)
    other = whole(-table, clip, step)
    moved = sum(
        (a - b) ** 2 for r, o in zip(rows, other, strict=True) for a, b in zip(r, o, strict=True)
    )
    assert math.sqrt(moved) * step <= sensitivity(clip, len(rows))


@pytest.mark.parametrize("clip", [1.0 - 2.0**-40, math.nextafter(1.0, 0.0)])
def test_a_clip_just_below_a_step_is_not_rounded_up_to_it(clip: float) -> None:
    """Without it an error in float64 could put a row on the first step beyond the clip."""
    [[found]] = whole(np.array([[1e6]]), clip, 2.0**-19)
    assert found == 2**19 - 1


def test_rows_at_the_clip_reach_the_sensitivity() -> None:
    """Without it more would be clipped than said, and accuracy lost for nothing."""
    table = np.zeros((9, 4), np.float32)
    table[:, 1] = 1e6
    rows = np.array(whole(table, 0.5, 2.0**-20)) * 2.0**-20
    moved = np.linalg.norm(rows - -rows)
    assert moved == pytest.approx(sensitivity(0.5, 9), rel=1e-5)
    assert sensitivity(0.5, 9) == 3.0


def test_rows_below_the_clip_are_kept_to_the_step() -> None:
    """Without it rows that need no clipping would lose more than their rounding."""
    table = np.random.default_rng(3).normal(size=(20, 8)) * 0.1
    rows = np.array(whole(table, 10.0, 2.0**-16)) * 2.0**-16
    assert np.all(np.abs(rows - table) < 2.0**-16)
    assert np.all(np.abs(rows) <= np.abs(table))


@given(tables(), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=100, deadline=None)
def test_released_values_lie_on_the_grid(
    table: NDArray[np.floating], clip: float, sigma: float
) -> None:
    """Without it the low bits of a float would tell what the noise hides."""
    before = table.copy()
    sent = noised(table, clip=clip, sigma=sigma)
    step = grid_step(clip, sigma)
    assert sent.dtype == table.dtype
    assert sent.shape == table.shape
    steps = sent.astype(np.float64) / step
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(steps).max() <= MOST_UNITS
    assert np.array_equal(table, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("clip", "sigma"), [(1.0, 0.01), (1.0, 2.5), (0.001, 30.0)])
def test_released_noise_has_the_standard_deviation_asked_for(
    dtype: type, clip: float, sigma: float
) -> None:
    """Without it the noise multiplier in the account would not be the one of the release."""
    table = np.random.default_rng(4).normal(size=(4000, 32)).astype(dtype)
    sent = noised(table, clip=clip, sigma=sigma).astype(np.float64)
    kept = table * clipping.clip_factors(table, clip)[:, None]
    assert float((sent - kept).std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float((sent - kept).mean())) < 6.0 * sigma / math.sqrt(table.size)


def test_a_grid_coarser_than_the_noise_still_has_discrete_gaussian_noise() -> None:
    """Without it a sigma below one step would be rounded away or wrong."""
    sent = noised(np.zeros((2000, 50), np.float32), clip=1.0, sigma=0.5, step=1.0)
    steps = sent.astype(np.int64).reshape(-1)
    assert goodness(steps, 0.5) > FALSE_ALARM


def test_values_beyond_the_grid_are_clamped_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a huge sample would leave the grid in a float32 and show its low bits."""
    monkeypatch.setattr(discrete_gaussian, "sample", lambda n, sigma: np.full(n, 2**30 + 1))
    sent = noised(np.ones(3, np.float32), clip=1.0, sigma=1.0)
    assert sent.tolist() == [MOST_UNITS * grid_step(1.0, 1.0)] * 3


def test_a_vector_is_one_row() -> None:
    """Without it every entry of a task vector would be clipped by itself."""
    sent = noised(np.full(10_000, 5.0), clip=1.0, sigma=1e-6)
    assert sent.shape == (10_000,)
    assert np.linalg.norm(sent) == pytest.approx(1.0, rel=1e-3)
    table = noised(np.full((100, 100), 5.0), clip=1.0, sigma=1e-6)
    assert np.linalg.norm(table, axis=1) == pytest.approx(np.ones(100), rel=1e-3)


def test_arrays_of_one_vector_are_clipped_together() -> None:
    """Without it a task vector of many entries would have a sensitivity of C for each of them."""
    arrays = {"w": np.full((3, 4, 5), 2.0, np.float32), "b": np.full((), 2.0, np.float32), "e": np.zeros((0, 2), np.float32)}  # fmt: skip
    sent = noised_together(arrays, clip=1.0, sigma=1e-5)
    assert {k: (v.shape, v.dtype) for k, v in sent.items()} == {
        k: (v.shape, v.dtype) for k, v in arrays.items()
    }
    assert list(sent) == list(arrays)
    length = math.sqrt(sum(float((v.astype(np.float64) ** 2).sum()) for v in sent.values()))
    assert length == pytest.approx(1.0, rel=1e-2)
    assert float(sent["b"]) == pytest.approx(1.0 / math.sqrt(61), rel=1e-2)


def test_chunks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a large record could be clipped with another row's factor, or be left unnoised."""
    monkeypatch.setattr(discrete_gaussian, "CHUNK", 7)
    table = np.outer(10.0 ** np.arange(5), np.ones(4)).astype(np.float32)
    sent = noised(table, clip=1.0, sigma=1e-6)
    assert sent == pytest.approx(np.full((5, 4), 0.5), abs=1e-4)
    assert len(np.unique(sent)) > 10


def test_a_row_whose_squares_overflow_tells_nothing() -> None:
    """Without it a huge row would be an infinity or a warning in place of a release."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sent = noised(np.full((1, 3), 1e200), clip=1.0, sigma=1e-6)
    assert np.abs(sent).max() < 1e-4


def test_nothing_makes_an_empty_release() -> None:
    """Without it a client without rows would fail instead of answering with none."""
    assert noised(np.zeros((0, 32), np.float32), clip=1.0, sigma=1.0).shape == (0, 32)
    assert sample(0, 1.0).shape == (0,)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_stop_the_release(bad: float, dtype: type) -> None:
    """Without it one NaN would switch the clipping of its row off."""
    table = np.ones((4, 3), dtype)
    table[2, 1] = bad
    with pytest.raises(BadReply, match="1 of 12 values are not finite; nothing is released") as e:
        noised(table, clip=1.0, sigma=1.0)
    assert (
        e.value.public_reason
        == "gaussian noise: 1 of 12 values are not finite; nothing is released"
    )
    with pytest.raises(BadReply, match="not finite"):
        noised_together({"ok": np.ones(3, dtype), "bad": table}, clip=1.0, sigma=1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e-40])
@pytest.mark.parametrize("name", ["sigma", "clip"])
def test_no_noise_and_no_clip_are_not_protections(name: str, value: float) -> None:
    """Without it a release without noise could call itself protected."""
    settings_ = {"clip": 1.0, "sigma": 1.0, name: value}
    with pytest.raises(InputError, match=rf"^{name} is .*; allowed: 1e-30 to 1e\+30"):
        noised(np.ones((2, 2)), **settings_)


@pytest.mark.parametrize("step", [0.0, -0.5, 0.3, math.nan, math.inf, 2.0**-40])
def test_a_grid_without_room_or_exactness_is_refused(step: float) -> None:
    """Without it released values would not lie on the grid, or be clamped at the clip."""
    with pytest.raises(InputError, match=r"grid step is .* allowed: a power of two, at least"):
        noised(np.ones((2, 2)), clip=1.0, sigma=1.0, step=step)


@pytest.mark.parametrize("table", [np.ones((2, 2), np.int64), np.ones((2, 2), np.float16)])
def test_other_types_are_refused(table: NDArray[np.floating]) -> None:
    """Without it a type without room for the grid would round the noise."""
    with pytest.raises(BadReply, match="allowed: float32, float64"):
        noised(table, clip=1.0, sigma=1.0)


@pytest.mark.parametrize("shape", [(), (2, 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Without it what counts as a row would be a guess, and the sensitivity with it."""
    with pytest.raises(BadReply, match=r"allowed: \(rows, entries\) or \(entries,\)"):
        noised(np.ones(shape), clip=1.0, sigma=1.0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2.0**41])
def test_samples_need_a_sigma(sigma: float) -> None:
    """Without it a sigma of 0 would give samples that are all zero."""
    with pytest.raises(InputError, match="steps; allowed: above 0"):
        sample(3, sigma)


def test_a_record_without_rows_has_no_sensitivity() -> None:
    """Without it a noise multiplier would be divided by zero."""
    with pytest.raises(InputError, match="rows must be at least 1"):
        sensitivity(1.0, 0)


@given(st.floats(1e-20, 1e20), st.floats(1e-20, 1e20))
def test_the_grid_is_the_finest_with_room(clip: float, sigma: float) -> None:
    """Without it values would be clamped often, or rounded more than they need to be."""
    step = grid_step(clip, sigma)
    room = clip + clipping.TAIL * sigma
    assert step * MOST_UNITS >= room > step * MOST_UNITS / 2
    assert math.frexp(step)[0] == 0.5
