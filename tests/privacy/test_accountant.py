"""Tests of the account: golden values, independent bounds, composition, infinity, the search."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.accountant import Charge, Spent, noise_multiplier_for, spent
from neulig_fl.privacy.clipping import sensitivity

DELTA = 1e-5


def epsilon(*charges: tuple[float, int], delta: float = DELTA) -> float:
    """Epsilon of some (noise multiplier, count)."""
    return spent([Charge("x", m, n) for m, n in charges], delta).epsilon


def best_of_all_orders(multiplier: float, delta: float) -> float:
    """Proposition 12 of arXiv 2004.00010, minimised over every order; no library."""

    def at(log_order: float) -> float:
        a = 1.0 + math.exp(log_order)
        divergence = a / (2.0 * multiplier**2)
        return divergence + math.log1p(-1.0 / a) - math.log(delta * a) / (a - 1.0)

    if delta**2 + math.expm1(-1.0125 / (2.0 * multiplier**2)) > 0.0:
        return 0.0  # Pinsker: the distance itself is below delta
    starts = np.linspace(math.log(0.0125), math.log(1e6), 200)
    start = starts[int(np.argmin([at(s) for s in starts]))]
    return max(0.0, float(minimize_scalar(at, bracket=(start - 0.1, start + 0.1)).fun))


# ---------------------------------------------------------------- golden values


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_epsilon_is_dp_accountings(multiplier: float, delta: float) -> None:
    """Without it the report's epsilon could be a number of our own making."""
    theirs = RdpAccountant()
    theirs.compose(GaussianDpEvent(multiplier), 3)
    ours = epsilon((multiplier, 3), delta=delta)
    assert ours <= theirs.get_epsilon(delta) * 1.001
    assert ours == pytest.approx(theirs.get_epsilon(delta), rel=0.03)


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 5.0, 20.0])
def test_epsilon_is_above_the_exact_one_and_not_by_much(multiplier: float) -> None:
    """Without it an epsilon too small to be true would pass: two exact accounts are below it."""
    exact = get_epsilon_gaussian(multiplier, DELTA)
    distribution = PLDAccountant()
    distribution.compose(GaussianDpEvent(multiplier))
    assert exact == pytest.approx(distribution.get_epsilon(DELTA), rel=0.01)
    assert exact < epsilon((multiplier, 1)) < 1.25 * exact


@pytest.mark.parametrize(
    ("multiplier", "count", "delta", "golden"),
    [
        (1.0, 1, 1e-5, 4.7285),
        (0.5, 2, 1e-5, 16.5127),
        (4.0, 10, 1e-6, 4.0107),
        (20.0, 100, 1e-5, 2.1657),
        (0.05, 1, 1e-5, 293.4411),
    ],
)
def test_golden_epsilons(multiplier: float, count: int, delta: float, golden: float) -> None:
    """Without it a change of the library or of the orders would change reports unnoticed."""
    assert epsilon((multiplier, count), delta=delta) == pytest.approx(golden, rel=1e-4)


@pytest.mark.parametrize("multiplier", [0.02, 0.1, 0.5, 1.0, 4.0, 50.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-12])
def test_the_orders_are_close_enough(multiplier: float, delta: float) -> None:
    """Without it very much or very little noise would be charged more than it costs."""
    best = best_of_all_orders(multiplier, delta)
    ours = epsilon((multiplier, 1), delta=delta)
    assert best * (1 - 1e-9) <= ours <= best * 1.001 + 1e-12


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_the_discrete_gaussian_keeps_what_the_account_says(sigma: float, shift: int) -> None:
    """Without it the continuous bound could be false on a grid as coarse as the noise."""
    reach = math.ceil(45 * sigma) + shift
    x = np.arange(-reach, reach + 1)
    for releases in (1, 2):
        p = np.exp(-0.5 * (x / sigma) ** 2)
        q = np.exp(-0.5 * ((x - shift) / sigma) ** 2)
        p, q = p / p.sum(), q / q.sum()
        if releases == 2:
            p, q = np.outer(p, p), np.outer(q, q)
        for delta in (1e-2, 1e-4, 1e-6):
            claimed = epsilon((sigma / shift, releases), delta=delta)
            if claimed < 700.0:
                true = float(np.maximum(p - math.exp(claimed) * q, 0.0).sum())
                assert true <= delta * (1 + 1e-9)


