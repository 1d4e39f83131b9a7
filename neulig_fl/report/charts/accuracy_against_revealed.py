"""Accuracy of the joint model against the most revealing kind of record that was released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from neulig_fl.report.charts._figure import Figure
from neulig_fl.report.charts._points import MARKS, points
from neulig_fl.report.charts._revealed_axis import COLUMN, ORDER, placed
from neulig_fl.report.charts._scatter import scatter

PLACE = 3


def figure(report: Mapping[str, Any]) -> Figure | None:
    """One point a stage and method."""
    found = points(report)
    if not found:
        return None
    x = placed(found, "stage")
    caption = (
        f"{MARKS} Across stands the most revealing record that any client had released up to and "
        f"in the stage. {ORDER} Stages of one level stand side by side, in their order."
    )
    chart = scatter(found, x, COLUMN, alt.Tooltip("revealed:N"))
    return Figure("Accuracy against what was revealed", caption, found, chart)
