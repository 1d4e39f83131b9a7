"""Iso-C: the sum of the task vectors, flattened."""

from __future__ import annotations

import numpy as np
import pytest
import three_matrices as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import merged


def flattened(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """One matrix: its singular triplets one by one, each with the mean singular value."""
    left, values, right = np.linalg.svd(total)
    mean = sum(values) / len(values)
    found = np.zeros_like(total)
    for r in range(len(values)):
        for i in range(total.shape[0]):
            for j in range(total.shape[1]):
                found[i, j] += mean * left[i, r] * right[r, j]
    return found


MATRICES = ["first.weight", "second.weight", "proj"]


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize(
    ("shapes", "matrices"),
    [(model.LINEAR, MATRICES), (model.CONVOLUTIONS, ["fc.weight"])],
)
def test_iso_c_is_the_papers(shapes: model.Shapes, matrices: list[str], weight: float) -> None:
    """A matrix would not have the paper's merged task vector, or a bias be scaled like one; a convolution too."""
    source = model.source(shapes, 4)
    found = merged("iso-c", source, **{"lambda": weight})
    assert model.close(
        found, model.slow(source, matrices, weight, lambda taus: flattened(sum(taus[1:], taus[0])))
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_every_singular_value_is_the_mean_of_the_sums(count: int, seed: int) -> None:
    """The merged task vector would still lean towards what the tasks have in common."""
    source = model.source(model.LINEAR, count, seed)
    found = merged("iso-c", source)
    assert source.checkpoint is not None
    for name in MATRICES:
        total = sum(model.array(one[name]) for one in model.vectors(source))
        mean = np.linalg.svd(total, compute_uv=False).mean()
        change = model.array(found[name]) - model.array(source.checkpoint[name])
        assert np.allclose(np.linalg.svd(change, compute_uv=False), mean, atol=1e-5)


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(model.LINEAR, 4)
    start = source.checkpoint
    assert start is not None
    plain = merged("iso-c", source)
    for factor in (-1.0, 3.0):
        found = merged("iso-c", model.moved(start, model.vectors(source, factor)))
        wanted = {k: start[k] + factor * (v - start[k]) for k, v in plain.items()}
        assert model.close(found, wanted)
    turned = model.moved(start, model.vectors(source)[::-1])
    assert model.close(merged("iso-c", turned), plain)


def test_without_weight_it_is_the_checkpoint() -> None:
    """Something other than task vectors would come into the merged model."""
    source = model.source(model.LINEAR)
    assert source.checkpoint is not None
    assert model.close(merged("iso-c", source, **{"lambda": 0.0}), source.checkpoint, 0)


def test_directions_that_no_expert_moved_in_stay() -> None:
    """Arbitrary singular vectors of a sum of low rank would be added at full length."""
    source = model.source(model.LINEAR)
    assert source.checkpoint is not None
    once = {k: torch.zeros_like(v) for k, v in source.checkpoint.items()}
    once["first.weight"][2, 3] = 5.0
    found = merged("iso-c", model.moved(source.checkpoint, [once, once]))
    change = found["first.weight"] - source.checkpoint["first.weight"]
    wanted = torch.zeros_like(change)
    wanted[2, 3] = 10.0 / 5
    assert torch.allclose(change, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
@pytest.mark.parametrize("decades", [3.0, 5.5, 7.0])
def test_a_small_singular_value_is_made_the_mean_as_well(
    shape: tuple[int, int], decades: float
) -> None:
    """Directions in which trained experts moved little would be lost: an entry off by 0.16 of tau."""
    total = model.steep(*shape, decades)
    source = model.of_vectors(total, {"w": torch.zeros(shape)})  # so that their mean is not rounded
    left, values, right = np.linalg.svd(model.array(total["w"]), full_matrices=False)
    found = model.array(merged("iso-c", source)["w"])
    assert np.allclose(found, values.mean() * left @ right, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_what_is_added_has_the_rank_of_the_sum(rank: int, seed: int) -> None:
    """Where every direction is as good, arbitrary ones would be added at full length."""
    draw = np.random.default_rng(seed)
    left, right = draw.integers(-4, 5, (12, rank)), draw.integers(-4, 5, (rank, 9))
    total = torch.from_numpy(left @ right).float()
    source = model.of_vectors({"w": total}, {"w": 2 * total})
    values = np.linalg.svd(3 * model.array(total), compute_uv=False)
    found = np.linalg.svd(model.array(merged("iso-c", source)["w"]), compute_uv=False)
    moved = np.linalg.matrix_rank(left @ right)
    assert np.allclose(found, [values.mean()] * moved + [0.0] * (9 - moved), atol=1e-5)


def test_variances_stay_above_zero() -> None:
    """A negative running variance would make the merged model's outputs NaN."""
    source = model.source(model.CONVOLUTIONS, spread=-0.5)
    found = merged("iso-c", source, **{"lambda": 20.0})
    assert float(found["bn.running_var"].min()) == 0.0
    assert float(found["bn.running_mean"].min()) < 0.0


@pytest.mark.parametrize("value", ["1", float("nan"), None])
def test_bad_options_are_refused(value: object) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match="option lambda of iso-c"):
        merged("iso-c", model.source(model.LINEAR), **{"lambda": value})
