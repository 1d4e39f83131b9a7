"""Merge and ensemble accuracy of every case's stages, over the seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import figures
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data
from neulig_fl.report.headline import SIDES

PLACE = 4


def figure(study: Mapping[str, Any]) -> Figure | None:
    """Two bars for each case and stage."""
    found = list(_bars(study))
    if not found:
        return None
    order = list(dict.fromkeys(bar["row"] for bar in found))
    y = alt.Y("row:N", title=None, sort=order, axis=alt.Axis(labelLimit=260))
    offset = alt.YOffset("side:N", sort=list(SIDES.values()))
    base = alt.Chart(rows_data())
    bars = base.mark_bar(opacity=0.8).encode(
        x=alt.X("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100])),
        y=y,
        yOffset=offset,
        color=alt.Color("side:N", title=None, sort=list(SIDES.values())),
        tooltip=[
            *map(alt.Tooltip, ("case:N", "stage:N", "method:N", "side:N")),
            *(alt.Tooltip(f"{key}:Q", format=".2f") for key in ("accuracy", "low", "high")),
        ],
    )
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    ends = ends.encode(x="low:Q", x2="high:Q", y=y, yOffset=offset)
    chart = alt.layer(bars, ends).properties(width=WIDTH, height=30 * len(order))
    caption = (
        "Merge and ensemble accuracy of the row that speaks for each stage, the mean over the "
        "seeds with its 95 % interval (Student's t, not cut to 0 to 100)."
    )
    return Figure("Merge and ensemble of every case", caption, found, chart)


def _bars(study: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for stage in study["stages"]:
        row = stage["headline"]
        for key, side in SIDES.items() if row else ():
            spread = row[key]
            if spread["mean"] is None:
                continue
            low, high = spread["ci95"] or (None, None)
            case, name = figures.plain(stage["case"]), figures.plain(stage["stage"])
            yield {
                "row": f"{case}: {name}",
                "case": case,
                "stage": name,
                "method": figures.plain(row["label"]),
                "side": side,
                "accuracy": spread["mean"],
                "low": low,
                "high": high,
            }
