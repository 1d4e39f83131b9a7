"""Accuracy against a cost: a point for each stage and method, with the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from neulig_fl.report.charts._figure import WIDTH, Chart, rows_data
from neulig_fl.report.charts._points import front


def scatter(
    found: Sequence[Mapping[str, Any]],
    x: alt.X,
    x_column: str,
    cost: alt.Tooltip,
    colour: str = "stage",
) -> Chart:
    """The chart.

    Args:
        found: points, as `_points.points` gives them.
        x: the axis of the cost.
        x_column: its column.
        cost: how a point's cost is said.
        colour: the column that colours tell apart.
    """
    y = alt.Y("accuracy:Q", title="accuracy of the joint model, %").scale(zero=False, padding=14)
    line = alt.Chart(alt.InlineData(values=front(found, x_column)))
    step = line.mark_line(interpolate="step-after", strokeDash=[5, 4], opacity=0.7).encode(x=x, y=y)
    base = alt.Chart(rows_data()).encode(
        x=x,
        y=y,
        color=alt.Color(f"{colour}:N", title=colour, sort=None),
        tooltip=[
            *map(alt.Tooltip, dict.fromkeys((f"{colour}:N", "stage:N", "method:N", "side:N"))),
            alt.Tooltip("accuracy:Q", format=".2f"),
            cost,
        ],
    )
    others = base.transform_filter("!datum.speaks").mark_point(size=45, opacity=0.75)
    speaking = base.transform_filter("datum.speaks").mark_point(size=170, filled=True, opacity=1)
    layers = [step, others, speaking]
    if any("low" in point for point in found):
        ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
        layers.insert(1, ends.encode(y=alt.Y("low:Q", title=""), y2="high:Q"))
    return alt.layer(*layers).properties(width=WIDTH, height=300)
