"""The CoopVec Map as a heat map, over Portland's epochs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import coopvec_maps, figures
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data

PLACE = 6


def figure(report: Mapping[str, Any]) -> Figure | None:
    """A cell for each task, expert and epoch; a slider chooses the epoch."""
    courses = coopvec_maps.courses(report)
    if not courses:
        return None
    last = courses[-1]
    found = list(_cells(last))
    epochs = [each["epoch"] for each in last]
    shown = "epoch === datum.epoch"
    chart = alt.Chart(rows_data())
    x = alt.X("expert:N", title="expert", sort=None, axis=alt.Axis(labelAngle=-35))
    y = alt.Y("task:N", title="task", sort=None)
    scale = alt.Scale(domain=[0, 1], scheme="viridis")
    color = alt.Color("value:Q", title="entry", scale=scale)
    tooltip = [
        *map(alt.Tooltip, ("task:N", "expert:N", "epoch:Q")),
        alt.Tooltip("value:Q", format=".3f"),
    ]
    cells = chart.mark_rect().encode(x=x, y=y, color=color, tooltip=tooltip)
    ink = alt.when("datum.value > 0.6").then(alt.value("#111")).otherwise(alt.value("#fff"))
    words = chart.mark_text(fontSize=12).encode(
        x=x, y=y, color=ink, text=alt.Text("value:Q", format=".2f")
    )
    layers = alt.layer(cells, words).transform_filter(shown)
    layers = layers.properties(width=WIDTH, height=34 * len(last[0]["tasks"]))
    chosen = layers.add_params(_epoch(epochs))
    caption = (
        "Each row is a task, each column a client's expert: the weight that Portland typically "
        "gives this expert on this task's queries (the peak of its distribution, each row "
        f"normalised to 1). Stage {figures.plain(last[-1]['stage'])}, group {last[-1]['group']}, "
        "after the epoch that is chosen. A row with one bright cell is routing to one expert; an "
        "even row is averaging."
    )
    return Figure("CoopVec Map", caption, found, chosen)


def _epoch(epochs: list[int]) -> alt.Parameter:
    """The last epoch, and a slider over those that there are."""
    if len(epochs) == 1:
        return alt.param("epoch", value=epochs[0])
    steps = {after - before for before, after in itertools.pairwise(epochs)}
    if len(steps) == 1:
        bind: alt.BindRange | alt.BindRadioSelect = alt.binding_range(
            min=epochs[0], max=epochs[-1], step=steps.pop(), name="epoch "
        )
    else:
        bind = alt.binding_select(options=epochs, name="epoch ")
    return alt.param("epoch", value=epochs[-1], bind=bind)


def _cells(course: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in course:
        for task, values in zip(each["tasks"], each["values"], strict=True):
            for expert, value in zip(each["experts"], values, strict=True):
                yield {
                    "epoch": each["epoch"],
                    "task": figures.plain(task),
                    "expert": figures.plain(expert),
                    "value": value,
                }
