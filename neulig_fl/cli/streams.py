"""Standard streams as a command finds them: closed, gone in the middle, or of another encoding."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, TextIO

import click

from neulig_fl.core.errors import plain

_MODES = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))


def prepare(debug: bool) -> None:
    """Make the standard streams usable by a command, whatever it was started with.

    A closed one becomes the null device: otherwise the next file that is opened takes its number,
    and what is printed goes into it. A character that an encoding lacks is written as its escape.
    What libraries log goes into the log of a run, and to the terminal only with `--debug`.

    Args:
        debug: whether the user asked for tracebacks.
    """
    for number, (name, mode) in enumerate(_MODES):
        _plug(number, mode)
        if getattr(sys, name) is None:
            # The command needs it to its end.
            setattr(sys, name, open(os.devnull, "r" if mode == os.O_RDONLY else "w"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not debug:
        logging.getLogger().addHandler(logging.NullHandler())


def _plug(number: int, mode: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)


def echo(text: str, *, end: str = "\n") -> None:
    r"""Print lines to the standard output; what would move a cursor is printed as its escape.

    Names of files, of clients and in reports come from others.
    """
    click.echo("\n".join(map(plain, text.split("\n"))) + end, nl=False)


def echo_json(value: Any, indent: int = 1) -> None:
    """Print a value as JSON, readable as JSON and by a terminal alike."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def silence(stream: TextIO) -> None:
    """Send what is still buffered nowhere, so that Python does not fail on it at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
