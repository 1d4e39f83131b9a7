"""Submits one run with Flower's own command and writes down how it ended; a process of its own.

`python -m neulig_fl.runtime.engines._flwr STATUS_FILE APP CONNECTION OPTIONS...` loads what `flwr`
runs, waits for a line on standard input (the SuperLink is ready), does `flwr run`, follows
`flwr log` of the run with the id that came back, and writes `flwr list` of that run to STATUS_FILE.
One process does all this, and starts while the SuperLink starts, because importing Flower's command
takes longer than what it does.

It also stands guard: its standard input ends when the process that started the run is gone, even
if that was killed, and then it ends the rest of the run and removes its folder.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from neulig_fl.core.files import open_privately
from neulig_fl.runtime.engines._command import fresh_signals, load
from neulig_fl.runtime.engines._processes import MARK, end_marked

_ALONE = threading.Event()
"""Set once the process that started the run is gone."""


def main(arguments: Sequence[str]) -> int:
    """Do what this module says.

    Args:
        arguments: the status file, the app's folder, the connection's name, options of `flwr run`.

    Returns:
        0 when the status was written; whether the run succeeded stands in it.
    """
    status_file, app, connection, *options = arguments
    fresh_signals()
    command = load("flwr")
    if not sys.stdin.readline():
        _give_up()
    guard = threading.Thread(target=_guard, daemon=True)
    guard.start()
    run_id = _submit(command, ["run", app, connection, "--format", "json", *options], status_file)
    code = _call(command, ["log", run_id, connection, "--stream"]) if run_id else 1
    if _ALONE.is_set():
        guard.join()  # It ends the SuperLink, so the command above failed; it ends us as well.
    if code:
        return code
    with _output_to(status_file):
        return _call(command, ["list", connection, "--run-id", run_id, "--format", "json"])


def _submit(command: Any, arguments: list[str], file: str) -> str:
    """Submit the run; its id, or "" and a line in the log when Flower did not take it.

    Args:
        command: Flower's.
        arguments: of it.
        file: where its answer is kept for the time being.
    """
    with _output_to(file):
        _call(command, arguments)
    answer = Path(file).read_text(encoding="utf-8", errors="replace")
    Path(file).unlink()
    try:
        return str(int(json.loads(answer)["run-id"]))
    except (ValueError, KeyError, TypeError):
        sys.stdout.write(f"Error: flwr run: {_reason(answer)}\n")
        return ""


def _reason(answer: str) -> str:
    """Why Flower took no run, in one line: its message, or all that it said."""
    try:
        said = str(json.loads(answer)["error-message"])
    except (ValueError, KeyError, TypeError):
        said = answer
    return " ".join(said.split()) or "it said nothing"


def _call(command: Any, arguments: list[str]) -> int:
    """Run one command as if from the command line, without leaving this process."""
    try:
        command(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _guard() -> None:
    """Wait for the end of standard input."""
    while os.read(0, 1024):
        pass
    _ALONE.set()
    _give_up()


def _give_up() -> NoReturn:
    """End the run: nobody waits for it any more."""
    end_marked(os.environ[MARK])
    shutil.rmtree(os.environ[MARK], ignore_errors=True)
    os._exit(1)


@contextmanager
def _output_to(file: str) -> Iterator[None]:
    """Send standard output to a file; Flower's JSON goes past `sys.stdout`, so below Python."""
    sys.stdout.flush()
    before = os.dup(1)
    with open_privately(Path(file), "wb") as target:
        os.dup2(target.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(before, 1)
        os.close(before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
