"""Accuracy of each case against the most revealing record that was released, over the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from neulig_fl.report.charts._figure import Figure
from neulig_fl.report.charts._revealed_axis import COLUMN, ORDER, placed
from neulig_fl.report.charts._scatter import scatter
from neulig_fl.report.study_charts._points import points

PLACE = 1


def figure(study: Mapping[str, Any]) -> Figure | None:
    """One point a case and stage."""
    found = points(study)
    if not found:
        return None
    x = placed(found, "case")
    caption = (
        "One point for each case and stage, the mean over the seeds, with its 95 % interval "
        "(Student's t); filled is the case's last stage that has an accuracy. Further left "
        "reveals less, higher is better; cases of one level stand side by side. The dashed line is "
        f"the Pareto front of the points. {ORDER}"
    )
    chart = scatter(found, x, COLUMN, alt.Tooltip("revealed:N"), colour="case")
    return Figure("Accuracy against what was revealed", caption, found, chart)
