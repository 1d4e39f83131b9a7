"""`neulig-fl compare`: what runs differ in, and their accuracies side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from neulig_fl.cli.streams import echo, echo_json


class Format(StrEnum):
    """How a comparison is printed."""

    TEXT, JSON, CSV, MD = "text", "json", "csv", "md"


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...",
            help="Folders of two runs or more (or of one seed of a run each); the others are "
            "compared with the first.",
        ),
    ],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="`text`: tables fitted to the terminal; `json`: everything; `csv`: a row for "
            "each stage, method, side and run; `md`: Markdown.",
        ),
    ] = Format.TEXT,
) -> None:
    """Compare runs: what their scenarios differ in, and what that changed.

    Stages are matched by name, those that are left by order, and results by method. Differences are
    paired by query where both runs answered the same images with the same labels; with several
    seeds, by seed. Where they cannot be paired, the reason stands beside them.

    [bold]Examples[/]
      neulig-fl compare runs/outputs/20250101-120000 runs/sums/20250101-130000
      neulig-fl compare first second third --format csv > comparison.csv
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.report import comparison_pages, comparison_screen
    from neulig_fl.study.run_comparison import compare as compared

    found = compared(runs)
    if form is Format.TEXT:
        comparison_screen.show(found, PlainConsole())
    elif form is Format.JSON:
        echo_json(found.record())
    else:
        csv = form is Format.CSV
        pages = comparison_pages
        echo(pages.csv_text(found) if csv else pages.markdown(found), end="")
