"""`neulig-fl run`: a scenario from its file to its printed report."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from neulig_fl.cli.options import LogJson, LogLevelOption, Quiet, Settings, log_at
from neulig_fl.cli.streams import echo

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from neulig_fl.config.scenario import Scenario
    from neulig_fl.core.progress import Show
    from neulig_fl.report import Report
    from neulig_fl.report.study_report import StudyReport

LOG_END = 200_000
"""Characters at the end of a log in which a reason is looked for."""

FEW = 5
"""Experts that are listed by name at the end of a run."""

_DEFAULT = click.core.ParameterSource.DEFAULT

_MARK = re.compile(r"\bat client '([^']+)'$")
"""What `flower_messages.at_client` writes below an error."""

CACHED = "trained experts are kept in the cache"
KEPT = f"{CACHED}; the same command goes on from there"
RESUME = "`neulig-fl run --resume {}` goes on from there"


def run(
    context: typer.Context,
    scenario: Annotated[
        Path | None,
        typer.Argument(metavar="SCENARIO", help="Scenario file (YAML); `-` reads standard input."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="`simulation`: Flower's simulation engine, one process per active client; "
            "`local`: the same apps sequentially in this process, easier to debug."
        ),
    ] = "simulation",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run.", show_default="runs/NAME/TIME"),
    ] = None,
    server_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the server's keys, which clients can pin (`neulig-fl keys FOLDER` "
            "prints the public key).",
            show_default="new keys for this run, or those in --stores",
        ),
    ] = None,
    stores: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the clients' stores: keys, ledgers, released records. With the same "
            "folder, limits accumulate over runs.",
            show_default="new stores for this run",
        ),
    ] = None,
    no_reference: Annotated[
        bool,
        typer.Option(
            "--no-reference",
            help="Do not measure each expert's own accuracy, an exact figure that only a "
            "simulation has.",
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="Go on with the run in this folder, which was broken off, from its first "
            "unfinished stage; everything else is as it was when the run began.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    log_json: LogJson = False,
    log_level: LogLevelOption = None,
    settings: Settings = [],  # noqa: B006 (typer copies it)
) -> None:
    r"""Run a scenario and print its report.

    Trained experts are cached (NEULIG_CACHE sets the folder): a second run trains none. A run that
    was interrupted goes on with --resume and its folder, and gives the same results.

    [bold]Examples[/]
      neulig-fl run scenarios/quickstart.yaml
      neulig-fl run my.yaml --engine local --out results --set experts.epochs=2 --set seed=8
      neulig-fl run --resume results

    The report is written to the run's folder as [bold]report.html[/] (a page with figures),
    [bold]report.md[/] and [bold]report.json[/].
    Exit codes: 0 success, 1 the run failed, 2 invalid input, 130 interrupted, 143 or 129 ended by
    SIGTERM or SIGHUP.
    """
    show = shown(quiet=quiet, log_json=log_json)
    log_at(log_level)
    if resume is not None:
        _resume(context, resume, show)
        return
    if scenario is None:
        raise click.UsageError("Missing argument 'SCENARIO'.", context)
    from neulig_fl.config.tasks import READ_FILES
    from neulig_fl.study.checking import open_scenario

    opened = open_scenario(scenario, settings)
    read = opened.scenario
    from neulig_fl.core.run_folders import run_folder
    from neulig_fl.runtime import engines, machine
    from neulig_fl.study import runs

    engines.load(engine)
    machine.require(read.resources, opened.name)
    # What comes with the package cannot be wrong, and opening it loads torch once more.
    if read.tasks or any(c.checkpoint or c.task in READ_FILES for c in read.clients):
        from neulig_fl.cli.check import require_sound

        require_sound(opened)
    kept = runs.Kept(server_keys, stores, not no_reference)
    with run_folder(read.name, out) as folder:
        with _explained(folder), show() as live:
            live({"note": f"{opened.name}: {engine} engine, in {folder}"})
            reports = runs.run_opened(opened, engine, folder, live, kept)
        _draw(reports, show)
        _show(read, folder, reports)


def _resume(
    context: typer.Context, folder: Path, show: Callable[[], AbstractContextManager[Show]]
) -> None:
    """Go on with a run; it is as it was begun, so nothing else can be said."""
    from neulig_fl.core.errors import InputError
    from neulig_fl.core.run_folders import resumed_folder

    given = {n for n in context.params if context.get_parameter_source(n) is not _DEFAULT}
    others = sorted(given - {"resume", "quiet", "log_json", "log_level"})
    if others:
        names = ", ".join(n.replace("_", "-") for n in others)
        raise InputError(
            f"--resume {folder}: takes no {names}; the run goes on as it was begun, by what its "
            "folder says"
        )
    with resumed_folder(folder):
        from neulig_fl.study import resumption

        if resumption.is_done(folder):
            echo(f"{folder}: the run is done; `neulig-fl report {folder}` prints its report")
            return
        whole = resumption.opened(folder)
        with _explained(folder), show() as live:
            live({"note": f"{folder}: goes on, {whole.engine} engine"})
            reports = resumption.resume(whole, folder, live)
        _draw(reports, show)
        _show(whole.opened.scenario, folder, reports)


def shown(*, quiet: bool, log_json: bool) -> Callable[[], AbstractContextManager[Show]]:
    """How progress is shown, as the options say.

    Raises:
        InputError: they contradict each other.
    """
    from neulig_fl.core.errors import InputError
    from neulig_fl.core.live import display

    if quiet and log_json:
        raise InputError("--quiet shows no progress, and --log-json shows it; give one of them")
    return partial(display, quiet=quiet, as_json=log_json)


def _draw(reports: list[Report], show: Callable[[], AbstractContextManager[Show]]) -> None:
    """Write each seed's page; the results are on the disk already, and stay."""
    with show() as live:
        live({"note": "drawing the page"})
        for report in reports:
            drawn(report)


