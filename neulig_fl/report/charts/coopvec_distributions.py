"""How CoopVec entries are distributed over each task's queries: the paper's Figure 4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import coopvec_maps, figures
from neulig_fl.report.charts._figure import Figure, rows_data

PLACE = 7


def figure(report: Mapping[str, Any]) -> Figure | None:
    """A panel for each task, a line for each expert."""
    courses = coopvec_maps.courses(report)
    whole = [each for each in (courses[-1] if courses else []) if each["histograms"]]
    if not whole:
        return None
    found = list(_lines(whole))
    epochs = [each["epoch"] for each in whole]
    order = [figures.plain(task) for task in whole[-1]["tasks"]]
    chart = alt.Chart(rows_data())
    lines = chart.mark_line(interpolate="step", strokeWidth=1.8).encode(
        x=alt.X("entry:Q", title="CoopVec entry", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("share:Q", title="queries, %"),
        color=alt.Color("expert:N", title="expert", sort=None),
        strokeDash=alt.StrokeDash("expert:N", title="expert", sort=None),
        tooltip=[
            *map(alt.Tooltip, ("task:N", "expert:N", "epoch:Q")),
            alt.Tooltip("entry:Q", format=".2f"),
            alt.Tooltip("share:Q", format=".1f"),
        ],
    )
    lines = lines.transform_filter("distribution_epoch === datum.epoch")
    panels = lines.properties(width=230, height=120).facet(
        alt.Facet("task:N", title=None, sort=order), columns=2
    )
    chosen = alt.param("distribution_epoch", value=epochs[-1])
    if len(epochs) > 1:
        bind = alt.binding_radio(options=epochs, name="after epoch ")
        chosen = alt.param("distribution_epoch", value=epochs[-1], bind=bind)
    caption = (
        "A panel for each task: the share of its queries on which Portland gives each expert a "
        "weight of that size, in bins. Two humps say that queries of one task are treated in two "
        "ways; a spike at 1 is routing. The peaks are what the CoopVec Map shows."
    )
    return Figure("CoopVecs by task", caption, found, panels.add_params(chosen))


def _lines(whole: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in whole:
        bins = each["histograms"]["bins"]
        for task, counts in zip(each["tasks"], each["histograms"]["counts"], strict=True):
            for expert, entries in zip(each["experts"], counts, strict=True):
                queries = sum(entries) or 1
                for at, count in enumerate(entries):
                    yield {
                        "epoch": each["epoch"],
                        "task": figures.plain(task),
                        "expert": figures.plain(expert),
                        "entry": (at + 0.5) / bins,
                        "share": 100.0 * count / queries,
                    }
