"""The offset sum is rough enough to hide a checkpoint, and fine enough for the alignment term."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from neulig_fl.records.offset_sum import entry_sum, rounded

DIFFERENCES = st.lists(
    st.floats(-1e4, 1e4, allow_nan=False).filter(lambda d: abs(d) > 1e-3), min_size=2, max_size=7
)


def _standardised(sums: list[float]) -> np.ndarray:
    values = np.asarray(sums) - np.mean(sums)
    return np.asarray(values / values.std(ddof=1))


@given(DIFFERENCES, st.sampled_from([0.0, 1667.25, -3e4]))
def test_standardised_sums_are_right_to_a_hundredth(differences: list[float], start: float) -> None:
    """Without it rounding would change what the alignment term pulls together."""
    spread = np.std(differences, ddof=1)
    assume(spread > 0 and max(map(abs, differences)) <= 5 * spread)
    exact = _standardised(differences)
    sent = _standardised([rounded(start + d, start) - start for d in differences])
    assert np.abs(sent - exact).max() <= 0.01


@given(st.floats(1.0, 2.0, exclude_max=True), st.integers(-20, 20))
def test_few_values_are_left_between_a_number_and_its_double(value: float, power: int) -> None:
    """Without it the sum would tell one checkpoint from all others."""
    sent = rounded(math.ldexp(value, power))
    steps = math.ldexp(sent, 8 - power)
    assert steps == int(steps)
    assert 256 <= steps <= 512


def test_between_a_number_and_its_double_256_values_are_left() -> None:
    """Without it a bit more or less would go unnoticed: more is told, or xi* is worse."""
    fine = np.linspace(1.0, 2.0, 5000, endpoint=False)
    assert len({rounded(float(value)) for value in fine} - {2.0}) == 256


@given(st.floats(-1e12, 1e12), st.sampled_from([0.0, 1667.25, -3e4]))
@example(256.5, 0.0)
@example(-511.5, 0.0)
def test_the_difference_is_right_to_the_last_bit(difference: float, start: float) -> None:
    """Without it the stated bound would hold for some experts and not for others."""
    own = start + difference
    exact = own - start
    error = abs(rounded(own, start) - own)
    assert error <= abs(exact) * 2.0**-9 + 2 * math.ulp(max(abs(start), abs(own)))


@pytest.mark.parametrize("start", [0.0, 12.5])
def test_no_difference_stays_none(start: float) -> None:
    """Without it an expert that was not trained would end the run."""
    assert rounded(start, start) == start


def test_the_sum_is_that_of_all_entries() -> None:
    """Without it the offsets would be of other models than those that are merged."""
    rng = np.random.default_rng(0)
    entries = {name: rng.normal(size=(40, 3)).astype(np.float32) for name in "ab"}
    whole = np.concatenate([array.ravel() for array in entries.values()]).astype(np.float64)
    assert entry_sum(entries) == pytest.approx(whole.sum(), rel=1e-12)
