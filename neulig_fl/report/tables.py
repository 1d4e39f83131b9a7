"""Tables on a terminal: of layouts from rich to narrow, the first that fits is taken."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUND = 10_000  # columns; wider than any table, to learn how wide a table would like to be


def empty_table(heads: Sequence[str], words: int = 1, gap: int = 2) -> Table:
    """An empty table: words fold when there is no room, numbers stand to the right and never do."""
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap, 0, 0),
        header_style="bold",
    )
    for at, head in enumerate(heads):
        if at < words:
            table.add_column(Text(head), overflow="fold", vertical="top")
        else:
            table.add_column(Text(head), justify="right", no_wrap=True, vertical="top")
    return table


def fits(console: Console, table: Table) -> bool:
    """Whether a table fits the console's width without folding."""
    unbound = console.options.update(width=_UNBOUND)
    return console.measure(table, options=unbound).maximum <= console.width


def print_first_that_fits(console: Console, tables: Sequence[Table]) -> None:
    """Print the first table that fits the console's width, or else the last."""
    console.print(first_that_fits(console, tables))


def first_that_fits(console: Console, tables: Sequence[Table]) -> Table:
    """The first table that fits the console's width, or else the last."""
    return next((table for table in tables if fits(console, table)), tables[-1])
