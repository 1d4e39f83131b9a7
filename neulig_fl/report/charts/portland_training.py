"""Portland's training by epoch: loss, accuracy, effective experts (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from neulig_fl.report.charts._figure import Figure, rows_data

PLACE = 9
_CURVES = {
    "loss": "loss, nats",
    "accuracy": "accuracy on its queries, %",
    "effective_experts": "effective experts",
}


def figure(report: Mapping[str, Any]) -> Figure | None:
    """A panel for each quantity that was recorded."""
    portland = report["portland"]
    found = [
        {"epoch": epoch["epoch"], "quantity": _CURVES[key], "value": epoch[key]}
        for epoch in (portland or {}).get("trajectory", ())
        for key in _CURVES
        if epoch[key] is not None
    ]
    if not found:
        return None
    there = {point["quantity"] for point in found}
    order = [words for words in _CURVES.values() if words in there]
    chart = alt.Chart(rows_data())
    lines = chart.mark_line(point=True).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        tooltip=[alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", format=".4g")],
    )
    panels = lines.properties(width=230, height=130).facet(
        alt.Facet("quantity:N", title=None, sort=order), columns=2
    )
    caption = (
        "Each epoch's means over the queries that Portland was trained on, so the accuracy is no "
        "measure of the joint model: those queries are learnt from. Effective experts is "
        "exp(entropy) of the CoopVecs: 1 is one expert a query."
    )
    chosen = panels.resolve_scale(y="independent")
    return Figure("Portland's training", caption, found, chosen)
