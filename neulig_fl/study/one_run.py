"""One run of a study in a process of its own: asked on its standard input, answered on its output.

The process ends with the one that started it, however that ends, so that nothing goes on at work in
a study's folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from neulig_fl.config.overrides import with_text
from neulig_fl.config.scenario import OpenedScenario, validated
from neulig_fl.config.yaml_source import parse
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.files import appending
from neulig_fl.core.run_folders import run_folder
from neulig_fl.runtime.engines import LOG
from neulig_fl.study import runs
from neulig_fl.study.scenario_schema import json_schema

_PATIENCE = 10.0
"""Seconds that a process has to end by itself once the one that started it is gone."""

MOST_REASON = 2000
"""Characters of the reason of a failure."""


def run(opened: OpenedScenario, engine: str, folder: Path, show: runs.Show | None) -> str | None:
    """Run a scenario in this process, in a folder of its own.

    Args:
        opened: of one seed.
        engine: as for `runs.run`.
        folder: the run's; no earlier run lies in it.
        show: takes progress events.

    Returns:
        Why it failed; None where it did not.
    """
    try:
        with run_folder(opened.scenario.name, folder) as held:
            runs.run_opened(opened, engine, held, show)
    except NeuligError as error:
        return str(error)[:MOST_REASON]
    except Exception as error:
        with appending(folder / LOG) as file:
            traceback.print_exc(file=file)
        return f"unexpected {type(error).__name__}: {error}"[:MOST_REASON]
    return None


@dataclass(frozen=True)
class OtherProcess:
    """A run that goes on in a process of its own."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls, opened: OpenedScenario, engine: str, folder: Path) -> OtherProcess:
        """Begin to run a scenario.

        Args:
            opened: of one seed, with all that differs from its text in `overrides`.
            engine, folder: as for `run`.
        """
        asked = {
            "text": opened.text,
            "name": opened.name,
            "folder": str(opened.folder),
            "overrides": list(opened.overrides),
            "engine": engine,
            "out": str(folder.absolute()),
        }
        answers, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (`end` closes them)
        command = [sys.executable, "-m", __name__]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=answers, stderr=errors, start_new_session=True
        )
        found = cls(process, answers, errors)
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()  # and left open: that it closes is the sign to end
        except BrokenPipeError:
            pass  # it ended at once; `reason` says how
        return found

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    @property
    def reason(self) -> str | None:
        """Why it failed, of one that has ended; None where it did not."""
        self.answers.seek(0)
        try:
            said: dict[str, Any] = json.loads(self.answers.read())
            reason: str | None = said["reason"]
        except (ValueError, KeyError, TypeError):
            self.errors.seek(0)
            lines = self.errors.read().decode("utf-8", "replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "no reason given")
            return f"its process ended with code {self.process.returncode}: {last}"[:MOST_REASON]
        return reason

    def end(self) -> None:
        """End it where it goes on, and close its files."""
        if not self.ended:
            self.process.terminate()
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for file in (self.process.stdin, self.answers, self.errors):
            if file is not None:
                file.close()


def _main() -> None:
    """What the process does."""
    out = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no answer
    signal.signal(signal.SIGTERM, _stop)
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source = parse(asked["text"], asked["name"])
    for text in asked["overrides"]:
        source = with_text(source, text)
    opened = validated(source, Path(asked["folder"]), asked["overrides"], json_schema)
    reason = run(opened, asked["engine"], Path(asked["out"]), None)
    with os.fdopen(out, "w") as file:
        json.dump({"reason": reason}, file)


def _stop(number: int, frame: object) -> None:  # noqa: ARG001 (a handler's signature)
    sys.exit(128 + number)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not by `sys.stdin`, whose lock would keep Python from ending
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    _main()
