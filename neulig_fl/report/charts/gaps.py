"""Gaps with their intervals and the margin of equivalence: a forest plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import figures, rows
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data

PLACE = 5


def figure(report: Mapping[str, Any]) -> Figure | None:
    """A line for each row that has a gap of its own."""
    found = list(_lines(report))
    if not found:
        return None
    order = list(dict.fromkeys(line["row"] for line in found))
    y = alt.Y("row:N", title=None, sort=order, axis=alt.Axis(labelLimit=260))
    margin = max(line["margin"] for line in found)
    band = alt.Chart(alt.InlineData(values=[{"from": -margin, "to": margin}]))
    shade = band.mark_rect(opacity=0.16).encode(x=alt.X("from:Q", title=""), x2="to:Q")
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[3, 3])
    base = alt.Chart(rows_data()).encode(
        y=y,
        color=alt.Color("stage:N", title="stage", sort=None),
        tooltip=[
            *map(alt.Tooltip, ("stage:N", "method:N", "verdict:N")),
            *(alt.Tooltip(f"{key}:Q", format="+.2f") for key in ("gap", "low", "high")),
        ],
    )
    ends = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1)
    points = points.encode(x=alt.X("gap:Q", title="gap, merge minus ensemble, points"))
    layers = alt.layer(shade, zero.encode(x=alt.X("zero:Q", title="")), ends, points)
    chart = layers.properties(width=WIDTH, height=22 * len(order))
    caption = (
        "Merge minus ensemble accuracy of each row, with its 95 % interval. The shaded band is the "
        f"margin of equivalence, {figures.number(margin)} points either way. The verdict is by the "
        "narrower 90 % interval: equivalent if that lies within the band. Rows whose gap can only "
        "be 0, because one model answers each query, are left out."
    )
    return Figure("The gap, row by row", caption, found, chart)


def _lines(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for stage in report["stages"]:
        for row in rows.rows(stage):
            average, test = row.average, row.average["equivalence"]
            ends = average["gap_of_means_ci95"]
            if test is None or ends is None or row.verdict == rows.BY_CONSTRUCTION:
                continue
            name = figures.plain(stage["name"])
            yield {
                "row": f"{name}: {row.label}",
                "stage": name,
                "method": row.label,
                "gap": average["gap_of_means"],
                "low": ends[0],
                "high": ends[1],
                "margin": test["margin_pp"],
                "verdict": row.verdict,
            }
