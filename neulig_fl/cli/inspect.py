"""`neulig-fl inspect`: what checkpoints are, and whether they can be merged with one another."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from neulig_fl.models.inspection import Findings

WIDE = 64
"""Columns that the table of distances needs; below, its figures stand in sentences."""

SCALE = (
    "Distance: ||a - b|| / ||(a + b) / 2|| over all floating entries. 0 is the same weights, 2 is "
    "what vectors at right angles have. A short fine-tuning moves weights little: experts of one "
    "checkpoint are near 0, models that were trained apart are far from it. It is a measurement, "
    "and proves no origin."
)


def inspect(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="CHECKPOINT...", help="Weight files, or folders that contain them."),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model that they must fit; any if not given."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Prefix of the encoder's entry names, where there are several."
        ),
    ] = None,
) -> None:
    """Inspect checkpoints: format, dtypes, matching models, defects, SHA-256.

    For several checkpoints, also whether they have the same names and shapes, so that they can be
    merged, and the distances between them. Nothing in a file is run. The exit code is 2 if one of
    them cannot be used.

    [bold]Examples[/]
      neulig-fl inspect my-expert.safetensors
      neulig-fl inspect downloads/clip-vit-base-patch32/ finetuned.pt
      neulig-fl inspect experts/*.pt --model ViT-B-32-quickgelu
    """
    from neulig_fl.cli.exits import BAD_INPUT, say_error
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.core.errors import CheckpointError, plain
    from neulig_fl.models.inspection import look

    if model is not None:
        _require_model(model)
    console = PlainConsole()
    found, bad = [], False
    for path in checkpoints:
        try:
            findings = look(path, model, prefix)
        except CheckpointError as error:
            say_error(error)
            bad = True
            continue
        _print(findings, console)
        if findings.fault is not None:
            say_error(
                CheckpointError(f"checkpoint {plain(path)}: cannot be used: {findings.fault}")
            )
            bad = True
        if findings.fault is None or not findings.like.same:
            found.append(findings)
    if len(found) > 1:
        _print_together(found, console)
    if bad:
        raise typer.Exit(BAD_INPUT)


def _require_model(name: str) -> None:
    from neulig_fl.core.errors import InputError
    from neulig_fl.models.families.open_clip import knows, model_names

    if not knows(name):
        close = difflib.get_close_matches(name, model_names(), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"--model {name}: no such model; see `neulig-fl models --all`{hint}")


def _print(findings: Findings, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from neulig_fl.core.errors import plain

    console.print(Text(plain(findings.held.path), style="bold", overflow="fold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, words in _lines(findings):
        table.add_row(Text(f"  {label}"), Text(words))
    console.print(table)


def _lines(findings: Findings) -> Iterator[tuple[str, str]]:
    """What is said of one checkpoint, a label and a sentence each."""
    from neulig_fl.models.checkpoints import floats
    from neulig_fl.models.checkpoints.fitting import COUNTER

    held = findings.held
    yield "format", f"{held.kind}; names as in {held.naming}"
    yield "model", _model(findings)
    entries, label = len(findings.encoder), "encoder" if findings.like.same else "holds"
    stored = ", ".join(f"{count} {kind}" for kind, count in findings.dtypes.items())
    yield label, f"{entries} entries, {findings.numbers:,} numbers; stored as {stored}"
    if any(n.endswith(COUNTER) and e.dtype in floats() for n, e in findings.encoder.items()):
        yield "", "averaged counters of BatchNorm are rounded"
    if set(findings.dtypes) & {"float16", "bfloat16", "float64"}:
        yield "", "cast to float32 when it is loaded"
    notes = [*held.notes, *_taken(findings)]
    if notes:
        yield "names", "; ".join(notes)
    if findings.fault is None:
        yield "values", "all finite"
    yield "SHA-256", findings.sha256


def _model(findings: Findings) -> str:
    """The models that it could be, with what shapes cannot tell."""
    own, others = findings.models()
    said = findings.held.activation
    if not findings.like.same:
        close = ", ".join(findings.like.close[:5])
        return f"none that OpenCLIP knows{f'; nearest in size: {close}' if close else ''}"
    if said is None:
        return f"{', '.join(own)}{_twins(own)}"
    words = f"{', '.join(own) or 'none'} (its activation is {said})"
    return f"{words}; not {', '.join(others)}, which differ in that" if others else words


def _twins(names: Sequence[str]) -> str:
    from neulig_fl.models.families.open_clip import quick_gelu

    if len({quick_gelu(name) for name in names}) < 2:
        return ""
    return (
        "; shapes do not tell which: take -quickgelu for what OpenAI's weights were fine-tuned to, "
        "and else the name that it was trained under"
    )


def _taken(findings: Findings) -> Iterator[str]:
    """How the image encoder was found among the names."""
    if findings.like.prefix:
        yield f"prefix {findings.like.prefix!r} taken off"
    others = findings.left_out
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        yield f"left out: {', '.join(others[:5])}{more}"


def _print_together(found: Sequence[Findings], console: Console) -> None:
    """Whether they can be merged, and how far apart those are that can."""
    from rich.text import Text

    from neulig_fl.models.inspection import compare, misfits

    names = _short([each.held.path for each in found])
    faults = misfits(found)
    fitting = [i for i, fault in enumerate(faults) if fault is None]
    console.print()
    if len(fitting) == len(found):
        console.print(Text("All have the same names and shapes: they can be merged."))
    for name, fault in zip(names, faults, strict=True):
        if fault is not None:
            words = f"{name} cannot be merged with {names[0]}: {fault}"
            console.print(Text(words, overflow="fold"))
    rows = [
        (names[fitting[pair.first]], names[fitting[pair.second]], pair.distance, pair.cosine)
        for pair in compare([found[i] for i in fitting])
    ]
    if rows:
        _print_distances(rows, console)


def _print_distances(rows: Sequence[tuple[str, str, float, float]], console: Console) -> None:
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    if console.width >= WIDE:
        table = empty_table(["First", "Second", "Distance", "Cosine"], words=2)
        for one, other, distance, cosine in rows:
            table.add_row(Text(one), Text(other), Text(f"{distance:.4f}"), Text(f"{cosine:.4f}"))
        console.print(table)
    else:
        for one, other, distance, cosine in rows:
            words = f"{one} and {other}: distance {distance:.4f}, cosine {cosine:.4f}"
            console.print(Text(words, overflow="fold"), highlight=False)
    console.print(Text(SCALE))


def _short(paths: Sequence[Path]) -> list[str]:
    """File names where they tell the files apart, else whole paths."""
    from neulig_fl.core.errors import plain

    names = [plain(path.name) for path in paths]
    return names if len(set(names)) == len(names) else [plain(path) for path in paths]
