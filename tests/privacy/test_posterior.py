"""The second way to count leverage: what it gives, and that it is what the first one gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.privacy import leverage, posterior

NAMES = ("ada", "bob", "cyd", "dan")
WEIGHTS = st.one_of(st.just(0.0), st.floats(-4.0, 4.0).map(lambda w: round(w, 3)))
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), WEIGHTS, min_size=1), max_size=5)


@given(ROWS)
def test_both_ways_agree(rows: list[dict[str, float]]) -> None:
    """Without it `verify` would call honest clients forgers, or forgers honest."""
    first, second = leverage.leverages(rows), posterior.leverages(rows)
    assert list(first) == list(second)
    assert second == pytest.approx(first, abs=1e-6)


@given(ROWS.filter(bool))
def test_it_is_ridge_regressions_hat_matrix(rows: list[dict[str, float]]) -> None:
    """Without it the loop could compute something else than what its docstring says."""
    names = sorted({name for row in rows for name in row})
    stack = np.array([[row.get(n, 0.0) for n in names] for row in rows])
    stack = stack[np.abs(stack).max(axis=1) > 0.0]
    stack /= np.linalg.norm(stack, axis=1, keepdims=True)
    gram = stack.T @ stack
    small = 1e-4  # large enough for normal equations in floating point
    wanted = np.linalg.solve(gram + small**2 * np.eye(len(names)), gram).diagonal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "ERROR", type(posterior.ERROR)(str(small)))
        assert [*posterior.leverages(rows).values()] == pytest.approx(wanted, abs=1e-6)


def test_sums_that_single_somebody_out_are_seen() -> None:
    """Without it the check would pass where a vector is given away."""
    everyone = dict.fromkeys(NAMES, 0.25)
    without = {**dict.fromkeys(NAMES[:3], 1 / 3), "dan": 0.0}
    assert posterior.leverages([everyone])["dan"] == pytest.approx(0.25)
    assert posterior.leverages([without, everyone])["dan"] == pytest.approx(1.0)
    near = {**everyone, "dan": 0.25 + 1e-7}
    assert posterior.leverages([everyone, near])["dan"] > 0.99
    assert posterior.leverages([everyone, everyone])["dan"] == pytest.approx(0.25)


def test_rows_that_tell_nothing_tell_nothing() -> None:
    """Without it a row of zeros would be a division by zero."""
    assert posterior.leverages([]) == {}
    assert posterior.leverages([{"ada": 0.0}]) == {"ada": 0.0}
    assert posterior.leverages([{"ada": 1e-300, "bob": 1e-300}])["ada"] == pytest.approx(0.5)
