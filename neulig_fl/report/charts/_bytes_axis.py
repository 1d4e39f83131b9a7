"""The axis of bytes released, logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt


def bytes_axis(found: Sequence[Mapping[str, Any]]) -> alt.X:
    """Of points with `bytes`."""
    positive = all(point["bytes"] > 0 for point in found)
    scale = alt.Scale(type="log" if positive else "symlog", nice=False, padding=30)
    axis = alt.Axis(format=".3~s", tickCount=5)
    return alt.X("bytes:Q", title="bytes released by a client so far", scale=scale, axis=axis)
