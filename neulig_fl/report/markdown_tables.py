"""Tables in GitHub's Markdown, whose cells are shown as they are and never read as markup."""

from __future__ import annotations

from collections.abc import Sequence

from neulig_fl.report import figures


def table(head: Sequence[str], body: Sequence[Sequence[str]], words: int = 1) -> str:
    r"""A Markdown table.

    Args:
        head: the columns' names.
        body: the rows' cells.
        words: how many columns, from the left, hold words; the others are numbers, to the right.

    Example:
        >>> print(table(["Task", "n"], [["a|b", "7"]]))
        | Task | n |
        | :-- | --: |
        | a\|b | 7 |
    """
    ruler = [":--" if at < words else "--:" for at in range(len(head))]
    lines = [[text(cell) for cell in head], ruler, *([text(cell) for cell in row] for row in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(words: str) -> str:
    """Words from elsewhere, so that they are shown and not read as Markdown or HTML."""
    shown = figures.plain(words).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for sign in ("|", "*", "_", "`", "]("):
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def filled(head: Sequence[str], body: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table without the columns of which no row has a figure."""
    kept = [at for at in range(len(head)) if any(row[at] != figures.NULL for row in body)]
    rest = [[row[at] for at in kept] for row in body]
    return table([head[at] for at in kept], rest, sum(at < words for at in kept))
