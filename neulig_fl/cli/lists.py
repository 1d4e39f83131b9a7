"""`neulig-fl tasks` and `neulig-fl models`: what can stand in a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from neulig_fl.tasks import Task

WIDE = 75
"""Columns that the table of tasks needs; below, its figures stand in sentences."""

OWN_TASK = """\
Your own pictures: one folder a class, the folder's name is the class's name.

  tasks:
    my-task: {source: imagefolder, root: path/to/folder}
  clients:
    - {name: harbour, task: my-task}
"""

ANY_MODEL = """\
Any other OpenCLIP model, by its name and a tag of its weights:

  model: {name: ViT-B-32, pretrained: openai}

or without a network: `pretrained: path/to/checkpoint.safetensors`, or `none` for random weights.
"""


def tasks(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits.")] = 0,
) -> None:
    """List the built-in tasks: classes, images, sizes of the splits, where they come from.

    Train A and B are the halves on which model-A and model-B are trained; the pool is public; the
    figures are measured on evaluation images. An image keeps its place for a given seed.

    [bold]Example[/]
      neulig-fl tasks
    """
    from rich.console import Console
    from rich.text import Text

    from neulig_fl import variants
    from neulig_fl.scenario import NEEDS_ROOT, TaskOptions
    from neulig_fl.tasks import Task

    found = [
        Task(name, variants.load("neulig_fl.tasks", name).source(TaskOptions(source=name)), seed)
        for name in variants.names("neulig_fl.tasks")
        if name not in NEEDS_ROOT
    ]
    console = Console()
    wide = console.width >= WIDE
    if wide:
        console.print(_sizes(found))
    for task in found:
        classes = ", ".join(task.source.class_names)
        parts = [
            f"{task.source.summary}.",
            *([] if wide else [_size(task)]),
            f"Classes: {classes}.",
        ]
        console.print(Text(f"{task.name}: {' '.join(parts)}", overflow="fold"), highlight=False)
    typer.echo(f"\n{OWN_TASK}", nl=False)


def _counts(task: Task) -> dict[str, int]:
    from neulig_fl.tasks import SPLITS

    whole = {"classes": len(task.source.class_names), "images": len(task.source.ids())}
    return whole | {name.replace("-", " "): len(task.indices(name)) for name in SPLITS}


def _sizes(found: list[Task]) -> Table:
    from rich.text import Text

    from neulig_fl.report.terminal import empty_table

    rows = [_counts(task) for task in found]
    table = empty_table(["Task", *(name[0].upper() + name[1:] for name in rows[0])])
    for task, row in zip(found, rows, strict=True):
        table.add_row(task.name, *(Text(f"{count:,}") for count in row.values()))
    return table


def _size(task: Task) -> str:
    counts = (f"{count:,} {name}" for name, count in _counts(task).items())
    return f"Sizes: {', '.join(counts)}."


@dataclass(frozen=True)
class MicroModel:
    """One of the models that come with neulig-fl.

    Args:
        name: as in a scenario.
        entries: floating state-dict entries of its visual tower; what `parameters` releases.
        image_size: height and width of its input.
        dim: length of a feature.
        bundled: whether its weights are in this installation.
    """

    name: str
    entries: int
    image_size: int
    dim: int
    bundled: bool


def models(
    every: Annotated[
        bool, typer.Option("--all", help="Every OpenCLIP name with its tags, one model a line.")
    ] = False,
) -> None:
    """List the bundled models, and how to use any OpenCLIP model.

    Visual entries are the numbers in the visual tower's state dict: what an expert has, and what a
    release of `parameters` holds, at 4 bytes each.

    [bold]Examples[/]
      neulig-fl models
      neulig-fl models --all | grep ViT-B
    """
    if every:
        _print_all()
        return
    from rich.console import Console
    from rich.text import Text

    from neulig_fl.report.terminal import empty_table

    console = Console()
    table = empty_table(["Model", "Visual entries", "Image", "Features", "Weights"])
    for model in micro_models():
        weights = "bundled" if model.bundled else "none"
        cells = (f"{model.entries:,}", f"{model.image_size}x{model.image_size}", str(model.dim))
        table.add_row(*map(Text, (model.name, *cells, weights)))
    console.print(table)
    if not all(model.bundled for model in micro_models()):
        typer.echo("Make missing weights with `neulig-fl pretrain MODEL`.")
    typer.echo(f"\n{ANY_MODEL}\n`neulig-fl models --all` lists them.")


def micro_models() -> list[MicroModel]:
    """The models that come with neulig-fl."""
    import math

    from neulig_fl.families import open_family
    from neulig_fl.families.open_clip import MICRO_DIR
    from neulig_fl.scenario import MICRO_MODELS, Model

    found = []
    for name in MICRO_MODELS:
        family = open_family(Model(name=name, pretrained="none"), 0)
        entries = sum(math.prod(shape) for shape in family.entries().values())
        bundled = (MICRO_DIR / f"{name}.safetensors").is_file()
        found.append(MicroModel(name, entries, family.image_size, family.dim, bundled))
    return found


def _print_all() -> None:
    import open_clip

    from neulig_fl.families.open_clip import model_names
    from neulig_fl.scenario import MICRO_MODELS

    for name in model_names():
        tags = open_clip.list_pretrained_tags_by_model(name)
        words = ["bundled"] if name in MICRO_MODELS else tags
        typer.echo(f"{name}  {', '.join(words) or 'no weights to fetch; a path or none'}")
