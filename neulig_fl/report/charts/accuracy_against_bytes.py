"""Accuracy of the joint model against the bytes that a client had released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from neulig_fl.report.charts._bytes_axis import bytes_axis
from neulig_fl.report.charts._figure import Figure
from neulig_fl.report.charts._points import MARKS, points
from neulig_fl.report.charts._scatter import scatter

PLACE = 2


def figure(report: Mapping[str, Any]) -> Figure | None:
    """One point a stage and method."""
    found = points(report)
    if not found:
        return None
    x = bytes_axis(found)
    caption = (
        f"{MARKS} Further left is cheaper, higher is better. The dashed line is the Pareto front: "
        "along it, no other point has at least the accuracy for no more bytes. It describes this "
        "run; to choose a method by it would be a choice on evaluation images. Bytes are the most "
        "that any one client had released up to and in the stage, on a logarithmic axis."
    )
    chart = scatter(found, x, "bytes", alt.Tooltip("bytes:Q", format=","))
    title = "Accuracy against bytes released"
    return Figure(title, caption, found, chart)
