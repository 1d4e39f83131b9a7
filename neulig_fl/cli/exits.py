"""How a command ends: its exit code, and one plain line on the standard error that says why.

Errors are plain text that begins with `error: `, without colours or boxes, so that a path can be
copied and a log can be searched. Notes that were added to an exception on its way (`add_note`) say
where the log is and what is kept; they follow the line.
"""

from __future__ import annotations

import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import click

from neulig_fl.cli import streams
from neulig_fl.core.errors import InputError, NeuligError, plain

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_BROKEN_PIPE = 141


def run(command: click.Command, arguments: list[str]) -> int:
    """Run a command line; the exit code.

    Args:
        command: the root command.
        arguments: without the program's name; `--debug` may stand anywhere among them.
    """
    debug = "--debug" in arguments
    streams.prepare(debug)
    try:
        try:
            _require_current_folder()
            _invoke(command, [each for each in arguments if each != "--debug"])
            sys.stdout.flush()
        except BaseException:
            if debug:
                say(traceback.format_exc().rstrip("\n"))
            raise
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.ClickException as error:
        return _usage(error)
    except SystemExit as end:
        return _stopped(end)
    except (KeyboardInterrupt, click.Abort) as stop:
        say("interrupted", stop)
        return INTERRUPTED
    except NeuligError as error:
        say_error(error)
        return error.exit_code
    except BrokenPipeError:
        streams.silence(sys.stdout)
        return _BROKEN_PIPE
    except OSError as error:
        streams.silence(sys.stdout)
        say(f"error: {error.filename or 'the standard output'}: {error.strerror or error}", error)
        return FAILED
    except Exception as error:
        say(f"error: unexpected {type(error).__name__}: {error}", error)
        if not debug:
            say("`--debug` shows the traceback; please report it")
        return FAILED
    return DONE


def _require_current_folder() -> None:
    """A shell can stand in a folder that was removed; then libraries of torch end the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used ({error.strerror}); change to another one"
        ) from error


def _invoke(command: click.Command, arguments: list[str]) -> None:
    """Click's own `main` would turn Ctrl-C and errors into its own words."""
    with command.make_context("neulig-fl", arguments) as context:
        command.invoke(context)


def say(text: str, error: BaseException | None = None) -> None:
    """Write a line, and the notes of an exception, to the standard error."""
    with suppress(OSError):  # Nobody listens any more; the exit code tells.
        for line in (text, *getattr(error, "__notes__", ())):
            shown = "\n".join(map(plain, line.split("\n")))
            print(shown, file=sys.stderr, flush=True)  # noqa: T201


def say_error(error: NeuligError) -> None:
    """Write one of our own errors, `error: ` before each of its lines, and its notes."""
    say(_each_line(str(error)), error)


def _each_line(message: str) -> str:
    """`error: ` before every line that is a finding of its own; indented lines belong to theirs."""
    lines = message.split("\n")
    return "\n".join(line if line.startswith(" ") else f"error: {line}" for line in lines)


def _usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    # Typer and newer versions of Click both add what was probably meant.
    again = r"( Did you mean [^?]*\?)(?:\1+| \(Did you mean [^)]*\))"
    message = re.sub(again, r"\1", error.format_message())
    say(f"error: {message}")
    if context is not None:
        say(f"see `{context.command_path} --help`")
    return BAD_INPUT


def _stopped(end: SystemExit) -> int:
    """A signal to end (SIGTERM, SIGHUP) comes as a SystemExit of 128 and its number.

    A reader that is gone comes as one too, of Rich's.
    """
    if isinstance(end.__context__, BrokenPipeError):
        return _BROKEN_PIPE
    code = end.code if isinstance(end.code, int) else FAILED
    if code > 128:
        say(f"ended by signal {code - 128}", end)
    return code
