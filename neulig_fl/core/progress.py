"""Progress across processes: the server appends events to a file, the command line shows them.

An event is one JSON object a line: {"task": text, "done": n, "total": n} or {"note": text}.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
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
    done: int = 0
    _shown: float = field(default=0.0, repr=False)

    def advance(self, steps: int = 1) -> None:
        """Count steps; shown ten times a second at most, and at the end."""
        self.done += steps
        now = time.monotonic()
        if self.done >= self.total or now - self._shown >= _EVERY_SECONDS:
            self._shown = now
            self.show({"task": self.task, "done": self.done, "total": self.total})


@dataclass(frozen=True)
class Progress:
    """Where progress goes.

    Args:
        show: takes every event.
    """

    show: Show

    def task(self, name: str, total: int) -> Bar:
        """Begin a bar."""
        bar = Bar(self.show, name, total)
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
    """Shows the events that another thread or process appends to a file.

    Args:
        path: the file; it may not be there yet.
        show: takes every event, in order.
    """

    def __init__(self, path: Path, show: Show) -> None:
        self._path = path
        self._show = show
        self._read = 0
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
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._show(json.loads(line))