# ---------------------------------------------------------------- composition


def test_two_stages_cost_more_than_one_and_less_than_twice() -> None:
    """Without it a second stage would be free, or charged as if nothing composed."""
    one, two = epsilon((2.0, 1)), epsilon((2.0, 1), (3.0, 1))
    assert one < two < one + epsilon((3.0, 1))


@given(
    st.lists(st.tuples(st.floats(0.3, 30.0), st.integers(1, 5)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None)
def test_charges_add_up_in_any_order_and_as_one(
    charges: list[tuple[float, int]], shuffle: random.Random
) -> None:
    """Without it splitting a request into several, or asking in another order, would be cheaper."""
    whole = epsilon(*charges)
    single = [(m, 1) for m, n in charges for _ in range(n)]
    shuffle.shuffle(single)
    assert epsilon(*single) == pytest.approx(whole, rel=1e-9)
    together = 1.0 / math.sqrt(sum(n / m**2 for m, n in charges))
    assert epsilon((together, 1)) == pytest.approx(whole, rel=1e-9)
    assert epsilon(*charges, (5.0, 1)) > whole


def test_nothing_released_costs_nothing() -> None:
    """Without it a client that shared nothing would have spent something."""
    assert spent([], DELTA) == Spent(0.0, DELTA)


def test_a_release_without_noise_makes_epsilon_infinite_and_is_named() -> None:
    """Without it one offset sum would void a guarantee that the report still prints."""
    charges = [
        Charge("logits on pool", 2.0),
        Charge("offset-sum", None),
        Charge("parameters", None),
        Charge("offset-sum", None),
    ]
    found = spent(charges, DELTA)
    assert found.epsilon == math.inf
    assert found.unprotected == ("offset-sum", "parameters")
    assert found.sentence() == "epsilon is infinite: without noise went offset-sum, parameters"
    assert math.isfinite(spent(charges[:1], DELTA).epsilon)


def test_the_sentence_says_epsilon_and_delta() -> None:
    """Without it epsilon would be printed without the probability that it may not hold."""
    assert spent([Charge("x", 1.0)], 1e-5).sentence() == "epsilon is 4.729 at delta 1e-05"


# ---------------------------------------------------------------- the search


@given(
    st.floats(0.05, 200.0),
    st.sampled_from([1e-3, 1e-5, 1e-9]),
    st.integers(1, 20),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_the_multiplier_found_keeps_to_epsilon_and_is_the_least(
    target: float, delta: float, releases: int, spent_before: bool
) -> None:
    """Without it a run would exceed its epsilon by rounding, or add more noise than it needs."""
    before = []
    if spent_before:
        before = [Charge("before", noise_multiplier_for(target / 2, delta))]
    found = noise_multiplier_for(target, delta, releases, before)
    assert spent([*before, Charge("x", found, releases)], delta).epsilon <= target
    less = Charge("x", found * (1 - 1e-4), releases)
    assert spent([*before, less], delta).epsilon > target


def bisected(target: float, delta: float, releases: int) -> float:
    """The search in its obvious form: the least multiplier, to 1e-6 of itself, that is enough."""
    low, high = 1e-9, 1e9
    while high / low > 1.0 + 1e-6:
        middle = math.sqrt(low * high)
        enough = epsilon((middle, releases), delta=delta) <= target
        low, high = (low, middle) if enough else (middle, high)
    return high


@pytest.mark.parametrize("target", [1e-3, 1.0, 8.0, 1e6])
@pytest.mark.parametrize("delta", [1e-100, 1e-5, 0.3])
@pytest.mark.parametrize("releases", [1, 1000])
def test_the_librarys_search_finds_what_bisection_finds(
    target: float, delta: float, releases: int
) -> None:
    """Without it a version of the library that gives too little noise would be used."""
    slow = bisected(target, delta, releases)
    found = noise_multiplier_for(target, delta, releases)
    assert epsilon((found, releases), delta=delta) <= target
    # Both are up to 1e-6 too large; two machines may differ by 1e-5 (records/entry_check.py).
    assert found == pytest.approx(slow, rel=2e-6)


def test_one_multiplier_serves_releases_of_any_sensitivity() -> None:
    """Without it one of two stages would be noised more than the other for no reason."""
    planned = [sensitivity(1.0, 300), sensitivity(0.5, 1)]
    multiplier = noise_multiplier_for(4.0, DELTA, len(planned))
    sigmas = [math.nextafter(multiplier * each, math.inf) for each in planned]  # as gaussian.py
    charges = [Charge("x", s / d) for s, d in zip(sigmas, planned, strict=True)]
    assert charges[0].noise_multiplier == pytest.approx(charges[1].noise_multiplier or 0.0)
    assert 3.999 < spent(charges, DELTA).epsilon <= 4.0


def test_an_epsilon_that_is_spent_already_leaves_no_noise_to_choose() -> None:
    """Without it the search would go on for ever, or return noise that does not help."""
    before = [Charge("logits", 1.0)]
    with pytest.raises(
        InputError, match=r"no noise keeps to epsilon 2.0 at delta 1e-05: epsilon is"
    ):
        noise_multiplier_for(2.0, DELTA, before=before)
    with pytest.raises(
        InputError, match="epsilon is infinite: without noise went offset-sum already"
    ):
        noise_multiplier_for(2.0, DELTA, before=[Charge("offset-sum", None)])
    at_the_limit = spent(before, DELTA).epsilon
    with pytest.raises(InputError, match="no noise keeps to epsilon"):
        noise_multiplier_for(at_the_limit, DELTA, before=before)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, math.inf])
def test_delta_must_be_a_probability(delta: float) -> None:
    """Without it epsilon would be printed beside a delta under which it means nothing."""
    with pytest.raises(InputError, match=r"delta is .*; allowed: above 0 and below 1"):
        spent([Charge("x", 1.0)], delta)
    with pytest.raises(InputError, match="delta is"):
        spent([Charge("x", None)], delta)
    with pytest.raises(InputError, match="delta is"):
        noise_multiplier_for(1.0, delta)


def test_delta_has_no_default() -> None:
    """Without it a report could state an epsilon whose delta nobody chose."""
    with pytest.raises(TypeError, match="delta"):
        spent([Charge("x", 1.0)])  # type: ignore[call-arg]


@pytest.mark.parametrize("noise", [0.0, -1.0, 1e-200, 1e200, math.nan, math.inf])
def test_a_charge_needs_noise_that_is_a_number(noise: float) -> None:
    """Without it a sigma of 0 or NaN would be composed as if it were noise."""
    with pytest.raises(
        InputError, match=r"logits: noise multiplier is .*; allowed: a number from 1e-100 to"
    ):
        Charge("logits", noise)


@pytest.mark.parametrize("count", [0, -1])
def test_a_charge_counts_at_least_once(count: int) -> None:
    """Without it a release could be charged as none."""
    with pytest.raises(InputError, match="logits: count is"):
        Charge("logits", 1.0, count)


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf])
def test_a_target_is_a_number_above_zero(target: float) -> None:
    """Without it the search would answer a question without an answer."""
    with pytest.raises(InputError, match=r"epsilon is .*; allowed: a number above 0"):
        noise_multiplier_for(target, DELTA)


def test_a_plan_needs_releases() -> None:
    """Without it there would be a multiplier for no release."""
    with pytest.raises(InputError, match="releases is 0"):
        noise_multiplier_for(1.0, DELTA, 0)
