"""Each case minus the case that all are compared with, paired by seed: a forest plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import figures
from neulig_fl.report.charts._figure import WIDTH, Figure, rows_data

PLACE = 3


def figure(study: Mapping[str, Any]) -> Figure | None:
    """A line for each case, and a tick for each seed."""
    found = list(_lines(study))
    if not found:
        return None
    order = list(dict.fromkeys(line["case"] for line in found))
    y = alt.Y("case:N", title=None, sort=order, axis=alt.Axis(labelLimit=260))
    base = alt.Chart(rows_data()).encode(
        y=y,
        color=alt.Color("word:N", title="shown", sort=None),
        tooltip=[
            *map(alt.Tooltip, ("case:N", "stage:N", "word:N", "seed:N")),
            *(alt.Tooltip(f"{key}:Q", format="+.2f") for key in ("difference", "low", "high")),
        ],
    )
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(strokeDash=[3, 3])
    ends = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    means = base.transform_filter("datum.seed === 'mean'").mark_point(
        filled=True, size=80, opacity=1
    )
    seeds = base.transform_filter("datum.seed !== 'mean'").mark_tick(opacity=0.7)
    versus = figures.plain(study["versus"])
    x = alt.X("difference:Q", title=f"points more than {versus}")
    layers = alt.layer(
        zero.encode(x=alt.X("zero:Q", title="")),
        ends.encode(x="low:Q", x2="high:Q"),
        seeds.encode(x=x),
        means.encode(x=x),
    )
    chart = layers.properties(width=WIDTH, height=34 * len(order))
    caption = (
        f"The joint model's accuracy in the last stage of each case, minus that of {versus}, "
        "paired by seed: the mean with its 95 % interval (Student's t), and a tick for each seed. "
        "An interval that crosses the dashed line shows no difference."
    )
    return Figure(f"Each case against {versus}", caption, found, chart)


_WORDS = {
    "more": "more",
    "less": "less",
    "not-shown": "no difference",
    "one-seed": "one seed, no interval",
    "missing": "a seed is missing",
}


def _lines(study: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for found in study["comparisons"]:
        if not (found["last"] and found["joint"]):
            continue
        spread, words = found["difference"], _WORDS[found["word"]]
        line = {
            "case": figures.plain(found["case"]),
            "stage": figures.plain(found["stage"]),
            "word": words,
        }
        for seed, value in zip(study["seeds"], spread["values"], strict=True):
            if value is not None:
                yield {**line, "seed": str(seed), "difference": value, "low": None, "high": None}
        if spread["mean"] is not None:
            low, high = spread["ci95"] or (None, None)
            yield {**line, "seed": "mean", "difference": spread["mean"], "low": low, "high": high}
