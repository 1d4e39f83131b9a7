"""Commands with standard streams and settings of every kind."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from command_line import Line

from neulig_fl.core.live import Live

COMMAND = f"{shlex.quote(sys.executable)} -m neulig_fl"


def _sh(script: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **variables}
    return subprocess.run(["bash", "-c", script], cwd=cwd, env=environment, capture_output=True)


def test_closed_streams_take_nothing_with_them(data: Path, tmp_path: Path) -> None:
    """Without it what is printed could go into the first file that a run opens."""
    tiny.write(tmp_path, data, model={"name": "micro-vit", "pretrained": "none"})
    ended = _sh(f"{COMMAND} check scenario.yaml 0<&- 1>&- 2>&-", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert _sh(f"{COMMAND} check nowhere.yaml 0<&- 1>&- 2>&-", tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("{} schema > /dev/full", 1, b"error: the standard output: No space left on device\n"),
        ("{} check nowhere.yaml 2> /dev/full", 2, b""),
        ("set -o pipefail; {} schema | true", 141, b""),
    ],
)
def test_a_stream_that_takes_nothing_is_said_in_one_line(
    script: str, code: int, said: bytes, tmp_path: Path
) -> None:
    """Without it a full disk or a pipe that ends would be a traceback of Python's own end."""
    ended = _sh(script.format(COMMAND), tmp_path)
    assert (ended.returncode, ended.stderr) == (code, said)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "COLUMNS": "1", "TERM": "dumb"},
    ],
)
def test_names_and_settings_of_every_kind(variables: dict[str, str], tmp_path: Path) -> None:
    """Without it a file of an old encoding, or a locale without umlauts, would end a command."""
    odd = b"d\xff \xc3\xbc$x~.yaml"
    ended = _sh(f"{COMMAND} check $'d\\xff \\xc3\\xbc$x~.yaml'", tmp_path, **variables)
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: d")
    assert ended.stderr.endswith(b"there is no such file; check the path\n")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + odd)).write_text("name: x")
    ended = _sh(f"{COMMAND} check $'d\\xff \\xc3\\xbc$x~.yaml'", tmp_path, **variables)
    assert b"~.yaml:1:1: clients: is missing" in ended.stderr


class _Gone:
    """A stream whose other side is gone."""

    encoding = "utf-8"

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, _: str) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def flush(self) -> None:
        """Have nothing to flush."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_a_run_goes_on_when_its_terminal_is_gone(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it hours of a run under nohup would end with a line of its progress."""
    monkeypatch.setattr(sys, "stderr", _Gone(number))
    with Live() as live:
        live({"note": "begun"})
        live({"task": "training", "done": 1, "total": 1})


def test_a_librarys_log_is_not_on_the_terminal(
    line: Line, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a library's logger would print the traceback that we keep for the log."""
    code = (
        "import logging, sys; from neulig_fl import cli; from neulig_fl.study import scenario_schema\n"
        "def fails(*_):\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: logging.exception('of a library')\n"
        "    return {}\n"
        "scenario_schema.json_schema = fails\n"
        "cli.main(sys.argv[1:])"
    )
    for arguments, seen in ((["schema"], False), (["schema", "--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert ("Traceback" in done.stderr) == seen
