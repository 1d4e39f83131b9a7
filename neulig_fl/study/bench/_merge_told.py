"""What `bench merge` says on a terminal: a table of methods, then memory, error and the stage."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.study.bench._merge_figures import NOT_ASKED, Found, underscored

STAGE_GOAL = 1.35
"""A whole stage takes at most so many times (experts + 1) forward passes."""

_TOLD = {
    "plain-batch": "plain forward pass, a batch at once",
    "plain-one-by-one": "plain forward pass, one by one",
    "ensemble": "ensemble: every expert",
    "batched": "batched merged inference",
    "one-at-a-time": "one at a time",
    "vmap": "torch.func.vmap",
    "released": "released procedure",
    "stage": "a whole stage",
}
"""What the table calls each method, in its order."""


def tell(found: Found, console: Console) -> None:
    """Print what was found."""
    console.print(Text(_subject(found), overflow="fold"), highlight=False)
    console.print(_table(found))
    for line in _below(found):
        console.print(Text(line, overflow="fold"), highlight=False)


def _subject(found: Found) -> str:
    weights = "random" if found.random_weights else found.details["pretrained"]
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    return (
        f"{found.model} ({weights} weights, {found.dtype}), {found.experts} experts, batch "
        f"{found.batch}, {threads}; medians of {found.rounds}"
    )


def _table(found: Found) -> Table:
    """Every measured method: milliseconds a sample, and how many times the faster single model."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold")
    table.add_column("ms a sample", justify="right", no_wrap=True)
    table.add_column("to single", justify="right", no_wrap=True)
    figures = {**vars(found), **found.details}
    for name, told in _TOLD.items():
        ms = figures[f"{underscored(name)}_ms"]
        if ms is not None:
            samples = found.details["samples"][underscored(name)]
            part = f" ({samples} of {found.batch} samples)" if samples < found.batch else ""
            table.add_row(f"{told}{part}", f"{ms:,.2f}", f"{ms / found.single_ms:.2f}")
    return table


def _below(found: Found) -> Iterator[str]:
    yield f"Peak memory {found.peak_rss_bytes / 2**20:,.0f} MiB, with all that was measured."
    if found.max_relative_error is not None:
        error = f"{found.max_relative_error:.1e}"
        yield f"Batched merged inference against one at a time: relative error up to {error}."
    if found.stage_ratio is not None:
        verdict = "met" if found.stage_ratio <= STAGE_GOAL else "NOT met"
        yield (
            f"A whole stage takes {found.stage_ratio:.2f} times {found.experts + 1} forward passes "
            f"(goal: {STAGE_GOAL} at most; {verdict})."
        )
    for key, why in found.details["reasons"].items():
        if why != NOT_ASKED:
            yield f"No {key}: {why}."
