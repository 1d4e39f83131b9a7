"""`neulig-fl bench`: speed and memory, as figures and ratios of one run on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulig_fl.cli.options import AsJson
from neulig_fl.cli.streams import echo, echo_json

if TYPE_CHECKING:
    from neulig_fl.study.bench import Measurement

MERGE = "merge"
_PANEL = f"Options of bench {MERGE}"

Model = Annotated[
    str | None,
    typer.Option(help="The model's name.", show_default="micro-vit", rich_help_panel=_PANEL),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        help="Its weights: bundled (micro models), an OpenCLIP tag, or a path to a checkpoint.",
        show_default="bundled",
        rich_help_panel=_PANEL,
    ),
]
RandomWeights = Annotated[
    bool | None,
    typer.Option("--random-weights", help="Use random weights instead.", rich_help_panel=_PANEL),
]
Experts = Annotated[
    int | None,
    typer.Option(help="Number of experts, 2 or more.", show_default="5", rich_help_panel=_PANEL),
]
Batch = Annotated[
    int | None,
    typer.Option(help="Batch size.", show_default="16", rich_help_panel=_PANEL),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...",
        help="Methods to compare with one model (`single`): ensemble, batched, stage, "
        "one-at-a-time, released, vmap. Can be repeated.",
        show_default="all of them",
        rich_help_panel=_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Seed of weights, experts and images.",
        show_default="0",
        rich_help_panel=_PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads.", show_default="torch's own", rich_help_panel=_PANEL),
]


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[portland|engine|memory|merge|secure-aggregation|ties]...",
            help="Benchmarks to run; all of them if not given.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(min=1, help="Repetitions; each benchmark's own default if not given."),
    ] = None,
    as_json: AsJson = False,
    model: Model = None,
    pretrained: Pretrained = None,
    random_weights: RandomWeights = None,
    experts: Experts = None,
    batch: Batch = None,
    methods: Methods = None,
    seed: Seed = None,
    threads: Threads = None,
) -> None:
    """Measure speed and memory on this machine.

    [bold]portland[/]: samples per second of Portland's training on features of the quickstart's
    shape, on one thread. [bold]engine[/]: time of a small run under the local engine, relative to
    the same calls made directly. [bold]memory[/]: growth of the server's memory while it receives
    parameters, relative to one copy of each expert plus one. [bold]merge[/]: merging one network
    per sample by each available method, relative to one model's forward pass; `bench merge` alone
    accepts any model and prints all of its figures. [bold]secure-aggregation[/]: a secure sum of
    five clients, relative to a plain sum of the same vectors. [bold]ties[/]: TIES over five
    experts, relative to torch.kthvalue over the same task vectors. Figures are medians of several
    repetitions.

    [bold]Examples[/]
      neulig-fl bench
      neulig-fl bench portland --repeats 11 --json
      neulig-fl bench merge --model ViT-B-32 --random-weights
    """
    from neulig_fl.core import variants

    wanted = names or variants.names("neulig_fl.study.bench")
    chosen = {
        "model": model,
        "pretrained": pretrained,
        "random_weights": random_weights,
        "experts": experts,
        "batch": batch,
        "methods": _separated(methods),
        "seed": seed,
        "threads": threads,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    if wanted == [MERGE]:
        _merge(given, repeats, as_json)
    else:
        _measure(wanted, given, repeats, as_json)


def _separated(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names that were given with commas between them, or an option each."""
    if not given:
        return None
    return tuple(name.strip() for each in given for name in each.split(",") if name.strip())


def _measure(wanted: list[str], given: dict[str, Any], repeats: int | None, as_json: bool) -> None:
    """One figure of each benchmark.

    Raises:
        InputError: an option was given that none of them has, or there is no such benchmark.
    """
    from neulig_fl.core import variants
    from neulig_fl.core.errors import InputError
    from neulig_fl.core.live import Live
    from neulig_fl.study import bench as benchmarks

    modules = [variants.load("neulig_fl.study.bench", name) for name in wanted]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(
            f"{options}: for `neulig-fl bench {MERGE}` alone (got {', '.join(wanted)})"
        )
    found: list[Measurement] = []
    with Live() as live:
        for name, module in zip(wanted, modules, strict=True):
            live({"note": f"measuring {name}"})
            found.append(module.measure(repeats or module.REPEATS))
    if as_json:
        echo_json([asdict(each) for each in found])
    else:
        for each in found:
            echo(benchmarks.sentence(each))


def _merge(given: dict[str, Any], repeats: int | None, as_json: bool) -> None:
    """All that `merge` finds of one model."""
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.core.live import Live
    from neulig_fl.core.progress import Progress
    from neulig_fl.study.bench import merge

    with Live() as live:
        found = merge.compare(merge.Options(**given), repeats or merge.REPEATS, Progress(live))
    if as_json:
        echo_json(asdict(found))
    else:
        merge.tell(found, PlainConsole())
