"""The table of stages on a terminal: stage against stage, before any detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.report import figures, tables
from neulig_fl.report.timeline import StageLine


def fitted(lines: Sequence[StageLine], console: Console, records: bool) -> Table:
    """Stage against stage: accuracies of the row that speaks for it, and what had left by then.

    Args:
        lines: one a stage.
        console: where to; columns that say nothing are left out.
        records: whether each stage's records stand below its name.
    """
    columns = {
        "Merge": [figures.number(line.average["merge_accuracy"]) for line in lines],
        "Ens.": [figures.number(line.average["ensemble_accuracy"]) for line in lines],
        "Gap": [figures.signed(line.average["gap_of_means"]) for line in lines],
        "95 % CI": [figures.interval(line.average["gap_of_means_ci95"]) for line in lines],
        "Bytes each\nso far": [line.released for line in lines],
        "Epsilon\nso far": [line.epsilon for line in lines],
        "Without": [line.without for line in lines],
    }
    there = {head: cells for head, cells in columns.items() if set(cells) != {figures.NULL}}
    layouts = []
    for left_out in ((), ("95 % CI",), ("95 % CI", "Gap"), ("95 % CI", "Gap", "Epsilon\nso far")):
        kept = {head: cells for head, cells in there.items() if head not in left_out}
        layouts.append(_table(lines, kept, records))
    return tables.first_that_fits(console, layouts)


def _table(
    lines: Sequence[StageLine], columns: Mapping[str, Sequence[str]], records: bool
) -> Table:
    table = tables.empty_table(["Stage (group): method", *columns], gap=1)
    if "Without" in columns:
        last = table.columns[-1]
        last.justify, last.no_wrap, last.overflow = "left", False, "fold"
    for at, line in enumerate(lines):
        name = Text(figures.plain(line.name), style="bold").append(
            f" ({line.group}): {line.label}", style="not bold"
        )
        if records:
            for given in line.given or ("nothing released",):
                name.append(f"\n  {given}", style="dim not bold")
        table.add_row(name, *(Text(cells[at]) for cells in columns.values()))
    return table