def drawn(report: Report | StudyReport) -> None:
    """Write a page; an error says that the results are kept."""
    from neulig_fl.core.errors import RunError

    try:
        report.write_page()
    except RunError as error:
        error.add_note(
            f"the results are kept in {report.path}; "
            "`neulig-fl report FOLDER --format html` writes the page"
        )
        raise


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Add to whatever ends a run where its log is, and what is kept."""
    from neulig_fl.core.errors import ClientRefused, InputError, NeuligError
    from neulig_fl.core.files import appending

    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        stop.add_note(_goes_on(folder))
        raise
    except NeuligError as error:
        log = _log(folder)
        error.args = (with_reason(str(error), log),)
        if log.is_file() and str(log) not in str(error):
            error.add_note(f"the log is {log}")
        if isinstance(error, ClientRefused):  # it would refuse the same again
            error.add_note(CACHED)
        elif not isinstance(error, InputError):
            error.add_note(_kept(folder))
        raise
    except Exception as error:
        log = _log(folder)
        with suppress(NeuligError), appending(log) as file:  # the disk may be full
            traceback.print_exc(file=file)
        error.add_note(f"the log is {log}; {_kept(folder)}")
        raise


def with_reason(message: str, log: Path) -> str:
    """The message, with what the log says where the message has no more than an error's class.

    A client tells the server no more than that, because a text may hold paths and values. The log
    of a run on one machine, where everything is its user's own, has the whole.

    Args:
        message: of the error that ended the run.
        log: what Flower and the apps logged.
    """
    from neulig_fl.core import errors

    ours = [name for name, found in vars(errors).items() if isinstance(found, type)]
    named = re.search(rf": (?:unexpected (\w+)|({'|'.join(ours)}))(?=;|$)", message)
    if named is None or not log.is_file():
        return message
    text = log.read_text(encoding="utf-8", errors="replace")[-LOG_END:]
    raised = rf"(?:^|[ .]){named[1] or named[2]}: (.+)$"
    client = re.match(r"client '([^']+)'", message)
    if client is not None and any(_MARK.search(line) for line in text.splitlines()):
        text = _of_client(text, client[1])
    said = re.findall(raised, text, re.MULTILINE)
    if not said:
        return message
    return f"{message[: named.end()]} ({said[-1][:400]}){message[named.end() :]}"


def _of_client(text: str, name: str) -> str:
    """What a log holds up to a client's marks, from the mark of another before each of them."""
    found, since = [], 0
    lines = text.splitlines()
    for at, line in enumerate(lines):
        mark = _MARK.search(line)
        if mark is not None:
            found += lines[since:at] if mark[1] == name else []
            since = at + 1
    return "\n".join(found)


def _log(folder: Path) -> Path:
    """The log of the seed that ran last."""
    from neulig_fl.runtime.engines import LOG

    logs = sorted(folder.glob(f"**/{LOG}"), key=lambda path: path.stat().st_mtime)
    return logs[-1] if logs else folder / LOG


def _goes_on(folder: Path) -> str:
    """How a run that was interrupted goes on."""
    from neulig_fl.core.run_folders import STARTED_FILE

    return RESUME.format(folder) if (folder / STARTED_FILE).is_file() else KEPT


def _kept(folder: Path) -> str:
    """What goes on from where; a folder with some seeds' reports is not written to again."""
    from neulig_fl.core import unfinished_runs

    if unfinished_runs.is_resumable(folder):
        return RESUME.format(folder)
    if any(folder.glob("**/report.json")):
        return f"{KEPT}, with another --out: {folder} holds reports"
    return KEPT


def _show(read: Scenario, folder: Path, reports: list[Report]) -> None:
    from neulig_fl.core.consoles import PlainConsole

    console = PlainConsole()
    if len(reports) > 1:
        from neulig_fl.cli.report import read_summary, show_seeds
        from neulig_fl.report import summary

        show_seeds(read_summary(folder / summary.FILE_NAME), folder, console)
        console.print(_experts(read, reports))
    else:
        reports[0].print_brief(console, [_experts(read, reports)])


def _experts(read: Scenario, reports: list[Report]) -> str:
    """Which experts were trained now, and which were there; how many, where they are many."""
    found: dict[str, list[str]] = {}
    for report in reports:
        for words, names in origins(read, report).items():
            found.setdefault(words, []).extend(names)
    there = {words: names for words, names in found.items() if names}
    if sum(map(len, there.values())) <= FEW:
        return "Experts " + "; ".join(f"{words}: {', '.join(n)}" for words, n in there.items())
    return "Experts: " + ", ".join(f"{len(n)} {words}" for words, n in there.items())


def origins(read: Scenario, report: Report) -> dict[str, list[str]]:
    """Where the experts of one run came from, as `client (group)`.

    Args:
        read: the scenario.
        report: of one seed, on disk.
    """
    from neulig_fl.runtime.engines import OUTCOME

    found: dict[str, list[str]] = {"trained now": [], "from the cache": [], "given": []}
    if report.path is None:
        return found
    outcome = json.loads((report.path.parent / OUTCOME).read_text(encoding="utf-8"))
    for group, prepared in outcome["prepared"].items():
        for client in read.clients:
            if client.name not in prepared:
                continue
            words = "given" if client.checkpoint else "from the cache"
            words = "trained now" if prepared[client.name] else words
            found[words].append(f"{client.name} ({group})")
    return found
