"""Merge against ensemble accuracy, with the diagonal: the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import figures, rows
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data

PLACE = 1
_KINDS = ("NeuLig", "merge method", "control")


def figure(report: Mapping[str, Any]) -> Figure | None:
    """One point for each row that has both accuracies."""
    found = list(_points(report))
    if not found:
        return None
    sides = ("merge", "ensemble", "bar_low", "bar_high")
    values = [point[side] for point in found for side in sides]
    low, high = min(values), max(values)
    pad = max(1.0, 0.05 * (high - low))
    scale = alt.Scale(domain=[max(0.0, low - pad), min(100.0, high + pad)], nice=False)
    x = alt.X("ensemble:Q", title="ensemble accuracy, %", scale=scale, axis=alt.Axis(tickCount=8))
    y = alt.Y("merge:Q", title="merge accuracy, %", scale=scale)
    ends = [{"ensemble": end, "merge": end} for end in scale["domain"]]
    diagonal = alt.Chart(alt.InlineData(values=ends)).mark_line(strokeDash=[4, 4], opacity=0.6)
    base = alt.Chart(rows_data()).encode(
        x=x,
        color=alt.Color("stage:N", title="stage", sort=None),
        tooltip=[
            *map(alt.Tooltip, ("stage:N", "method:N")),
            *(alt.Tooltip(f"{side}:Q", format=".2f") for side in ("merge", "ensemble", "gap")),
        ],
    )
    bars = base.mark_rule(opacity=0.55, clip=True).encode(
        y=alt.Y("bar_low:Q", title=""), y2="bar_high:Q"
    )
    shape = alt.Shape("kind:N", title="row", sort=list(_KINDS))
    points = base.mark_point(filled=True, size=80, opacity=0.9, clip=True).encode(y=y, shape=shape)
    chart = alt.layer(diagonal.encode(x=x, y=y), bars, points)
    caption = (
        "Each point is a method in a stage. On the dashed diagonal, merging and ensembling are "
        "equally accurate; below it, merging loses. The bar is the 95 % interval of the gap, laid "
        "around the point: where it crosses the diagonal, no gap is shown. Models that are their "
        "own ensemble lie on the diagonal by construction."
    )
    title = "Merge against ensemble"
    return Figure(title, caption, found, chart.properties(width=WIDTH, height=340))


def _points(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for stage in report["stages"]:
        for row in rows.rows(stage):
            average = row.average
            gap, ends = average["gap_of_means"], average["gap_of_means_ci95"]
            if gap is None:
                continue
            low, high = ends or (gap, gap)
            ensemble = average["ensemble_accuracy"]
            yield {
                "stage": figures.plain(stage["name"]),
                "method": row.label,
                "kind": _KINDS[row.rank],
                "ensemble": ensemble,
                "merge": average["merge_accuracy"],
                "gap": gap,
                "bar_low": ensemble + low,
                "bar_high": ensemble + high,
            }
