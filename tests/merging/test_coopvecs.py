"""CoopVecs: effective experts, restriction to those who consent, maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neulig_fl.merging import coopvecs
from neulig_fl.metrics import concentration

SCORES = st.tuples(st.integers(1, 12), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-30, 30))
)


def _slow_effective(row: list[float]) -> float:
    return math.exp(-sum(p * math.log(p) for p in row if p > 0))


@given(SCORES)
def test_effective_experts_are_the_exponential_of_the_entropy(scores: np.ndarray) -> None:
    """Without it the report would overstate how many experts really take part."""
    beta = torch.softmax(torch.from_numpy(scores), dim=1)
    found = concentration.effective_experts(beta)
    assert found.tolist() == pytest.approx([_slow_effective(r) for r in beta.tolist()])
    assert bool((found >= 1 - 1e-9).all())
    assert bool((found <= beta.shape[1] + 1e-9).all())


def test_effective_experts_at_the_limits() -> None:
    """Without it zero weights would give NaN, or a uniform CoopVec not all the experts."""
    assert concentration.effective_experts(torch.eye(4)).tolist() == [1.0] * 4
    assert concentration.effective_experts(torch.full((1, 8), 0.125)).item() == pytest.approx(8)


def test_interior_means_below_nine_tenths() -> None:
    """Without it routing would be reported as mixing."""
    beta = torch.tensor([[0.9, 0.1], [0.89, 0.11], [1.0, 0.0], [0.5, 0.5]])
    assert concentration.interior_share(beta) == 0.5
    assert concentration.interior_share(torch.zeros(0, 2)) == 0.0


@given(SCORES, st.data())
def test_restricting_renormalises_the_weights_that_stay(
    scores: np.ndarray, data: st.DataObject
) -> None:
    """Without it a merge without a refusing client would not be a weighted mean."""
    log_beta = torch.log_softmax(torch.from_numpy(scores), dim=1)
    experts = list(range(log_beta.shape[1]))
    kept = sorted(data.draw(st.sets(st.sampled_from(experts), min_size=1)))
    found = coopvecs.restricted(log_beta, kept)
    slow = log_beta.exp()[:, kept]
    slow = slow / slow.sum(dim=1, keepdim=True)
    assert torch.allclose(found, slow, atol=1e-9)
    assert torch.allclose(found.sum(dim=1), torch.ones(len(found), dtype=found.dtype))


def test_restricting_keeps_proportions_that_are_too_small_for_a_float() -> None:
    """Without it two experts that Portland hardly uses would give 0 / 0."""
    log_beta = torch.tensor([[0.0, -200.0, -201.0]])
    found = coopvecs.restricted(log_beta, [1, 2])[0].tolist()
    assert found == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 1000))
def test_a_map_row_is_a_coopvec_and_counts_every_query(
    experts: int, queries: int, seed: int
) -> None:
    """Without it a merge by task would change the scale of the parameters."""
    generator = torch.Generator().manual_seed(seed)
    betas = [torch.softmax(4 * torch.randn(queries, experts, generator=generator), 1) for _ in "ab"]
    found = coopvecs.coopvec_map(betas)
    assert found.values.shape == (2, experts)
    assert torch.allclose(found.values.sum(dim=1), torch.ones(2))
    assert bool((found.counts.sum(dim=2) == queries).all())
    assert torch.allclose(found.values * found.raw_sums[:, None], torch.stack(
        [torch.stack([coopvecs.peak(column) for column in b.T]) for b in betas]))  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.31, 0.31, 0.31], 0.31),
        ([0.0, 0.001, 1.0], 0.0005),
        ([1.0, 1.0, 0.2], 1.0),
        ([0.2, 1.0, 0.985, 0.5], 0.9925),
        ([0.101, 0.111, 0.501, 0.511], 0.106),
    ],
    ids=["all the same", "at 0", "at 1", "1 is in the last bin", "a tie: the lower"],
)
def test_the_peak_is_the_mean_of_the_fullest_bin(values: list[float], expected: float) -> None:
    """Without it the CoopVec Map would hold means where the paper has modes."""
    assert float(coopvecs.peak(torch.tensor(values))) == pytest.approx(expected)


def test_a_map_has_fifty_bins() -> None:
    """Without it the peaks would be others than those that the docs and the report speak of."""
    assert coopvecs.ESTIMATOR == "mean of the fullest of 50 bins on [0, 1]"
    # 0.0199 lies in the first of 50 bins and 0.0201 in the second, but not of 49, nor of 51.
    entry = torch.tensor([0.0199, 0.0199, 0.0201, 0.0201, 0.0201, 0.001, 0.001])
    assert float(coopvecs.peak(entry)) == pytest.approx((2 * 0.0199 + 2 * 0.001) / 4)
    assert coopvecs.histogram(entry).tolist() == [4, 3, *[0] * 48]
    found = coopvecs.coopvec_map([torch.stack([entry, 1 - entry], dim=1)])
    assert found.counts.shape == (1, 2, 50)
    assert found.counts[0, 1].tolist() == [*[0] * 48, 3, 4]
    assert found.raw_sums.tolist() == pytest.approx([1.0])


def test_a_map_row_without_any_peak_is_the_mean_coopvec() -> None:
    """Without it CoopVecs that name one expert after another would end the run with NaN."""
    found = coopvecs.coopvec_map([torch.eye(4)[[0, 1, 2, 3]], torch.eye(4)[[0, 0, 0, 1]]])
    assert found.values.tolist() == [[0.25] * 4, [1.0, 0.0, 0.0, 0.0]]
    assert found.raw_sums.tolist() == [0.0, 1.0]


def test_a_histogram_counts_what_numpy_counts() -> None:
    """Without it the published histograms would be wrong at the ends."""
    values = torch.rand(500, generator=torch.Generator().manual_seed(0))
    values[:2] = torch.tensor([0.0, 1.0])
    expected = np.histogram(values.double().numpy(), bins=coopvecs.BINS, range=(0, 1))[0]
    assert abs(coopvecs.histogram(values).numpy() - expected).max() <= 1
    assert coopvecs.histogram(torch.tensor([0.0, 1.0])).tolist()[:: coopvecs.BINS - 1] == [1, 1]


def test_the_mean_coopvec_gives_every_task_the_same_weight() -> None:
    """Without it a task with more queries would decide the global merge."""
    many, one = torch.tensor([[1.0, 0.0, 0.0]]).repeat(9, 1), torch.tensor([[0.0, 1.0, 0.0]])
    assert coopvecs.mean_coopvec([many, one]).tolist() == [0.5, 0.5, 0.0]


def test_one_hot_gives_one_expert_everything() -> None:
    """Without it hard routing would not be routing."""
    assert coopvecs.one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert coopvecs.one_hot(torch.tensor([0]), 3).tolist() == [[1, 0, 0]]
