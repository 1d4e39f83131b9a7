"""Tests of how a figure is printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.report import figures


@pytest.mark.parametrize(
    "printed", [figures.number, figures.signed, figures.percent, figures.count, figures.epsilon]
)
def test_null(printed: object) -> None:
    """Without it a missing figure could be read as 0."""
    assert printed(None) == "-"  # type: ignore[operator]
    assert figures.interval(None) == "-"


@given(st.floats(-100, 100))
def test_signed(value: float) -> None:
    """Without it a gap could lose its sign, or be a negative zero."""
    shown = figures.signed(value)
    assert float(shown) == pytest.approx(value, abs=0.00501)
    assert shown == "0.00" or shown[0] == ("-" if value < 0 else "+")
    assert float(shown) != 0 or shown == "0.00"


@given(st.floats(0, 1))
def test_percent(share: float) -> None:
    """Without it nearly all queries would print as all of them, and nearly none as none."""
    shown = figures.percent(share)
    assert (shown == "100.00") == (share == 1)
    assert (shown == "0.00") == (share == 0)
    assert float(shown) == pytest.approx(100 * share, abs=0.0101)


@given(st.text())
def test_plain(text: str) -> None:
    """Without it a client's reason could move the cursor of the researcher's terminal."""
    shown = figures.plain(text)
    assert shown.isprintable()
    assert "  " not in shown


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 2.0], 1.5), ([1.0, None], None), ([], None), ([None], None)]
)
def test_mean(values: list[float | None], expected: float | None) -> None:
    """Without it a mean could silently leave out the tasks that have no figure."""
    assert figures.mean(values) == expected
