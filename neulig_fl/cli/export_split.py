"""`neulig-fl tasks TASK --export-split`: the images that an expert may be trained on elsewhere."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neulig_fl.cli.show import open_named, seen
from neulig_fl.core.errors import InputError, nearest
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.live import Live
from neulig_fl.core.progress import Progress
from neulig_fl.data.sources import SPLITS

if TYPE_CHECKING:
    from neulig_fl.config.scenario import Scenario
    from neulig_fl.data.sources import Task

LIST = "images.csv"
_AT_ONCE = 256


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        task, split, seed: of which images.
        folder: where they are.
        list: the file in it that lists them.
        images: how many.
    """

    task: str
    split: str
    seed: int
    folder: str
    list: str
    images: int

    @property
    def sentence(self) -> str:
        """It in words."""
        return (
            f"{self.images:,} images of {self.split} of {self.task}, seed {self.seed}, in "
            f"{self.folder}; {self.list} lists them. An expert trained on them has seen no image "
            "of another split."
        )


def export(
    name: str, split: str, folder: Path, read: Scenario | None, seed: int | None
) -> Exported:
    """Write a split's images as PNG files, a folder for each class, and a list of them.

    Args:
        name: of the task.
        split: of `SPLITS`.
        folder: new, or empty.
        read: the scenario that defines the task and the model, with absolute paths.
        seed: of the splits; the scenario's first, or 0, where it is None.

    Returns:
        What was written.

    Raises:
        InputError: there is no such task or split, or the folder cannot be used.
        DataError: an image cannot be read.
        RunError: the disk refuses.
    """
    if split not in SPLITS:
        raise InputError(f"--export-split {split}: no such split; {nearest(split, SPLITS)}")
    task = open_named(name, read, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"--export-split {folder}: cannot be made a folder ({error.strerror})"
        ) from error
    if there is not None:
        raise InputError(f"--export-split {folder}: holds {there.name}; name a new folder")
    count = _write(task, split, folder, read)
    return Exported(name, split, task.seed, str(folder), LIST, count)


def _write(task: Task, split: str, folder: Path, read: Scenario | None) -> int:
    from PIL import Image

    indices = task.indices(split)
    labels, ids, size = task.labels(indices), task.source.ids(), seen(read)
    folders = [class_folder(at, name) for at, name in enumerate(task.source.class_names)]
    rows = [["file", "class", "id"]]
    with Live() as live:
        bar = Progress(live).task(f"{task.name}: images of {split}", len(indices))
        for start in range(0, len(indices), _AT_ONCE):
            chosen = indices[start : start + _AT_ONCE]
            own = labels[start : start + _AT_ONCE]
            for index, label, pixels in zip(chosen, own, task.pixels(chosen, size), strict=True):
                file = f"{folders[label]}/{int(index):06d}.png"
                (folder / folders[label]).mkdir(exist_ok=True)
                stream = io.BytesIO()
                Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(stream, "PNG")
                write_atomically(folder / file, stream.getvalue(), PRIVATE)
                rows.append([file, task.source.class_names[label], str(ids[index])])
            bar.advance(len(chosen))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(folder / LIST, text.getvalue(), PRIVATE)  # last: with it, the folder is whole
    return len(indices)


def class_folder(label: int, name: str) -> str:
    """A class's folder: its number keeps the order, and its name is for readers.

    Example:
        >>> class_folder(3, "../a b/c")
        '003-a-b-c'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return f"{label:03d}-{words}" if words else f"{label:03d}"
