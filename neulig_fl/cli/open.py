"""`neulig-fl open`: show a run's page in the browser, or say where it lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from neulig_fl.cli.streams import echo
from neulig_fl.core.run_folders import RUN_PAGE, STUDY_PAGE


def open_page(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="The folder of a run, of one seed, or of a study."),
    ],
    only_print: Annotated[
        bool, typer.Option("--print", help="Print where the page lies; open nothing.")
    ] = False,
) -> None:
    """Open the page of a run (report.html) or of a study (study.html) in your browser.

    Without a display, as over SSH, it prints the page's path and its URI instead.

    [bold]Examples[/]
      neulig-fl open runs/quickstart/20250101-120000
      neulig-fl open runs/quickstart/20250101-120000 --print
    """
    page = find(run).absolute()
    if not only_print and _has_display() and _opened(page.as_uri()):
        echo(f"opened {page}")
        return
    echo(str(page))
    echo(page.as_uri())


def find(run: Path) -> Path:
    """The page in a folder.

    Args:
        run: of a run, of one seed of it, or of a study.

    Raises:
        InputError: there is no page; the message says how one is made.
    """
    from neulig_fl.core.errors import InputError
    from neulig_fl.report import contract

    if not run.is_dir():
        raise InputError(f"{run}: is no folder; name the folder of a run or a study")
    for page in (RUN_PAGE, STUDY_PAGE):
        if (run / page).is_file():
            return run / page
    if (run / contract.FILE_NAME).is_file():
        raise InputError(
            f"{run}: has no {RUN_PAGE}; `neulig-fl report {run} --format html` makes it"
        )
    below = sorted(page.parent for page in run.glob(f"seed-*/{RUN_PAGE}"))
    if below:
        names = ", ".join(map(str, below))
        raise InputError(f"{run}: has several seeds, each with a page; name one of {names}")
    raise InputError(f"{run}: no page is there, nor a report; {contract.why_not(run)}")


def _has_display() -> bool:
    """Whether a browser can show itself to whoever typed the command."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _opened(uri: str) -> bool:
    import webbrowser

    try:
        return webbrowser.open(uri)
    except webbrowser.Error:
        return False
