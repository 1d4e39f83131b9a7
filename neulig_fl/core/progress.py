"""Progress across processes: the server appends events to a file, the command line shows them.

An event is one JSON object a line: {"task": text, "done": n, "total": n} or {"note": text}. A task
with "brief": true is part of another, and worth a bar but no line; "says" is how it stands, such as
a loss or who is waited for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from neulig_fl.core.files import appending

FILE = "progress.jsonl"
_EVERY_SECONDS = 0.1

Event = dict[str, Any]
Show = Callable[[Event], None]


@dataclass
class Bar:
    """One bar: a task with a known total."""

    show: Show
    task: str
    total: int
    brief: bool = False
    done: int = 0
    says: str = ""
    _shown: float = field(default=0.0, repr=False)

    def advance(self, steps: int = 1, says: str | None = None) -> None:
        """Count steps; shown ten times a second at most, and at the end.

        Args:
            steps: done since.
            says: how the task stands now; None: as before.
        """
        self.done += steps
        self.says = self.says if says is None else says
        if self.done >= self.total or time.monotonic() - self._shown >= _EVERY_SECONDS:
            self._tell()

    def say(self, text: str) -> None:
        """Say how the task stands; shown at once."""
        self.says = text
        self._tell()

    def _tell(self) -> None:
        self._shown = time.monotonic()
        event = {"task": self.task, "done": self.done, "total": self.total}
        says = {"says": self.says} if self.says else {}
        self.show(event | says | ({"brief": True} if self.brief else {}))


@dataclass(frozen=True)
class Progress:
    """Where progress goes.

    Args:
        show: takes every event.
    """

    show: Show

    def task(self, name: str, total: int, *, brief: bool = False) -> Bar:
        """Begin a bar; a brief one is part of another."""
        bar = Bar(self.show, name, total, brief)
        bar.advance(0)
        return bar

    def note(self, text: str) -> None:
        """Say one line."""
        self.show({"note": text})


def to_file(path: Path) -> Progress:
    """Progress that is appended to a file."""

    def show(event: Event) -> None:
        with appending(path) as file:
            file.write(json.dumps(event) + "\n")

    return Progress(show)


class Follower:
    """Shows the events that other threads or processes append to files.

    Args:
        paths: the files; they may not be there yet, and may begin anew.
        show: takes every event, those of one file in order.
    """

    def __init__(self, paths: Sequence[Path], show: Show) -> None:
        self._show = show
        self._read = dict.fromkeys(paths, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="progress")

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._pass_on()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self._pass_on()

    def _pass_on(self) -> None:
        for path, read in self._read.items():
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                if size != read:
                    self._read[path] = self._pass_on_from(path, read if size > read else 0)

    def _pass_on_from(self, path: Path, read: int) -> int:
        """How far the file is read then."""
        with path.open("rb") as file:
            file.seek(read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._show(json.loads(line))
        return read + len(whole)
