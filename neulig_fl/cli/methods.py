"""`neulig-fl methods`: the merge methods, and what each makes a client reveal."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import cleandoc
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulig_fl.cli.options import AsJson
from neulig_fl.cli.streams import echo, echo_json

if TYPE_CHECKING:
    from rich.console import Console

_FOR_PROGRAMMERS = ("Args:", "Yields:", "Returns:", "Raises:", "Example:")

WIDE = 110
"""Columns that the table needs; below, a method is a paragraph."""

HOW = """\
In a scenario, names, or mappings:

  methods:
    - ties
    - {name: task-arithmetic, options: {lambda: 0.4}}
    - {name: ties, tune: {lambda: [0.3, 1.0], density: [0.1, 0.2]}}   # chosen on the labelled pool
"""


def methods(
    name: Annotated[
        str | None, typer.Argument(help="A method, to print its rule, options and source.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the merge methods: the records that each needs, its options and its source.

    Sums: secure sums over the clients suffice. Of each client: every client's own record, which a
    policy may withhold. Besides: what the server itself must have: theta_0 (which experts of
    diverse origin lack), or unlabelled queries (from the public pool).

    [bold]Examples[/]
      neulig-fl methods
      neulig-fl methods ties
    """
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.merging import methods as merge_methods

    names = merge_methods.names() if name is None else [name]
    found = [record(each, merge_methods.load(each)) for each in names]
    if as_json:
        echo_json(found)
    elif name is not None:
        _print_one(found[0], merge_methods.load(name))
    else:
        _print_all(found, PlainConsole())


def record(name: str, module: ModuleType) -> dict[str, Any]:
    """A method as plain JSON values, read from its file."""
    from neulig_fl.merging import methods as merge_methods

    needs = module.NEEDS
    return {
        "method": name,
        "summary": (module.__doc__ or "").splitlines()[0],
        "released": list(needs.released),
        "besides": list(needs.besides),
        "sums_are_enough": not needs.each,
        "ensemble": list(needs.outputs),
        "options": merge_methods.settings(module, {}),
        "symmetric": getattr(module, "SYMMETRIC", True),
        "source": module.SOURCE,
    }


def _print_all(found: Sequence[dict[str, Any]], console: Console) -> None:
    from rich.text import Text

    from neulig_fl.report.tables import empty_table

    if console.width < WIDE:
        for each in found:
            console.print(Text(each["method"], style="bold"), highlight=False)
            console.print(Text(f"  {_in_words(each)}"), highlight=False)
    else:
        heads = ["Method", "Released by the clients", "Besides", "Ensemble", "Defaults", "Source"]
        table = empty_table(heads, words=6)
        for each in found:
            table.add_row(*map(Text, [each["method"], *cells(each)]))
        console.print(table)
    echo(f"\n{HOW}", end="")


def cells(each: dict[str, Any]) -> list[str]:
    """A method as the cells of a table, after its name: '-' where there is nothing."""
    return [
        "; ".join(each["released"]),
        ", ".join(each["besides"]) or "-",
        " and ".join(each["ensemble"]) or "-",
        _defaults(each["options"]) or "-",
        each["source"],
    ]


def _in_words(each: dict[str, Any]) -> str:
    released, besides, ensemble, defaults, source = cells(each)
    parts = [
        f"released: {released}",
        f"besides: {besides}",
        f"ensemble from outputs on: {ensemble}",
    ]
    return "; ".join([*parts, f"defaults: {defaults}", source])


def _defaults(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(value)}" for key, value in options.items())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _print_one(found: dict[str, Any], module: ModuleType) -> None:
    from neulig_fl.merging import methods as merge_methods

    lines = [found["summary"], "", f"Released: {'; '.join(found['released'])}"]
    lines += [f"Besides: {', '.join(found['besides'])}"] if found["besides"] else []
    if found["ensemble"]:
        lines.append(f"Ensemble counterpart: from outputs on {' and '.join(found['ensemble'])}")
    fields = merge_methods.options(module).model_fields
    lines += ["Options:" if fields else "Options: none"]
    for key, field in fields.items():
        lines.append(f"  {key}: {_shown(field.default)}   {field.description}")
    echo("\n".join([*lines, "", _rule(module)]))


def _rule(module: ModuleType) -> str:
    """What the method's docstring says of its rule, without what is for programmers."""
    from neulig_fl.merging import methods as merge_methods

    paragraphs = cleandoc(merge_methods.rule(module).__doc__ or "").split("\n\n")
    return "\n\n".join(p for p in paragraphs if not p.startswith(_FOR_PROGRAMMERS))
