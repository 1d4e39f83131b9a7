"""A figure: a chart, the numbers in it, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import altair as alt

Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart

WIDTH = 560
"""Pixels of a figure in a file; on a page, a figure of one view takes the width that there is."""

ROWS = "rows"
"""The name of the numbers in a chart: a page shows them as a table and as CSV too."""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: what is drawn.
        caption: how to read it, in sentences.
        rows: the numbers that are drawn, one mapping from column to value for each mark.
        chart: Vega-Lite, by altair, of `rows_data()`.
        name: of its file, as in `--format figures`.
    """

    title: str
    caption: str
    rows: Sequence[Mapping[str, Any]]
    chart: Chart
    name: str = ""

    @property
    def columns(self) -> list[str]:
        """The rows' columns, in order of appearance."""
        return list(dict.fromkeys(key for row in self.rows for key in row))

    def named(self, name: str) -> Figure:
        """The figure with its name, its chart with the rows in it."""
        chart = self.chart.copy(deep=False)
        chart.datasets = {ROWS: [dict(row) for row in self.rows]}
        return replace(self, chart=chart, name=name)


def rows_data() -> alt.NamedData:
    """What a chart of a figure's rows is made with."""
    return alt.NamedData(name=ROWS)
