"""Progress on the standard error: bars on a terminal, lines for finished tasks anywhere.

The report goes to the standard output, so `neulig-fl run x.yaml > report.txt` keeps it clean.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from neulig_fl.core.consoles import PlainConsole
from neulig_fl.core.progress import Event, Show

_NARROW, _MIDDLE = 50, 80

QUIET_SECONDS = 15.0
"""Where there is no bar, a line is printed after so long at the next step."""


class _Errors(PlainConsole):
    """The standard error; where its reader is gone, Rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Show nothing more."""
        self.quiet = True


class Live:
    """Shows progress events; use it as a context manager and call it with each event.

    Args:
        console: where to; the standard error by default. What is no terminal gets lines only.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Errors(stderr=True)
        self._bars = Progress(
            *_columns(self._console.width),
            console=self._console,
            transient=True,
            expand=True,  # the name takes what the others leave, and no more
            disable=not self._console.is_terminal,
        )
        self._running: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Live:
        with suppress(OSError):
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event, as `core.progress` describes them."""
        # A run goes on when its terminal or pipe is gone.
        with suppress(OSError):
            if "note" in event:
                self._line(str(event["note"]))
            elif event["total"] > 0 and not (event.get("brief") and self._bars.disable):
                self._advance(str(event["task"]), int(event["done"]), int(event["total"]), event)

    def _advance(self, task: str, done: int, total: int, event: Event) -> None:
        if task not in self._running:
            self._began[task] = time.monotonic()
            self._running[task] = self._bars.add_task("", total=total)
        says = f"; {event['says']}" if event.get("says") else ""
        shown = _plain(task + says)
        self._bars.update(self._running[task], description=shown, completed=done, total=total)
        if done >= total:
            self._bars.remove_task(self._running.pop(task))
            seconds = time.monotonic() - self._began.pop(task)
            if not event.get("brief"):
                self._line(f"{task}: {done} of {total}, {seconds:.1f} s{says}")
        elif self._bars.disable and time.monotonic() - self._said >= QUIET_SECONDS:
            self._line(f"{task}: {done} of {total}{says}")

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        self._console.print(Text(_plain(text), overflow="fold"), highlight=False)


class Lines:
    """Shows progress events as JSON, one a line with its time (UTC); for programs."""

    def __init__(self) -> None:
        self._console = _Errors(stderr=True)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event})
        with suppress(OSError):
            self._console.print(Text(line), highlight=False, soft_wrap=True)


def silent(event: Event) -> None:
    """Shows nothing."""


@contextmanager
def display(*, quiet: bool = False, as_json: bool = False) -> Iterator[Show]:
    """What shows progress events within the block.

    Args:
        quiet: nothing is shown.
        as_json: JSON lines in place of bars.
    """
    if quiet or as_json:
        yield silent if quiet else Lines()
        return
    with Live() as live:
        yield live


def _columns(width: int) -> list[ProgressColumn]:
    """The name takes what the others leave; a narrow terminal has fewer others."""
    name = TextColumn(
        "{task.description}",
        markup=False,
        table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
    )
    columns: list[ProgressColumn] = [name]
    if width >= _MIDDLE:
        columns.append(BarColumn(bar_width=20))
    columns.append(MofNCompleteColumn())
    if width >= _NARROW:
        columns.append(TimeElapsedColumn())
    if width >= _MIDDLE:
        columns.append(TimeRemainingColumn())
    return columns


def _plain(text: str) -> str:
    """A text without what would move a terminal's cursor; a reason may come from a client."""
    return "".join(each if each.isprintable() else " " for each in text)
