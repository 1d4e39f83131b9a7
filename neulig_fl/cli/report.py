"""`neulig-fl report`: print a run's report again, or the summary of its seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def report(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="The folder of a run, or of one seed of it."),
    ],
) -> None:
    """Print the report of an earlier run, or the summary of its seeds.

    The output is fitted to the terminal's width; report.md in the same folder has every figure.

    [bold]Examples[/]
      neulig-fl report runs/quickstart/20250101-120000
      neulig-fl report runs/many-seeds/20250101-120000/seed-7
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.report import Report, summary

    file = run / summary.FILE_NAME
    if file.is_file():
        show_seeds(read_summary(file), run, PlainConsole())
    else:
        Report.load(run).print()


def read_summary(file: Path) -> dict[str, Any]:
    """A run's summary.json, validated.

    Raises:
        InputError: it cannot be read, or is not what its schema says.
    """
    from neulig_fl.core import regular_files, strict_json
    from neulig_fl.core.errors import InputError, RunError
    from neulig_fl.report import summary

    try:
        found: dict[str, Any] = strict_json.parsed(regular_files.read(file))
        summary.validate(found)
    except (OSError, ValueError, RunError) as error:
        raise InputError(f"{file}: not a summary ({error}); run the scenario again") from error
    return found


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
