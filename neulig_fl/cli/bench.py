"""`neulig-fl bench`: speed and memory, as figures and ratios of one run on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from neulig_fl.cli.options import AsJson

if TYPE_CHECKING:
    from neulig_fl.bench import Measurement


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[portland|engine|memory]...", help="What to measure; all of it."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Repetitions; each benchmark's own if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed and memory on this machine.

    [bold]portland[/]: samples a second of Portland's training on features as quickstart has them,
    one thread. [bold]engine[/]: time of a small run under the local engine, relative to the same
    calls made directly. [bold]memory[/]: how much the server grows while it takes parameters,
    relative to one copy of each expert and one more. Figures are medians of several repetitions.

    [bold]Examples[/]
      neulig-fl bench
      neulig-fl bench portland --repeats 11 --json
    """
    from neulig_fl import bench as benchmarks
    from neulig_fl import variants
    from neulig_fl.cli.live import Live

    wanted = names or variants.names("neulig_fl.bench")
    modules = [variants.load("neulig_fl.bench", name) for name in wanted]
    found: list[Measurement] = []
    with Live() as live:
        for name, module in zip(wanted, modules, strict=True):
            live({"note": f"measuring {name}"})
            found.append(module.measure(repeats or module.REPEATS))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        for each in found:
            typer.echo(benchmarks.told(each))
