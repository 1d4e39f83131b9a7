"""The learning rate: up in a line, down in half a cosine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.client.schedule import warmup_cosine


@given(st.integers(1, 300), st.floats(0, 1))
def test_the_factor_rises_to_one_and_falls_without_reaching_zero(steps: int, warmup: float) -> None:
    """Without it a step could train with no rate at all, or with more than the scenario's."""
    factors = [warmup_cosine(step, steps, warmup) for step in range(steps)]
    assert all(0.0 < factor <= 1.0 for factor in factors)
    top = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_the_schedule_by_hand() -> None:
    """Without it the rate would be off by one step."""
    factors = [round(warmup_cosine(step, 8, 0.25), 4) for step in range(8)]
    assert factors == [0.5, 1.0, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067]
