"""`neulig-fl report`: print a run's report, or the summary of its seeds, in several formats."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulig_fl.cli.streams import echo, echo_json
from neulig_fl.core.run_folders import RUN_PAGE, STUDY_PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from neulig_fl.report import Report
    from neulig_fl.report.study_report import StudyReport


class Format(StrEnum):
    """How a report is printed."""

    TEXT, MD, JSON, CSV, LATEX = "text", "md", "json", "csv", "latex"
    HTML, FIGURES = "html", "figures"


WRITTEN = (Format.HTML, Format.FIGURES)
"""Formats that are files."""

FIGURES = "figures"
"""Where the figures lie in a run's folder."""


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="The folder of a run, of one seed of it, or of a study."
        ),
    ],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="`text`: tables fitted to the terminal; `md`: report.md; `json`: report.json; "
            "`csv`: a row for each stage, method and task; `latex`: tables like the paper's; "
            "`html`: writes report.html, one page with figures; `figures`: writes each figure as "
            "PDF, SVG and PNG, and its numbers as CSV.",
        ),
    ] = Format.TEXT,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where `html` (a file) or `figures` (a folder) is written.",
            show_default="report.html or figures/ in RUN_DIR",
        ),
    ] = None,
) -> None:
    """Print or draw the report of an earlier run or study, or print the summary of a run's seeds.

    With several seeds, `csv` has the rows of all of them; for `md`, `latex`, `html` and `figures`,
    name one seed's folder. Nothing is computed anew: every format has the figures of report.json.

    [bold]Examples[/]
      neulig-fl report runs/quickstart/20250101-120000
      neulig-fl report runs/quickstart/20250101-120000 --format html
      neulig-fl report runs/quickstart/20250101-120000 --format figures --out figures
      neulig-fl report runs/many-seeds/20250101-120000/seed-7 --format latex > table.tex
      neulig-fl report runs/many-seeds/20250101-120000 --format csv > results.csv
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.core.errors import InputError
    from neulig_fl.report import Report, study_report, summary

    if out is not None and form not in WRITTEN:
        raise InputError(
            f"--out: --format {form.value} is printed; allowed with --format html or figures; "
            "redirect the output to a file"
        )
    if (run / study_report.FILE_NAME).is_file():
        study = study_report.StudyReport.load(run)
        if form in WRITTEN:
            name = STUDY_PAGE if form is Format.HTML else FIGURES
            _write(form, study, out or run / name)
        else:
            _print_study(form, study)
        return
    file = run / summary.FILE_NAME
    if not file.is_file():
        loaded = Report.load(run)
        if form is Format.TEXT:
            loaded.print()
        elif form in WRITTEN:
            folder = run if run.is_dir() else run.parent
            _write(form, loaded, out or folder / (RUN_PAGE if form is Format.HTML else FIGURES))
        else:
            _print_as(form, [loaded])
        return
    found = read_summary(file)
    seeds = [run / f"seed-{seed}" for seed in found["seeds"]]
    if form is Format.TEXT:
        show_seeds(found, run, PlainConsole())
    elif form is Format.JSON:
        echo_json(found)
    elif form is Format.CSV:
        _print_as(form, [Report.load(seed) for seed in seeds])
    else:
        raise InputError(
            f"{run}: has several seeds, and --format {form.value} is of one report; name one of "
            f"{', '.join(map(str, seeds))}"
        )


def _write(form: Format, loaded: Report | StudyReport, out: Path) -> None:
    """Write the page, or the figures, and print where."""
    from neulig_fl.core.errors import plain
    from neulig_fl.core.files import PRIVATE, write_atomically

    if form is Format.HTML:
        echo(plain(write_atomically(out, loaded.page(), PRIVATE)))
        return
    for path in loaded.write_figures(out):
        echo(plain(path))


def _print_as(form: Format, reports: Sequence[Report]) -> None:
    from neulig_fl.report import latex, markdown, tidy

    first = reports[0].data
    if form is Format.CSV:
        text = tidy.csv_text([row for each in reports for row in tidy.records(each.data)])
    elif form is Format.JSON:
        echo_json(first)
        return
    else:
        text = latex.render(first) if form is Format.LATEX else markdown.render(first)
    echo(text, end="")


def _print_study(form: Format, study: StudyReport) -> None:
    from neulig_fl.core.errors import InputError
    from neulig_fl.report import study_tidy

    if form is Format.TEXT:
        study.print()
    elif form is Format.MD:
        echo(study.markdown(), end="")
    elif form is Format.JSON:
        echo_json(study.data)
    elif form is Format.CSV:
        rows = list(study_tidy.records(study.data, study.path.parent))
        echo(study_tidy.csv_text(study_tidy.columns(study.data), rows), end="")
    else:
        raise InputError(
            f"{study.path.parent}: is a study, and --format {form.value} prints one run's report; "
            "name a run's folder in it"
        )


def read_summary(file: Path) -> dict[str, Any]:
    """A run's summary.json, validated.

    Raises:
        InputError: it cannot be read, or is not what its schema says.
    """
    from neulig_fl.report import summary

    return summary.read(file.parent)


def show_seeds(found: dict[str, Any], folder: Path, console: Console) -> None:
    """Print a summary and where each seed's own report lies.

    Args:
        found: the summary.
        folder: the run's folder.
        console: where to.
    """
    from rich.text import Text

    from neulig_fl.core.errors import plain
    from neulig_fl.report import summary, terminal

    summary.show(found, console)
    terminal.heading(console, "The whole reports")
    files = [folder / summary.FILE_NAME]
    files += [folder / f"seed-{seed}" / "report.md" for seed in found["seeds"]]
    for file in files:
        console.print(Text(plain(file), overflow="fold"), style="cyan")
