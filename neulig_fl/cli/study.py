"""`neulig-fl study`: one scenario in several cases and over several seeds, and its answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.options import AsJson, LogJson, LogLevelOption, Quiet, Settings, log_at
from neulig_fl.cli.streams import echo, echo_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from neulig_fl.core.progress import Show
    from neulig_fl.study.study_files import OpenedStudy

KEPT = "finished runs and trained experts are kept; the same command goes on from there"


def study(
    file: Annotated[
        Path,
        typer.Argument(metavar="STUDY", help="Study file (YAML); `-` reads standard input."),
    ],
    engine: Annotated[
        str,
        typer.Option(
            help="`simulation`: Flower's simulation engine; `local`: the same apps sequentially "
            "in one process."
        ),
    ] = "simulation",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the study.", show_default="studies/NAME"),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(min=1, max=256, help="Number of runs at a time, each in its own process."),
    ] = 1,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Run nothing: list the cases, the runs that are finished, the experts that must "
            "be trained, and an estimate of the time.",
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_json: LogJson = False,
    log_level: LogLevelOption = None,
    settings: Settings = [],  # noqa: B006 (typer copies it)
) -> None:
    r"""Run every case of a study with every seed, and compare the cases.

    A study names a scenario, the cases in which it is run (overrides, a grid, or both) and the
    seeds. Runs share experts through the cache. Finished runs are never repeated: after an
    interruption, or with more cases or seeds, the same command goes on. A run that fails is named,
    and the others go on; the exit code is then 1.

    [bold]Examples[/]
      neulig-fl study scenarios/studies/privacy-stages.yaml --plan
      neulig-fl study scenarios/studies/privacy-stages.yaml --engine local --jobs 2
      neulig-fl study my-study.yaml --set seeds=\[7,8,9]

    The folder gets [bold]study.html[/] (a page with figures), [bold]study.md[/],
    [bold]study.json[/], [bold]runs.csv[/] and [bold]runs.parquet[/] (with pyarrow), and a run's
    folder for each case and seed.
    """
    from neulig_fl.cli.run import shown
    from neulig_fl.core.errors import InputError
    from neulig_fl.runtime import engines
    from neulig_fl.study.study_files import open_study

    if as_json and not plan:
        raise InputError("--json prints a plan: give --plan too (a study's is study.json)")
    log_at(log_level)
    opened = open_study(file, settings)
    if plan:
        engines.load(engine)
        _plan(opened, out, as_json)
    else:
        _run(opened, engine, out, jobs, shown(quiet=quiet, log_json=log_json))


def _run(
    opened: OpenedStudy,
    engine: str,
    out: Path | None,
    jobs: int,
    show: Callable[[], AbstractContextManager[Show]],
) -> None:
    from neulig_fl.cli.check import require_sound_cases
    from neulig_fl.cli.exits import FAILED
    from neulig_fl.cli.run import drawn
    from neulig_fl.runtime import engines
    from neulig_fl.study import studies

    engines.load(engine)
    require_sound_cases(opened)
    try:
        with show() as live:
            report = studies.run_opened(opened, engine, out, jobs, live)
            live({"note": "drawing the page"})
            drawn(report)
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(KEPT)
        raise
    report.print()
    if any(run["state"] == "failed" for run in report.data["runs"]):
        raise typer.Exit(FAILED)


def _plan(opened: OpenedStudy, out: Path | None, as_json: bool) -> None:
    from neulig_fl.cli.check import require_sound_cases
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.study import study_outlook

    require_sound_cases(opened)
    outlook = study_outlook.foreseen(opened, out)
    if as_json:
        echo_json(outlook.record())
        return
    for line in outlook.lines():
        echo(line)
    PlainConsole().print(outlook.table())
