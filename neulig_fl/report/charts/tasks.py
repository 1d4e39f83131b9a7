"""Each task's accuracy, merged and ensembled, of the rows that speak for the stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

import altair as alt

from neulig_fl.report import figures, rows
from neulig_fl.report.charts._figure import Figure, rows_data
from neulig_fl.report.headline import SIDES, headline

PLACE = 4
_Z = NormalDist().inv_cdf(0.975)


def figure(report: Mapping[str, Any]) -> Figure | None:
    """Bars by task and side, a panel for each stage."""
    found = list(_bars(report))
    if not found:
        return None
    tasks = list(dict.fromkeys(bar["task"] for bar in found))
    y = alt.Y("task:N", title=None, sort=tasks)
    offset = alt.YOffset("side:N", sort=list(SIDES.values()))
    color = alt.Color("side:N", title=None, sort=list(SIDES.values()))
    base = alt.Chart(rows_data())
    x = alt.X("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    tooltip = [
        *map(alt.Tooltip, ("stage:N", "method:N", "task:N", "side:N", "n:Q")),
        *(alt.Tooltip(f"{key}:Q", format=".2f") for key in ("accuracy", "low", "high")),
    ]
    bars = base.mark_bar(opacity=0.8).encode(x=x, y=y, yOffset=offset, color=color, tooltip=tooltip)
    rules = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y, yOffset=offset)
    layers = alt.layer(bars, rules).properties(width=200, height={"step": 15})
    order = list(dict.fromkeys(bar["stage"] for bar in found))
    facet = alt.Facet("stage:N", title=None, sort=order)
    chart = layers.facet(facet, columns=2)
    caption = (
        "A panel for each stage: the accuracy of its row on each task, merged and ensembled, with "
        "the 95 % interval of that accuracy (Wilson's, over the task's evaluation queries). The "
        "intervals are of each accuracy alone; the gap of the same queries is more certain than "
        "two such intervals suggest, and stands in the figure of gaps."
    )
    return Figure("Accuracy by task", caption, found, chart)


def _bars(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for stage in report["stages"]:
        row = headline(stage["results"])
        for task in row["tasks"] if row else ():
            for key, side in SIDES.items():
                if row is None or task[key] is None:
                    continue
                low, high = accuracy_interval(task[key], task["n"])
                yield {
                    "stage": figures.plain(stage["name"]),
                    "method": rows.called(row),
                    "task": figures.plain(task["task"]),
                    "side": side,
                    "n": task["n"],
                    "accuracy": task[key],
                    "low": low,
                    "high": high,
                }


def accuracy_interval(accuracy: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy, in percent.

    Args:
        accuracy: percent of n queries.
        n: queries; at least one.

    Example:
        >>> [round(end, 2) for end in accuracy_interval(100.0, 100)]
        [96.3, 100.0]
    """
    share, weight = accuracy / 100.0, _Z**2 / n
    middle = (share + weight / 2.0) / (1.0 + weight)
    half = ((share * (1.0 - share) / n + weight / (4.0 * n)) ** 0.5) * _Z / (1.0 + weight)
    return max(0.0, 100.0 * (middle - half)), min(100.0, 100.0 * (middle + half))
