"""`neulig-fl runs`: the runs of a folder, with their state and what they came to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.options import AsJson
from neulig_fl.cli.streams import echo, echo_json
from neulig_fl.core.run_folders import RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from neulig_fl.report.kept_runs import KeptRun

_STYLE = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow"}


def runs(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder of runs, or the folder of one run."),
    ] = RUNS,
    as_json: AsJson = False,
) -> None:
    """List runs, the latest last: when each began, its state, and its last stage's accuracy.

    States: `done`; `running`, while a process works in the folder; `failed`, with the reason;
    `interrupted`, where nothing says how it ended, as after Ctrl-C.

    [bold]Examples[/]
      neulig-fl runs
      neulig-fl runs results --json
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.core.errors import InputError
    from neulig_fl.report import kept_runs, tables

    if not folder.is_dir() and folder != RUNS:
        raise InputError(f"{folder}: is no folder; name one that holds runs")
    found = list(kept_runs.found(folder))
    if as_json:
        echo_json([_record(run) for run in found])
    elif not found:
        echo(f"{folder}: no run is there; `neulig-fl run SCENARIO` makes one")
    else:
        tables.print_first_that_fits(PlainConsole(), [_wide(found), _narrow(found)])


def _record(run: KeptRun) -> dict[str, str]:
    return {
        "folder": str(run.folder),
        "began": run.began.isoformat(timespec="seconds"),
        "state": run.state,
        "says": run.says,
    }


def _wide(found: Sequence[KeptRun]) -> Table:
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    table = empty_table(["Run", "Began", "State", "Result or reason"], words=4)
    for run in found:
        state = Text(run.state, style=_STYLE[run.state])
        table.add_row(Text(str(run.folder)), Text(f"{run.began:%Y-%m-%d %H:%M}"), state, run.says)
    return table


def _narrow(found: Sequence[KeptRun]) -> Table:
    """Result and reason stand below the folder."""
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    table = empty_table(["Run", "Began", "State"], words=3, gap=1)
    for run in found:
        name = Text(str(run.folder)).append(f"\n  {run.says}", style="dim")
        state = Text(run.state, style=_STYLE[run.state])
        table.add_row(name, Text(f"{run.began:%m-%d %H:%M}"), state)
    return table
