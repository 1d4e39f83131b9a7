"""Near-equal CoopVecs made equal: how far they may move, and what must not matter."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from neulig_fl.merging.inference.tolerance import RESOLUTION, grouped

QUERIES = st.integers(1, 60)
EXPERTS = st.integers(1, 6)
SEEDS = st.integers(0, 2**31)
SHARPNESS = st.sampled_from([0.01, 1.0, 4.0, 30.0])
TOLERANCES = st.floats(RESOLUTION, 1.0, exclude_max=True)


def _coopvecs(queries: int, experts: int, seed: int, sharpness: float) -> Tensor:
    """From all alike to one-hot; some rows stand there twice."""
    generator = torch.Generator().manual_seed(seed)
    beta = torch.softmax(sharpness * torch.randn(queries, experts, generator=generator), dim=1)
    return beta[torch.randint(queries, (queries,), generator=generator)]


COOPVECS = st.builds(_coopvecs, QUERIES, EXPERTS, SEEDS, SHARPNESS)


def _different(coopvecs: Tensor) -> int:
    return len(torch.unique(coopvecs, dim=0))


@given(COOPVECS, TOLERANCES)
@example(torch.tensor([[0.0, 1.0], [1 / 3, 2 / 3], [0.6666667, 0.3333333]]), 1 / 3)
@example(torch.tensor([[0.26, 0.74]] + 20 * [[0.74, 0.26]]), 0.4)
@example(torch.tensor([[0.05, 0.95], [0.149999, 0.850001], [0.1, 0.9]]), 0.1)
def test_no_entry_moves_by_more_than_the_tolerance(beta: Tensor, tolerance: float) -> None:
    """Without it the tolerance that a user set would not bound anything."""
    found = grouped(beta, tolerance)
    assert found.shape == beta.shape
    assert found.dtype == beta.dtype
    assert float((found.double() - beta.double()).abs().max()) <= tolerance


@given(COOPVECS, TOLERANCES)
def test_representatives_are_coopvecs(beta: Tensor, tolerance: float) -> None:
    """Without it merged parameters would be scaled, or extrapolated beyond the experts."""
    found = grouped(beta, tolerance)
    assert float(found.min()) >= 0.0
    assert torch.allclose(found.sum(dim=1), torch.ones(len(beta)), rtol=0, atol=1e-6)


@given(COOPVECS, TOLERANCES, st.randoms(use_true_random=False))
def test_the_order_of_the_queries_does_not_matter(
    beta: Tensor, tolerance: float, random: Any
) -> None:
    """Without it the same query would get another network in another order."""
    order = list(range(len(beta)))
    random.shuffle(order)
    assert torch.equal(grouped(beta[order], tolerance), grouped(beta, tolerance)[order])


@given(COOPVECS, TOLERANCES)
def test_near_equal_rows_become_equal_and_others_stay(beta: Tensor, tolerance: float) -> None:
    """Without it nothing would be saved, or a CoopVec would move without company."""
    found = grouped(beta, tolerance)
    assert _different(found) <= _different(beta)
    equal = (beta[:, None] == beta[None]).all(dim=2)
    assert bool((found[:, None] == found[None]).all(dim=2)[equal].all()), "equal rows were parted"
    moved = (found != beta).any(dim=1)
    for row in found[moved]:
        assert _different(beta[(found == row).all(dim=1)]) > 1


@given(st.integers(1, 6), SEEDS, st.floats(1e-3, 0.5))
def test_rows_next_to_the_corner_share_a_network_with_it(
    experts: int, seed: int, tolerance: float
) -> None:
    """Without it the CoopVecs of confident queries, which are most, would not be grouped."""
    generator = torch.Generator().manual_seed(seed)
    near = torch.eye(experts)[0].repeat(8, 1)
    share = torch.rand(8, 1, generator=generator) * tolerance / 4
    beta = (1 - share) * near + share / experts
    assert _different(grouped(torch.cat([near[:1], beta]), tolerance)) == 1


@given(COOPVECS, st.sampled_from([0.0, RESOLUTION / 2, 5e-324]))
def test_without_a_tolerance_the_argument_comes_back(beta: Tensor, tolerance: float) -> None:
    """Without it exact merging would not be exact."""
    assert grouped(beta, tolerance) is beta


def test_a_group_is_the_mean_of_its_queries() -> None:
    """Without it the most frequent CoopVec of a cell would count as much as a rare one."""
    beta = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.96, 0.04], [1.0, 0.0], [1.0, 0.0]])
    mean = torch.tensor([0.99, 0.01])
    expected = torch.stack([mean, beta[1], mean, mean, mean])
    assert torch.allclose(grouped(beta, 0.1), expected, rtol=0, atol=1e-7)


def test_no_queries_are_no_groups() -> None:
    """Without it a task without queries would end the run."""
    assert grouped(torch.zeros(0, 3), 0.1).shape == (0, 3)


@given(COOPVECS, TOLERANCES)
def test_grouping_again_changes_nothing(beta: Tensor, tolerance: float) -> None:
    """Without it a mean could lie in another cell than its queries, and another would move it on."""
    once = grouped(beta, tolerance)
    assert torch.equal(grouped(once, tolerance), once)
