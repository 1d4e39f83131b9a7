"""TSV-Merge: singular triplets of all tasks, made orthogonal."""

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


def whitened(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """X (X'X)^(-1/2), from the eigenvalues of X'X: the paper's other form of Procrustes."""
    values, vectors = np.linalg.eigh(columns.T @ columns)
    root = sum(np.outer(v, v) / np.sqrt(x) for x, v in zip(values, vectors.T, strict=True))
    found: NDArray[np.float64] = columns @ root
    return found


def together(taus: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One matrix: the first 1/T of the triplets of every task, orthogonalised, put together."""
    kept = min(taus[0].shape) // len(taus)
    lefts, values, rights = [], [], []
    for tau in taus:
        left, size, right = np.linalg.svd(tau)
        for r in range(kept):
            lefts.append(left[:, r])
            values.append(size[r])
            rights.append(right[r])
    u, v = whitened(np.stack(lefts, axis=1)), whitened(np.stack(rights, axis=1))
    found = np.zeros_like(taus[0])
    for r, size in enumerate(values):
        found += size * np.outer(u[:, r], v[:, r])
    return found


def joined(taus: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One matrix by the official code's rule, in float64: P Q' of both sides, nothing left out."""
    kept = min(taus[0].shape) // len(taus)
    parts = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    p, _, q = np.linalg.svd(np.hstack([left[:, :kept] for left, _, _ in parts]), False)
    r, _, s = np.linalg.svd(np.vstack([right[:kept] for _, _, right in parts]), False)
    found: NDArray[np.float64] = p @ q * np.concatenate([size[:kept] for _, size, _ in parts])
    return found @ r @ s


@pytest.mark.parametrize(
    ("shapes", "matrices", "count", "weight"),
    [
        (model.LINEAR, ["first.weight", "second.weight", "proj"], 2, 1.0),
        (model.LINEAR, ["first.weight", "second.weight", "proj"], 4, 0.6),
        (model.LINEAR, ["first.weight", "second.weight"], 5, 1.0),
        (model.CONVOLUTIONS, ["fc.weight"], 3, 1.0),
    ],
)
def test_tsv_merge_is_the_papers(
    shapes: model.Shapes, matrices: list[str], count: int, weight: float
) -> None:
    """A matrix would not have the paper's merged task vector, or a bias be scaled like one.

    With 5 tasks `proj` has fewer singular values, so it is averaged.
    """
    source = model.source(shapes, count)
    found = merged("tsv-m", source, **{"lambda": weight})
    assert model.close(found, model.slow(source, matrices, weight, together))


def test_tasks_that_do_not_meet_are_added_up() -> None:
    """Triplets that are orthogonal already would be changed: task arithmetic is the limit."""
    source = model.source(model.LINEAR)
    start = source.checkpoint
    assert start is not None
    taus = [{k: torch.zeros_like(v) for k, v in start.items()} for _ in range(2)]
    for name in ("first.weight", "second.weight", "proj"):
        for number, tau in enumerate(taus):
            tau[name][2 * number : 2 * number + 2, 2 * number : 2 * number + 2] = torch.randn(
                2, 2, generator=torch.Generator().manual_seed(number)
            )
    meeting = model.moved(start, taus)
    wanted = merged("task-arithmetic", meeting, **{"lambda": 1.0})
    assert model.close(merged("tsv-m", meeting), wanted)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 5), st.integers(0, 1000))
def test_equal_tasks_give_the_first_triplets_of_one(count: int, seed: int) -> None:
    """Singular vectors that depend on one another would be completed by arbitrary ones."""
    source = model.source(model.LINEAR, 2, seed)
    assert source.checkpoint is not None
    tau = model.vectors(source)[0]
    found = merged("tsv-m", model.moved(source.checkpoint, [tau] * count))
    for name in ("first.weight", "second.weight"):
        left, values, right = np.linalg.svd(model.array(tau[name]))
        kept = 5 // count
        wanted = (left[:, :kept] * values[:kept]) @ right[:kept]
        change = model.array(found[name]) - model.array(source.checkpoint[name])
        assert np.allclose(change, wanted, atol=1e-4)


@pytest.mark.parametrize("angle", [1e-2, 1e-5, 2e-7])
def test_tasks_with_nearly_the_same_vectors_are_told_apart(angle: float) -> None:
    """Where two tasks' singular vectors are close, what tells them apart would be lost."""
    left, right = model.orthonormal(16, 8, 0), model.orthonormal(8, 8, 1)
    near = np.linalg.qr(left + angle * np.random.default_rng(2).standard_normal(left.shape))[0]
    near *= np.sign((near * left).sum(axis=0))
    values = np.linspace(2, 1, 8)
    taus = [(left * values) @ right, 0.7 * (near * values) @ model.orthonormal(8, 8, 3)]
    source = model.of_vectors(*({"w": torch.from_numpy(tau).float()} for tau in taus))
    exact = [model.array(one["w"]) for one in model.vectors(source)]
    found = model.array(merged("tsv-m", source)["w"])
    assert np.allclose(found, joined(exact), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([-3.0, -1.0, 0.25, 1.0, 2.0, 3.0]), st.integers(0, 1000))
def test_tasks_along_the_same_directions_give_no_others(factor: float, seed: int) -> None:
    """Directions that no task has would be made up where singular vectors are the same."""
    tau = torch.from_numpy(np.random.default_rng(seed).integers(-8, 9, (9, 6))).float()
    source = model.of_vectors({"w": tau}, {"w": factor * tau})
    left, values, right = np.linalg.svd(model.array(tau), full_matrices=False)
    wanted = (1 + factor) / 2 * (left[:, :3] * values[:3]) @ right[:3]
    found = model.array(merged("tsv-m", source)["w"])
    assert np.allclose(found, wanted, rtol=0, atol=1e-3)


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(model.LINEAR, 3)
    start = source.checkpoint
    assert start is not None
    plain = merged("tsv-m", source)
    for factor in (-1.0, 3.0):
        found = merged("tsv-m", model.moved(start, model.vectors(source, factor)))
        wanted = {k: start[k] + factor * (v - start[k]) for k, v in plain.items()}
        assert model.close(found, wanted)
    turned = model.moved(start, model.vectors(source)[::-1])
    assert model.close(merged("tsv-m", turned), plain)


def test_variances_stay_above_zero() -> None:
    """A negative running variance would make the merged model's outputs NaN."""
    source = model.source(model.CONVOLUTIONS, spread=-0.5)
    found = merged("tsv-m", source, **{"lambda": 20.0})
    assert float(found["bn.running_var"].min()) == 0.0
    assert float(found["bn.running_mean"].min()) < 0.0


@pytest.mark.parametrize("value", ["1", float("inf"), None])
def test_bad_options_are_refused(value: object) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match="option lambda of tsv-m"):
        merged("tsv-m", model.source(model.LINEAR), **{"lambda": value})
