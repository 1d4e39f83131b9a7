"""`neulig-fl tasks` and `neulig-fl models`: what can stand in a scenario, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.options import AsJson
from neulig_fl.cli.streams import echo, echo_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from neulig_fl.cli.inventory import ListedTask, MicroModel
    from neulig_fl.models.accuracy_card import Measured

WIDE = 100
"""Columns that the tables need; below, their figures stand in sentences."""

MOST_CLASSES, FEW_CLASSES = 30, 10
"""A task with more classes than the first has as many listed as the second."""

ANY_MODEL = """\
Any other OpenCLIP model, by its name and a tag of its weights:

  model: {name: ViT-B-32-quickgelu, pretrained: openai}

or without a network: `pretrained: path/to/checkpoint.safetensors`, or `none` for random weights.
"""


def tasks(
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="With --export-split: whose images are written."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the splits.", show_default="the scenario's, or 0"),
    ] = None,
    export_split: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="SPLIT DIR",
            help="Write the images of a task's split (train-A, train-B, pool or evaluation) as PNG "
            "files into a folder, to train an expert on them elsewhere.",
            show_default=False,
        ),
    ] = None,
    scenario: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --export-split: a scenario that defines the task, the model and the seed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the built-in tasks: classes, images, splits, accuracies, where the images come from.

    `train-A` and `train-B` are the training images of the experts of groups A and B; the pool is
    public; accuracies are measured on the evaluation images. The split of an image depends on the
    seed and the image only. Accuracies are those of the bundled models: the checkpoint itself
    (zero-shot), and fine-tuned from it on `train-A` (expert).

    [bold]Examples[/]
      neulig-fl tasks
      neulig-fl show digits   [dim]# its images[/]
      neulig-fl tasks digits --export-split train-A my-images --seed 7
    """
    if export_split is not None:
        _export(task, export_split, scenario, seed, as_json=as_json)
        return
    if task is not None or scenario is not None:
        from neulig_fl.core.errors import InputError

        raise InputError(
            "TASK and --scenario go with --export-split SPLIT DIR; `neulig-fl show TASK` shows a "
            "task's images"
        )
    from neulig_fl.cli.inventory import listed_tasks
    from neulig_fl.core.consoles import PlainConsole

    found = list(listed_tasks(seed or 0))
    if as_json:
        echo_json([each.record() for each in found])
        return
    console = PlainConsole()
    wide = console.width >= WIDE
    if wide:
        console.print(_task_table(found))
    for each in found:
        _say(console, " ".join(_about(each, wide)), each.name)
    console.print()
    _say(console, _how_measured(found))
    echo(f"\n{own_task_help()}", end="")


