"""`neulig-fl show`: a task's images, to see whether they are what their labels say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.streams import echo

if TYPE_CHECKING:
    from PIL.Image import Image

    from neulig_fl.config.scenario import Scenario
    from neulig_fl.core.resizing import Resize
    from neulig_fl.data.contact_sheet import Sheet, SplitSamples
    from neulig_fl.data.sources import Task

IMAGE = 32
"""Height and width of what the micro models see."""


def show(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A built-in task, or a task of the scenario.")
    ],
    scenario: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A scenario that defines the task and the model."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the splits.", show_default="the scenario's, or 0"),
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, help="Samples per class and split.")] = 4,
    split: Annotated[
        list[str],
        typer.Option(
            metavar="[train-A|train-B|pool|evaluation]",
            help="A split to show; can be repeated. All splits if not given.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 (typer copies it)
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="The file to write.", show_default="TASK.png"),
    ] = None,
    size: Annotated[
        int, typer.Option(min=8, help="Maximum side of an image on the sheet, in pixels.")
    ] = 64,
) -> None:
    """Write a contact sheet with samples of every class and split of a task, as a PNG file.

    Images are shown as preprocessed for the model, enlarged without interpolation. A task with many
    classes has several pages: TASK.png, TASK-2.png and so on.

    [bold]Examples[/]
      neulig-fl show digits
      neulig-fl show textures --split train-A --split evaluation --per-class 8
      neulig-fl show my-task --scenario my.yaml --out sheets/my-task.png
    """
    from neulig_fl.core.errors import plain
    from neulig_fl.data import contact_sheet
    from neulig_fl.study.checking import open_scenario

    read = open_scenario(scenario).resolved if scenario else None
    splits = _splits(split)
    opened = open_named(task, read, seed)
    target = _target(out, task)
    sheet = sheet_of(opened, splits, per_class, size, seen(read))
    for number, page in enumerate(contact_sheet.pages(sheet), start=1):
        _write(page, target if number == 1 else _numbered(target, number))
    for sentence in _told(opened, sheet):
        echo(plain(sentence))


def _splits(wanted: list[str]) -> list[str]:
    """The splits to show, in their own order; all of them where none is named."""
    from neulig_fl.core.errors import InputError, nearest
    from neulig_fl.data.sources import SPLITS

    for name in wanted:
        if name not in SPLITS:
            raise InputError(f"--split {name}: no such split; {nearest(name, SPLITS)}")
    return [name for name in SPLITS if not wanted or name in wanted]


def open_named(name: str, read: Scenario | None, seed: int | None) -> Task:
    """A built-in task, or one of a scenario's own.

    Args:
        name: of the task.
        read: the scenario, with absolute paths.
        seed: of the splits; the scenario's first, or 0, where it is None.

    Raises:
        InputError: there is no task of that name, or its files are not there.
    """
    from neulig_fl.config.tasks import built_in_tasks
    from neulig_fl.core.errors import InputError, nearest
    from neulig_fl.data.sources import opened

    own = dict(read.tasks) if read else {}
    known = list(dict.fromkeys([*own, *built_in_tasks()]))
    if name not in known:
        hint = "" if read else "; a task of your own is shown with --scenario FILE"
        raise InputError(f"no task is called {name!r}; {nearest(name, known)}{hint}")
    if seed is None:
        seed = read.all_seeds[0] if read else 0
    return opened(name, own.get(name), seed)


def seen(read: Scenario | None) -> int | Resize:
    """How the model sees an image."""
    if read is None:
        return IMAGE
    from neulig_fl.models.families import open_family

    return open_family(read.model, 0).resize


def _target(out: Path | None, task: str) -> Path:
    """Where the first page goes; its folder is made.

    Raises:
        InputError: it is no name of a PNG, or its folder cannot be made.
    """
    from neulig_fl.core.errors import InputError

    target = out or Path(f"{task}.png")
    if target.is_dir():
        raise InputError(f"--out {target}: is a folder; give the file to write")
    if target.suffix.lower() != ".png":
        raise InputError(f"--out {target}: a sheet is a PNG; give a name that ends in .png")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {target}: its folder cannot be made ({error.strerror})") from error
    return target


def _numbered(target: Path, page: int) -> Path:
    return target.with_name(f"{target.stem}-{page}{target.suffix}")


def sheet_of(task: Task, splits: list[str], per_class: int, size: int, seen: int | Resize) -> Sheet:
    """The sheet of a task, not yet drawn.

    Args:
        task: what is shown.
        splits: side by side, in this order.
        per_class: the first so many images of a class in a split.
        size: most pixels of an image's side on the sheet.
        seen: how the model sees it; on the sheet it is enlarged a whole number of times, or made
            smaller where `size` is less.

    Raises:
        DataError: an image cannot be read.
    """
    from neulig_fl.core.resizing import resize
    from neulig_fl.data.contact_sheet import Sheet

    names, side = task.source.class_names, min(size, resize(seen).size)
    shown = replace(resize(seen), size=side)
    count = f"{len(task.source.ids()):,} images, {len(names)} classes"
    return Sheet(
        title=f"{task.name}, seed {task.seed}: {count}",
        class_names=names,
        splits=[_samples(task, split, per_class, shown) for split in splits],
        side=side,
        factor=size // side,
        per_class=per_class,
    )


def _samples(task: Task, split: str, per_class: int, shown: Resize) -> SplitSamples:
    import numpy as np

    from neulig_fl.data.contact_sheet import SplitSamples

    indices = task.indices(split)
    labels = task.labels(indices)
    chosen = [indices[labels == k][:per_class] for k in range(len(task.source.class_names))]
    images = task.pixels(np.concatenate(chosen), shown)
    ends = np.cumsum([len(each) for each in chosen])
    return SplitSamples(split, len(indices), np.split(images, ends[:-1]))


def _write(page: Image, target: Path) -> None:
    from neulig_fl.core.files import replace_atomically

    replace_atomically(target, lambda part: page.save(part, format="PNG"))
    wide, high = page.size
    kilobytes = target.stat().st_size / 1000
    echo(f"Wrote {target}: {wide:,} x {high:,} pixels, {kilobytes:,.0f} kB")


def _told(task: Task, sheet: Sheet) -> Iterator[str]:
    """What the sheet shows, and what it cannot show."""
    from neulig_fl.data.contact_sheet import drawable

    most = f"the first {sheet.per_class} images" if sheet.per_class > 1 else "the first image"
    splits = ", ".join(split.name for split in sheet.splits)
    yield (
        f"{task.name}: {task.source.summary}. A row is a class, with {most} of {splits} (seed "
        f"{task.seed}), {sheet.side}x{sheet.side} pixels{_enlarged(sheet.factor)}."
    )
    for split in sheet.splits:
        lacking = [
            name for name, of in zip(sheet.class_names, split.samples, strict=True) if not len(of)
        ]
        if lacking:
            yield f"{_count(lacking)} no image in {split.name} (a dash): {_few(lacking)}."
    boxed = [f"{k} {name}" for k, name in enumerate(sheet.class_names) if not drawable(name)]
    if boxed:
        yield f"{_count(boxed)} a name that the sheet cannot write (a number): {_few(boxed)}."


def _enlarged(factor: int) -> str:
    return f" enlarged {factor} times" if factor > 1 else ""


def _count(names: list[str]) -> str:
    return f"{len(names)} classes have" if len(names) > 1 else "1 class has"


def _few(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
