"""Scientific randomness: derived from (seed, purpose, name), never from global state."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.randomness import (
    derived_seed,
    numpy_generator,
    torch_generator,
    uniform_positions,
)

NAMES = st.lists(st.text(max_size=8), unique=True, min_size=1, max_size=12)


@given(st.integers(0, 2**63 - 1), st.text(max_size=9), st.text(max_size=9))
def test_a_seed_fits_both_libraries_and_is_always_the_same(
    seed: int, purpose: str, name: str
) -> None:
    """Without it some scenario seeds would crash NumPy or torch, or give another run each time."""
    derived = derived_seed(seed, purpose, name)
    assert 0 <= derived < 2**63
    assert derived == derived_seed(seed, purpose, name)
    torch_generator(seed, purpose, name)
    numpy_generator(seed, purpose, name)


def test_purposes_and_names_do_not_run_into_one_another() -> None:
    """Without it two purposes would draw the same numbers."""
    seeds = {
        derived_seed(*key)
        for key in [(1, "a", "bc"), (1, "ab", "c"), (11, "a", "bc"), (1, "abc", ""), (1, "", "abc")]
    }
    assert len(seeds) == 5


def test_no_draw_reads_or_moves_the_global_generators() -> None:
    """Without it a result would depend on what ran before in the same process."""
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.randn(3, generator=torch_generator(1, "x"))
    numpy_generator(1, "x").random(3)
    assert torch.equal(before, torch.get_rng_state())
    assert (np.random.get_state()[1] == numpy_before).all()


@given(NAMES, st.randoms(use_true_random=False))
def test_a_name_keeps_its_place_whoever_else_is_there(names: list[str], random: object) -> None:
    """Without it adding one image would move others between training and evaluation."""
    whole = dict(zip(names, uniform_positions(5, "split", names), strict=True))
    some = names[::2][::-1]
    assert [whole[n] for n in some] == list(uniform_positions(5, "split", some))
    assert all(0.0 <= place < 1.0 for place in whole.values())


def test_places_are_spread_evenly() -> None:
    """Without it the splits would not have the sizes that the docs give."""
    places = uniform_positions(0, "split", [str(i) for i in range(4000)])
    counts = np.histogram(places, bins=10, range=(0, 1))[0]
    assert counts.min() > 330
    assert counts.max() < 470
