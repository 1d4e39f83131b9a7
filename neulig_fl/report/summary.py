"""summary.json: one scenario over several seeds; kept apart from the intervals of each run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.report import faults, figures, rows, sentences, tables, terminal
from neulig_fl.report.parts.seeds import Summary

FILE_NAME = "summary.json"
FIGURES = ("merge_accuracy", "ensemble_accuracy", "gap_of_means")
_HEADS = {"merge_accuracy": "Merge", "ensemble_accuracy": "Ens.", "gap_of_means": "Gap of means"}


def validate(summary: Mapping[str, Any]) -> None:
    """Check a summary against its model.

    Raises:
        RunError: one line for each fault (the first 20), each with the place and the value.
    """
    faults.require(FILE_NAME, Summary, summary)


def read(run: Path) -> dict[str, Any]:
    """The summary of a run's seeds, validated.

    Args:
        run: its folder.

    Raises:
        InputError: it cannot be read, or is not what its schema says.
    """
    file = run / FILE_NAME
    try:
        found: dict[str, Any] = strict_json.parsed(regular_files.read(file))
        validate(found)
    except (OSError, ValueError, RunError) as error:
        raise InputError(f"{file}: not a summary ({error}); run the scenario again") from error
    return found


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print a summary: averages over seeds as mean +- sd, the gap with its interval."""
    seeds = ", ".join(str(seed) for seed in summary["seeds"])
    terminal.heading(console, f"{summary['scenario']['name']}, over seeds {seeds}")
    for sentence in sentences.differs(summary["scenario"]):
        console.print(Text(sentence, overflow="fold"))
    for stage in summary["stages"]:
        console.print()
        layouts = [_table(stage, join, gap) for join, gap in ((" ", 2), (" ", 1), ("\n", 1))]
        tables.print_first_that_fits(console, layouts)
    for sentence in sentences.privacy(summary):
        console.print()
        console.print(Text(sentence, overflow="fold"))


def _table(stage: Mapping[str, Any], join: str, gap: int) -> Table:
    """One stage; joined by a new line, deviations and the interval stand below the means."""
    stacked = join == "\n"
    heads = [f"{_HEADS[figure]}{join}+- sd" for figure in FIGURES]
    ends = [f"{heads.pop()}\n95 % CI"] if stacked else [heads.pop(), "95 % CI"]
    table = tables.empty_table([f"Stage {figures.plain(stage['name'])}", *heads, *ends], gap=gap)
    for result in rows.ordered(stage["results"]):
        name = rows.called(result)
        cells = [_cell(result[figure], figure, join) for figure in FIGURES]
        interval = figures.interval(result["gap_of_means"]["ci95"])
        if not stacked:
            cells.append(interval)
        elif interval != figures.NULL:
            cells[-1] += f"\n{interval}"
        table.add_row(*map(Text, [name, *cells]))
    return table


def _cell(found: Mapping[str, Any], figure: str, join: str) -> str:
    if found["mean"] is None:
        return figures.NULL
    shown = figures.signed if figure == "gap_of_means" else figures.number
    return f"{shown(found['mean'])}{join}+- {figures.number(found['sd'])}"
