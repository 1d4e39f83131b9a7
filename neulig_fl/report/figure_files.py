"""Figures as files for a paper: PDF, SVG and PNG of each, and its numbers as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.report import charts, tidy

SCALE = 3
"""Pixels of a PNG for each of the figure's own."""


def write(figures: Sequence[charts.Figure], folder: Path) -> list[Path]:
    """Write figures.

    Args:
        figures: as `charts.figures` gives them.
        folder: where to; made if it is not there.

    Returns:
        The files' paths.

    Raises:
        RunError: the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_atomically(folder / f"{figure.name}.{kind}", content, PRIVATE)
        for figure in figures
        for kind, content in _files(figure)
    ]


def _files(figure: charts.Figure) -> Iterator[tuple[str, str | bytes]]:
    import vl_convert

    from neulig_fl.report.charts import _theme

    spec, config = json.dumps(figure.chart.to_dict()), _theme.light()
    yield "pdf", vl_convert.vegalite_to_pdf(spec, config=config)
    yield "svg", vl_convert.vegalite_to_svg(spec, config=config)
    white = config | {"background": "white"}
    yield "png", vl_convert.vegalite_to_png(spec, scale=SCALE, config=white)
    yield "csv", tidy.csv_text(figure.rows, figure.columns)
