"""Fixed point: rounded either way by chance, never wrapped, never a value in an error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neulig_fl.core.errors import BadReply, ClientRefused, InputError, RunError
from neulig_fl.privacy.secagg.fixed_point import WORD, FixedPoint, quantisation

CLIPS = st.floats(1e-6, 1e6)


def _encoded(fixed: FixedPoint, values: np.ndarray[Any, Any], weight: float = 1.0) -> Any:
    words = np.empty(len(values), WORD)
    fixed.encode(values, lambda size: np.full(size, 2**15, np.uint16), words, weight, "it")
    return words


@given(
    st.sampled_from([np.float32, np.float64]),
    CLIPS,
    st.data(),
)
def test_an_entry_comes_back_within_a_step(dtype: type, clip: float, data: st.DataObject) -> None:
    """Without it the stated quantisation would be wrong for one vector already."""
    unit = arrays.arrays(
        dtype,
        st.integers(1, 40),
        elements=st.floats(-1, 1, width=np.finfo(dtype).bits),
    )
    values = data.draw(unit) * dtype(clip)
    fixed, words = FixedPoint(clip, 1), np.empty(len(values), WORD)
    noise = data.draw(
        st.lists(st.integers(0, 2**16 - 1), min_size=len(values), max_size=len(values))
    )
    fixed.encode(values, lambda _: np.array(noise, np.uint16), words, 1.0, "it")
    back = fixed.decode(words, "it")
    assert np.abs(back - values.astype(np.float64)).max() <= quantisation(clip, 1)


def test_rounding_is_unbiased_and_goes_either_way() -> None:
    """Without it the rounding of one vector would be the same in every sum, and tell its digits."""
    fixed, generator = FixedPoint(1.0, 3), np.random.default_rng(0)

    def noise(size: int) -> Any:
        return generator.integers(0, 2**16, size, np.uint16)

    for part in (0.1, 0.5, 0.93, -0.25):
        values = np.full(40_000, (1000 + part) / fixed.scale)
        words = np.empty(40_000, WORD)
        fixed.encode(values, noise, words, 1.0, "it")
        steps = words.view("<i4")
        assert len(np.unique(steps)) == 2
        assert abs(steps.mean() - (1000 + part)) < 0.012  # five standard errors
    whole = np.full(100, 7 / fixed.scale)
    assert set(_encoded(fixed, whole).tolist()) == {7}


@given(CLIPS, st.integers(1, 4096), st.floats(0.01, 100))
def test_the_scale_is_the_largest_that_fits(clip: float, clients: int, headroom: float) -> None:
    """Without it precision would be given away, or a sum would wrap."""
    fixed = FixedPoint(clip, clients, headroom)
    assert math.frexp(fixed.scale)[0] == 0.5  # a power of two: multiplying rounds nothing
    assert clip * headroom * fixed.scale <= 2**30 < clip * headroom * fixed.scale * 2
    assert clip * headroom * fixed.scale <= fixed.limit < 2**30 + 2**13
    assert quantisation(clip, clients, headroom) == clients / fixed.scale


def test_blocks_join_without_a_seam() -> None:
    """Without it entries beyond the first block could be skipped."""
    values = np.linspace(-1, 1, 2**15 * 2 + 3)
    fixed = FixedPoint(1.0, 3)
    slow = [math.floor(value * fixed.scale + 0.5) % 2**32 for value in values.tolist()]
    assert _encoded(fixed, values).tolist() == slow
    values[-1] = 1.5
    with pytest.raises(RunError, match="beyond clip"):
        _encoded(fixed, values)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1.0001, -1.0001, 1e30])
@pytest.mark.parametrize("place", [0, 1, 2**15 - 1, 2**15, 2**15 + 1])
def test_no_wrong_entry_is_let_through(wrong: float, place: int) -> None:
    """Without it one entry of millions could wrap around."""
    values = np.zeros(2**15 + 2, np.float32)
    values[place] = wrong
    says = "beyond clip x" if math.isfinite(wrong) else "an entry that is not finite"
    with pytest.raises(RunError, match=rf"it: its vector holds .*{says}.*; nothing was") as caught:
        _encoded(FixedPoint(1.0, 3), values)
    assert "1.0001" not in str(caught.value)
    assert says in str(caught.value.public_reason)


def test_the_weight_narrows_the_clip() -> None:
    """Without it each of five clients could fill the range that is meant for all of them."""
    fixed = FixedPoint(2.0, 5)
    _encoded(fixed, np.array([0.5, -0.5]), weight=0.25)
    _encoded(fixed, np.array([0.5, -0.5]), weight=-0.25)
    for values, weight in (([0.51], 0.25), ([1e-9], 0.0), ([-0.51], -0.25)):
        with pytest.raises(RunError, match=r"beyond clip x \|weight\|"):
            _encoded(fixed, np.array(values), weight)
    assert _encoded(fixed, np.zeros(2), weight=0.0).tolist() == [0, 0]


def test_float32s_own_rounding_is_no_breach() -> None:
    """Without it a client whose entry is exactly at the clip would be stopped by a product."""
    fixed = FixedPoint(0.1, 3)
    for weight in (0.1, 0.3, 1 / 3, 0.7):
        value = np.full(4, 0.1, np.float32) * np.float32(weight)
        _encoded(fixed, value, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_allowed_for_and_no_more(dtype: type) -> None:
    """Without it a client could lie beyond the clip, or beyond the weight that it has."""
    fixed, unit, refused = FixedPoint(1.0, 3, headroom=2.0), 2.0**-22, (RunError, ClientRefused)
    assert _encoded(fixed, np.array([1 + unit, -1 - unit], dtype)).tolist() != [0, 0]
    assert _encoded(fixed, np.zeros(1, dtype), weight=2 + 2 * unit).tolist() == [0]
    assert _encoded(fixed, np.zeros(1, dtype), weight=-2 - 2 * unit).tolist() == [0]
    for value, weight in ((1 + 2 * unit, 1.0), (-1 - 2 * unit, 1.0), (0, 2 + 3 * unit)):
        with pytest.raises(refused, match="beyond") as caught:
            _encoded(fixed, np.array([value], dtype), weight)
        assert "beyond" in str(caught.value.public_reason)


@pytest.mark.parametrize("reach", [2.0**-60, 2.0**60])
def test_the_ends_of_what_fits_are_allowed(reach: float) -> None:
    """Without it the error would name a range that is not the one it keeps to."""
    assert FixedPoint(reach, 3).scale == 2.0**30 / reach
    assert FixedPoint(1.0, 3, reach).scale == 2.0**30 / reach
    beyond = math.nextafter(reach, 0.0 if reach < 1 else math.inf)
    with pytest.raises(InputError, match=r"their product from 8\.67e-19 to 1\.15e\+18; give"):
        FixedPoint(beyond, 3)


@pytest.mark.parametrize("over", [1, -1, 2**30, -(2**30)])
def test_what_no_sum_can_be_is_refused(over: int) -> None:
    """Without it noise would be taken for parameters."""
    fixed = FixedPoint(1.0, 3)
    edge = fixed.limit + over if over > 0 else -fixed.limit + over
    for good in (fixed.limit, -fixed.limit):
        assert abs(fixed.decode(np.array([good % 2**32], WORD), "it")[0]) > 0.99
    with pytest.raises(BadReply, match="it: the sum holds an entry that no sum") as caught:
        fixed.decode(np.array([0, edge % 2**32, 0], WORD), "it")
    assert caught.value.public_reason == (
        "the sum holds an entry that no sum within the clip can have"
    )


@pytest.mark.parametrize(
    ("clip", "headroom"),
    [
        (0, 1),
        (-1, 1),
        (1, 0),
        (-1, -1),
        (math.nan, 1),
        (math.inf, 1),
        (1, math.inf),
        (1e30, 1),
        (1, 1e-30),
    ],
)
def test_what_does_not_fit_is_an_input_error(clip: float, headroom: float) -> None:
    """Without it a scale of zero, or none, would be used."""
    with pytest.raises(InputError, match=r"does not fit 32 bits; allowed: .*; give a clip near"):
        FixedPoint(clip, 3, headroom)
