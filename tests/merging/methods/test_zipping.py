"""Zipping units: the quick search for pairs against the slow one, ties, and budgets."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_zip import clusters_of, zip_units

from neulig_fl.merging.methods._zipping import zipped


@settings(max_examples=60, deadline=None)
@given(
    experts=st.integers(2, 4),
    units=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    beta=st.sampled_from([0.0, 0.125, 0.5, 1.0]),
)
def test_zipping_does_what_the_slow_zip_does(
    experts: int, units: int, seed: int, alpha: float, beta: float
) -> None:
    """A kept partner that is no longer the best would merge another pair than the most correlated."""
    samples = torch.randn(
        experts * units, 5, generator=torch.Generator().manual_seed(seed)
    ).double()
    alike = torch.corrcoef(samples) if len(samples) > 1 else torch.ones(1, 1).double()
    members = zipped(alike, experts, alpha, beta)
    assert members.shape == (experts, units, units)
    assert (members.sum(dim=2) == 1).all()
    assert clusters_of(members) == zip_units(alike, experts, alpha, beta)


def test_ties_take_the_first_pair() -> None:
    """A choice among equals by chance would make a merge that cannot be repeated."""
    alike = torch.full((6, 6), 0.5).double()
    assert clusters_of(zipped(alike, 2, 1.0, 1.0)) == zip_units(alike, 2, 1.0, 1.0)
    assert clusters_of(zipped(alike, 3, 0.3, 0.5)) == zip_units(alike, 3, 0.3, 0.5)


@settings(max_examples=30, deadline=None)
@given(units=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_no_budget_matches_one_to_one(units: int, seed: int) -> None:
    """With beta 0 no two units of one expert may end up in one, so two experts are permuted."""
    generator = torch.Generator().manual_seed(seed)
    alike = torch.corrcoef(torch.randn(2 * units, 9, generator=generator).double())
    members = zipped(alike, 2, 0.3, 0.0)
    assert (members.sum(dim=1) == 1).all()


def test_merges_within_an_expert_stay_in_its_budget() -> None:
    """Without the budget two alike units of one expert crowd out what only the other one has."""
    base = torch.eye(8).double()
    for pair in ((0, 1), (2, 3)):
        base[pair] = base[pair[::-1]] = 0.9
    crowded = [set(c) for c in clusters_of(zipped(base, 2, 0.3, 1.0))]
    assert any({0, 1} <= c for c in crowded)
    assert any({2, 3} <= c for c in crowded)
    limited = [set(c) for c in clusters_of(zipped(base, 2, 0.3, 0.5))]
    assert any({0, 1} <= c for c in limited)
    assert sum(len(c & {0, 1, 2, 3}) - 1 for c in limited if c & {0, 1, 2, 3}) == 1


def test_budgets_end_where_nothing_else_is_left() -> None:
    """Three experts without budget can lock each other out; the zip has to end nevertheless."""
    alike = torch.full((6, 6), -0.5).double()
    for pair in (
        (0, 2),
        (3, 4),
        (1, 5),
    ):  # a with b, b with c, a with c: each cluster shares an expert
        alike[pair] = alike[pair[::-1]] = 0.9
    members = zipped(alike, 3, 0.3, 0.0)
    assert clusters_of(members) == zip_units(alike, 3, 0.3, 0.0)
    assert members.shape == (3, 2, 2)
