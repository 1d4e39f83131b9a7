"""Exact order statistics of vectors that are seen in pieces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neulig_fl.merging.methods._magnitudes import order_statistics, thresholds

NUMBERS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 1e-45, -1e-45, 3.4e38]),
)


def in_pieces(vectors: Tensor, size: int) -> Iterator[Tensor]:
    return iter(vectors.split(size, dim=1))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_order_statistics_are_those_of_sorting(data: st.DataObject) -> None:
    """A threshold would not be the k-th largest: the selection is off by a bit or by a rank."""
    count = data.draw(st.integers(1, 40))
    rows = data.draw(st.lists(st.lists(NUMBERS, min_size=count, max_size=count), min_size=1))
    vectors = torch.tensor(rows, dtype=torch.float32)
    piece = data.draw(st.integers(1, count))
    ranks = data.draw(st.lists(st.integers(1, count), min_size=1, max_size=3))
    found = order_statistics(lambda: in_pieces(vectors, piece), ranks)
    for row, values in zip(vectors.tolist(), found.tolist(), strict=True):
        assert values == [sorted(row)[rank - 1] for rank in ranks]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e20])
def test_order_statistics_of_many_numbers(scale: float) -> None:
    """The selection would be right only for a few numbers, or only for those of one size."""
    vectors = torch.randn(3, 30_011, generator=torch.Generator().manual_seed(1)) * scale
    for rank in (1, 2, 15_000, 24_008, 30_010, 30_011):
        found = order_statistics(lambda: in_pieces(vectors, 4096), [rank])
        assert torch.equal(found[:, 0], vectors.kthvalue(rank, dim=1).values)


@pytest.mark.parametrize(("density", "kept"), [(0.2, 21), (0.5, 51), (0.999, 100), (1.0, 100)])
def test_the_count_that_is_kept_is_that_of_the_code_of_ties(density: float, kept: int) -> None:
    """Another count than the paper's code keeps would be kept."""
    vectors = torch.randperm(100, generator=torch.Generator().manual_seed(2)).float()[None] + 1
    least = thresholds(lambda: in_pieces(vectors, 7), 100, density)
    assert int((vectors >= least[:, None]).sum()) == kept
