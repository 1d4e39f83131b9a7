"""Accuracy of each case against the bytes that a client had released, over the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from neulig_fl.report.charts._bytes_axis import bytes_axis
from neulig_fl.report.charts._figure import Figure
from neulig_fl.report.charts._scatter import scatter
from neulig_fl.report.study_charts._points import points

PLACE = 2


def figure(study: Mapping[str, Any]) -> Figure | None:
    """One point a case and stage."""
    found = points(study)
    if not found:
        return None
    x = bytes_axis(found)
    caption = (
        "One point for each case and stage, the mean over the seeds, with its 95 % interval "
        "(Student's t); filled is the case's last stage that has an accuracy. The dashed "
        "line is the Pareto front of the points. Bytes are the most that any one client had "
        "released up to and in the stage, on a logarithmic axis."
    )
    chart = scatter(found, x, "bytes", alt.Tooltip("bytes:Q", format=","), colour="case")
    return Figure("Accuracy against bytes released", caption, found, chart)