def _export(
    task: str | None,
    export_split: tuple[str, Path],
    scenario: Path | None,
    seed: int | None,
    *,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from neulig_fl.cli.export_split import export
    from neulig_fl.core.errors import InputError
    from neulig_fl.study.checking import open_scenario

    if task is None:
        raise InputError("--export-split needs a task: neulig-fl tasks TASK --export-split ...")
    read = open_scenario(scenario).resolved if scenario else None
    split, folder = export_split
    done = export(task, split, folder, read, seed)
    if as_json:
        echo_json(asdict(done))
    else:
        echo(done.sentence)


def own_task_help() -> str:
    """How to use other images, as a part of a scenario."""
    from neulig_fl.cli.inventory import OWN_TASKS
    from neulig_fl.core import variants

    there = [name for name in OWN_TASKS if name in variants.names("neulig_fl.data.sources")]
    lines = ["Other images, under a name of your own:", "", "  tasks:"]
    for source in there:
        name, keys, what = OWN_TASKS[source]
        lines += [f"    # {what}", f"    {name}: {{source: {source}, {keys}}}"]
    first = OWN_TASKS[there[0]][0]
    return "\n".join([*lines, "  clients:", f"    - {{name: harbour, task: {first}}}", ""])


def _task_table(found: Sequence[ListedTask]) -> Table:
    from rich.text import Text

    from neulig_fl.config.scenario import MICRO_MODELS
    from neulig_fl.data.sources import SPLITS
    from neulig_fl.report.tables import empty_table

    sizes = ["classes", "images", *SPLITS]
    table = empty_table(
        [
            "Task",
            *(name.capitalize().replace("-a", "\nA").replace("-b", "\nB") for name in sizes),
            *(f"{model}\nzero / expert" for model in MICRO_MODELS),
        ]
    )
    for each in found:
        counts = [f"{count:,}" for count in each.counts.values()] or ["-" for _ in sizes]
        table.add_row(*map(Text, [each.name, *counts, *map(_pair, each.measured.values())]))
    return table


def _pair(measured: Measured | None) -> str:
    from neulig_fl.models.accuracy_card import mean

    if measured is None:
        return "-"
    return f"{mean(measured.zero_shot):.1f} / {mean(measured.shared.accuracy):.1f}"


def _about(each: ListedTask, wide: bool) -> Iterator[str]:
    """What is said of a task; the table's figures too where there is no room for a table."""
    if each.task is None:
        yield f"its images are not here. {each.missing}"
        return
    source = each.task.source
    yield f"{source.summary}."
    if not wide:
        sizes = (f"{count:,} {name.replace('-', ' ')}" for name, count in each.counts.items())
        yield f"Sizes: {', '.join(sizes)}."
        if any(each.measured.values()):
            yield f"Zero-shot / expert accuracy: {_pairs(each.measured)}."
    yield f"Classes: {class_list(source.class_names)}."


def _pairs(measured: Mapping[str, Measured | None]) -> str:
    pairs = (f"{model} {_pair(m) if m else 'not measured'}" for model, m in measured.items())
    return ", ".join(pairs)


def class_list(names: Sequence[str]) -> str:
    """Class names; the first few of many.

    Example:
        >>> class_list(["cat", "dog"])
        'cat, dog'
        >>> class_list([str(k) for k in range(43)])
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 33 more'
    """
    if len(names) <= MOST_CLASSES:
        return ", ".join(names)
    return f"{', '.join(names[:FEW_CLASSES])} and {len(names) - FEW_CLASSES} more"


def _how_measured(found: Sequence[ListedTask]) -> str:
    """What the accuracies are of."""
    known = [m for each in found for m in each.measured.values() if m]
    if not known:
        return "Accuracies: not measured with the bundled weights."
    seeds = sorted({seed for m in known for seed in m.seeds})
    over = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    told = (
        f"Accuracies are per cent on evaluation images ({over}): zero-shot is the bundled "
        "checkpoint as it is, an expert is fine-tuned from it on train A."
    )
    every = all(m for each in found for m in each.measured.values())
    return told if every else f"{told} What is not here (-) was not measured with these weights."


def models(
    every: Annotated[
        bool,
        typer.Option("--all", help="List every OpenCLIP model with its tags, one model per line."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the bundled models with their accuracies, and how to use any OpenCLIP model.

    Visual entries is the number of entries in the visual tower's state dict: the size of an expert,
    and of a release of `parameters`, at 4 bytes per entry. Accuracies are means over the built-in
    tasks; `neulig-fl tasks` lists them by task.

    [bold]Examples[/]
      neulig-fl models
      neulig-fl models --all | grep ViT-B
    """
    from neulig_fl.cli.inventory import micro_models
    from neulig_fl.core.consoles import PlainConsole

    if every:
        _print_all(as_json)
        return
    found = list(micro_models())
    if as_json:
        echo_json([each.record() for each in found])
        return
    console = PlainConsole()
    if console.width >= WIDE:
        console.print(_model_table(found))
    else:
        for each in found:
            heads = (head.lower() for head in _MODEL_HEADS[1:])
            figures = zip(heads, _model_cells(each)[1:], strict=True)
            told = ", ".join(f"{head} {figure}" for head, figure in figures)
            _say(console, f"{told}.", each.name)
    _say(console, _what_means(found))
    if not all(each.weights for each in found):
        echo("Make missing weights with `neulig-fl pretrain MODEL`.")
    echo(f"\n{ANY_MODEL}\n`neulig-fl models --all` lists them.")


_MODEL_HEADS = (
    "Model",
    "Visual entries",
    "Image",
    "Features",
    "File",
    "SHA-256",
    "Zero-shot",
    "Expert",
)


def _model_cells(model: MicroModel) -> list[str]:
    size, means = model.file_bytes, model.means
    return [
        model.name,
        f"{model.entries:,}",
        f"{model.image_size}x{model.image_size}",
        str(model.dim),
        f"{size / 1e6:.1f} MB" if size else "none",
        f"{model.weights[:12]}..." if model.weights else "-",
        f"{means.zero_shot:.1f}" if means else "-",
        f"{means.expert:.1f}" if means else "-",
    ]


def _model_table(found: Sequence[MicroModel]) -> Table:
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    table = empty_table(_MODEL_HEADS)
    for each in found:
        table.add_row(*map(Text, _model_cells(each)))
    return table


def _what_means(found: Sequence[MicroModel]) -> str:
    """Over how many tasks the accuracies are means."""
    known = {each.name: each.means.tasks for each in found if each.means}
    if not known:
        return "Accuracies: not measured with the bundled weights."
    over = ", ".join(f"{count} for {name}" for name, count in known.items())
    if len(known) == len(found) and len(set(known.values())) == 1:
        over = str(next(iter(known.values())))
    return f"Accuracies are per cent, means over tasks ({over}); `neulig-fl tasks` has each."


def _print_all(as_json: bool) -> None:
    from neulig_fl.models import families

    found = ((name, each.weights(name)) for each in families.every() for name in each.names())
    tags = dict(sorted(found))
    if as_json:
        echo_json([{"model": name, "pretrained": words} for name, words in tags.items()])
        return
    for name, words in tags.items():
        echo(f"{name}  {', '.join(words) or 'no weights to fetch; a path or none'}")


def _say(console: Console, words: str, name: str = "") -> None:
    """A paragraph; of a thing whose name stands before it, if there is one."""
    from rich.text import Text

    from neulig_fl.report.figures import plain

    told = Text(f"{name}: " if name else "", style="bold", overflow="fold")
    console.print(told.append(plain(words), style="not bold"), highlight=False)
