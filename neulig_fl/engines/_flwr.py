"""Submits one run with Flower's own command and writes down how it ended; a process of its own.

`python -m neulig_fl.engines._flwr STATUS_FILE APP CONNECTION OPTIONS...` loads what the `flwr`
command runs, waits for a line on standard input (the SuperLink is ready), does `flwr run --stream`
and then `flwr list --format json` into STATUS_FILE. One process does both, and starts while the
SuperLink starts, because importing Flower's command takes longer than what it does.

It also stands guard: its standard input ends when the process that started the run is gone, even
if that was killed, and then it ends the rest of the run and removes its folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from neulig_fl.engines._command import fresh_signals, load
from neulig_fl.engines._processes import MARK, end_marked

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
    code = _call(command, ["run", app, connection, "--stream", *options])
    if _ALONE.is_set():
        guard.join()  # It ends the SuperLink, so the command above failed; it ends us as well.
    if code:
        return code
    _redirect(status_file)
    return _call(command, ["list", connection, "--format", "json"])


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


def _redirect(file: str) -> None:
    """Send standard output to a file; Flower's JSON goes past `sys.stdout`, so below Python."""
    sys.stdout.flush()
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(target, 1)
    os.close(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
