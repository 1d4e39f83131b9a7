"""The axis of what was revealed: levels that there are, points of one level side by side."""

from __future__ import annotations

import json
from typing import Any

import altair as alt

from neulig_fl.report.revealed import LEVELS

COLUMN = "place"
_SPREAD = 0.5
"""Of the room between two levels, what the points of one level are spread over."""

ORDER = (
    f"The order is {', '.join(LEVELS)}. It is by kind of record and nothing measures it: what an "
    "attack gets from a record depends on the model and the queries. Sealed records count as what "
    "the server reads."
)
"""What a caption says of the levels."""


def placed(found: list[dict[str, Any]], by: str) -> alt.X:
    """Give every point its `place`, and return the axis.

    Args:
        found: points with `revealed`; they get the column `place`.
        by: the column whose values stand side by side in one level, in order of appearance.
    """
    there = [level for level in LEVELS if any(point["revealed"] == level for point in found)]
    for point in found:
        own = list(dict.fromkeys(p[by] for p in found if p["revealed"] == point["revealed"]))
        offset = (own.index(point[by]) + 0.5) / len(own) - 0.5
        point[COLUMN] = there.index(point["revealed"]) + _SPREAD * offset
    return alt.X(
        f"{COLUMN}:Q",
        title="the most revealing record of a client so far",
        scale=alt.Scale(domain=[-0.5, len(there) - 0.5], nice=False),
        axis=alt.Axis(
            values=list(range(len(there))),
            labelExpr=f"{json.dumps(there)}[datum.value]",
            grid=False,
            labelAngle=0,
        ),
    )
