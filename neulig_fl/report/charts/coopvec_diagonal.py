"""The CoopVec Map's diagonal over Portland's training: the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import coopvec_maps, figures
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data

PLACE = 8


def figure(report: Mapping[str, Any]) -> Figure | None:
    """A line for each task; nothing where it is not known which expert is of which task."""
    courses = coopvec_maps.courses(report)
    found = list(_entries(report, courses[-1])) if courses else []
    if len({entry["epoch"] for entry in found}) < 2:
        return None
    chart = alt.Chart(rows_data())
    base = chart.encode(
        x=alt.X("epoch:Q", title="epoch of Portland", axis=alt.Axis(tickMinStep=1, tickCount=8)),
        y=alt.Y("value:Q", title="weight of the task's own expert", scale=alt.Scale(domain=[0, 1])),
        tooltip=[*map(alt.Tooltip, ("task:N", "epoch:Q")), alt.Tooltip("value:Q", format=".3f")],
    )
    # Lines and points have a channel each, so that one legend shows colours with their shapes.
    color = alt.Color("task:N", title="task", sort=None)
    stroke = alt.Stroke("task:N", sort=None, legend=None)
    points = base.mark_point(filled=True, size=45).encode(
        color=color, shape=alt.Shape("task:N", title="task", sort=None)
    )
    both = alt.layer(base.mark_line().encode(stroke=stroke), points)
    caption = (
        "The map's entry of each task's own expert after each epoch; where several experts are of "
        "one task, their sum. Near 1, a task is answered by its own expert alone; near one in the "
        "number of experts, by all of them alike."
    )
    title = "The map's diagonal over training"
    return Figure(title, caption, found, both.properties(width=WIDTH, height=230))


def _entries(
    report: Mapping[str, Any], course: list[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    task_of = {e["client"]: e["task"] for e in report["reference"]["experts"]}
    for each in course:
        own = coopvec_maps.own_entries(each, task_of)
        for task, value in zip(each["tasks"], own, strict=True):
            if value is not None:
                yield {"epoch": each["epoch"], "task": figures.plain(task), "value": value}
