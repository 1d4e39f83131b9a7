"""What each method took: seconds, memory and bytes, as in the paper's Figure 7a."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt

from neulig_fl.report import figures, rows
from neulig_fl.report.charts._figure import Figure, rows_data

PLACE = 10
_QUANTITIES = {
    "seconds": ("seconds", 1.0),
    "peak_rss_bytes": ("peak memory, GB", 1e9),
    "bytes": ("payloads that it needs, MB", 1e6),
}


def figure(report: Mapping[str, Any]) -> Figure | None:
    """Bars by method, a panel for each quantity; of the stage with most rows, the first of such."""
    stage = max(report["stages"], key=lambda each: len(list(_bars(each))))
    found = list(_bars(stage))
    if not found:
        return None
    order = list(dict.fromkeys(bar["method"] for bar in found))
    chart = alt.Chart(rows_data())
    bars = chart.mark_bar().encode(
        x=alt.X("value:Q", title=None),
        y=alt.Y("method:N", title=None, sort=order),
        tooltip=[*map(alt.Tooltip, ("method:N", "quantity:N")), alt.Tooltip("value:Q", format=",")],
    )
    names = [words for words, _ in _QUANTITIES.values()]
    panels = bars.properties(width=190, height={"step": 17}).facet(
        alt.Facet("quantity:N", title=None, sort=names), columns=2
    )
    caption = (
        f"Stage {figures.plain(stage['name'])}: seconds of the server for each method's row, the "
        "largest resident memory of its process up to then (it never falls, so only the first rise "
        "says something of a method), and the bytes of the records that the row needs. Measured "
        "once, on the machine of this run: read ratios, not seconds."
    )
    chosen = panels.resolve_scale(x="independent", y="independent")
    return Figure("What each method took", caption, found, chosen)


def _bars(stage: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for result in rows.ordered(stage["results"]):
        if result["status"] != "ok":
            continue
        for key, (words, unit) in _QUANTITIES.items():
            if result[key] is not None:
                yield {
                    "method": rows.called(result),
                    "quantity": words,
                    "value": result[key] / unit,
                }
