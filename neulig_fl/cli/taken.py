"""What `neulig-fl check` says of tasks: images taken, by class and split, and what is left out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from neulig_fl.core.live import Live
    from neulig_fl.data.sources import Task
    from neulig_fl.records.release_plan import Setting

MOST_CLASSES = 12
"""Of more classes than these only the smallest are shown."""

FEWEST = 3
PATIENCE_SECONDS = 2.0
"""Work that takes longer has a bar."""

_NAME_WIDTH = 30


def lines(setting: Setting) -> Iterator[str]:
    """A line for the built-in tasks, and a few for each task of the user's own."""
    built_in = [t for name, t in setting.tasks.items() if name not in setting.scenario.tasks]
    if built_in:
        counted = ", ".join(f"{t.name} ({len(t.source.ids()):,} images)" for t in built_in)
        yield f"built-in tasks: {counted}"
    for name, task in setting.tasks.items():
        if name in setting.scenario.tasks:
            yield from _of_own(task)


def _of_own(task: Task) -> Iterator[str]:
    from neulig_fl.data.image_source import ImageSource

    source = task.source
    classes = source.class_names
    yield f"task {task.name}: {len(source.ids()):,} images of {len(classes)} classes"
    rows = _rows(task)
    if len(rows) > MOST_CLASSES:
        least, most = int(rows[:, 0].min()), int(rows[:, 0].max())
        yield f"  {least:,} to {most:,} images a class; the classes with the fewest:"
    fewest = np.argsort(rows[:, 0], kind="stable")[:FEWEST]
    shown = range(len(rows)) if len(rows) <= MOST_CLASSES else sorted(fewest.tolist())
    yield from _table([classes[i] for i in shown], rows[list(shown)])
    if isinstance(source, ImageSource):
        yield from (f"  left out: {words}" for words in source.left_out() or ["nothing"])
        yield from (f"  note: {words}" for words in source.remarks())


def _rows(task: Task) -> np.ndarray:
    """Images of every class in all and in every split, shape (classes, 1 + splits)."""
    from neulig_fl.data.sources import SPLITS

    everywhere = [np.arange(len(task.source.ids())), *map(task.indices, SPLITS)]
    least = len(task.source.class_names)
    return np.stack([np.bincount(task.labels(at), minlength=least) for at in everywhere], axis=1)


def _table(names: Sequence[str], rows: np.ndarray) -> Iterator[str]:
    from rich.cells import cell_len, set_cell_size

    from neulig_fl.data.sources import SPLITS

    width = min(max(map(cell_len, ("class", *names))), _NAME_WIDTH)
    heads = ("images", *SPLITS)
    yield f"  {set_cell_size('class', width)}  {'  '.join(heads)}"
    for name, row in zip(names, rows, strict=True):
        counts = "  ".join(
            f"{n:>{len(head)},}" for head, n in zip(heads, row.tolist(), strict=True)
        )
        yield f"  {set_cell_size(name, width)}  {counts}"


@contextmanager
def watched(setting: Setting) -> Iterator[None]:
    """Show a bar on a terminal while images are decoded, if that takes long."""
    from neulig_fl.data.image_source import ImageSource

    with ExitStack() as stack:
        for name, task in setting.tasks.items():
            if isinstance(task.source, ImageSource):
                task.source.on_image = _Patient(f"reading the images of {name}", stack)
        yield


class _Patient:
    """Shows progress from `PATIENCE_SECONDS` on, and nothing where there is no terminal."""

    def __init__(self, what: str, stack: ExitStack) -> None:
        self._what, self._stack = what, stack
        self._began = time.monotonic()
        self._live: Live | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show how far the work has come."""
        if done == 1:
            self._began = time.monotonic()
        if self._live is None and time.monotonic() - self._began >= PATIENCE_SECONDS:
            self._live = self._opened()
        if self._live is not None:
            self._live({"task": self._what, "done": done, "total": total})

    def _opened(self) -> Live | None:
        from neulig_fl.core.consoles import PlainConsole
        from neulig_fl.core.live import Live

        console = PlainConsole(stderr=True)
        return self._stack.enter_context(Live(console)) if console.is_terminal else None
