"""A comparison of runs on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.report import comparison, figures, tables, terminal
from neulig_fl.report.comparison import ComparedStage, Comparison, name
from neulig_fl.report.comparison_pages import cell_texts, released, shown, value_text
from neulig_fl.report.headline import SIDES

_LONGEST = 60
"""Characters of a scenario's value on a terminal; Markdown and JSON have all of it."""


def show(found: Comparison, console: Console) -> None:
    """Print which runs, what their scenarios differ in, the stages, and every method.

    Args:
        found: the comparison.
        console: where to; its width decides the layout.
    """
    _runs(found, console)
    _settings(found, console)
    terminal.heading(console, "Stages")
    layouts = [_stages(found, costs) for costs in (2, 1, 0)]
    tables.print_first_that_fits(console, layouts)
    console.print()
    said = [*comparison.sentences(found), *found.notes, *comparison.reasons(found), comparison.RULE]
    for sentence in said:
        console.print(Text(figures.plain(sentence), overflow="fold"))
    for stage in found.stages:
        if stage.lines:
            console.print()
            layouts = [_lines(stage, stacked, gap) for stacked, gap in _LAYOUTS]
            layouts.append(_run_by_run(stage))
            tables.print_first_that_fits(console, layouts)


def _runs(found: Comparison, console: Console) -> None:
    table = tables.empty_table(["Run", "Folder", "Scenario", "Seeds"], words=4)
    for number, run in enumerate(found.runs):
        seeds = ", ".join(map(str, run.seeds))
        cells = [name(number), figures.plain(run.folder), figures.plain(run.scenario), seeds]
        table.add_row(*map(Text, cells))
    console.print(table)


def _settings(found: Comparison, console: Console) -> None:
    terminal.heading(console, "What the scenarios differ in")
    if not found.settings:
        console.print(Text("Nothing: they say the same."))
        return
    heads = [name(number) for number in range(len(found.runs))]
    wide = tables.empty_table(["Key", *heads], words=1 + len(heads))
    narrow = tables.empty_table(["Key", "Value"], words=2)
    for setting in found.settings:
        key, values = figures.plain(setting.key), [*map(value_text, setting.values)]
        wide.add_row(*map(Text, [key, *map(_short, values)]))
        narrow.add_row(Text(key, style="bold"))
        for head, value in zip(heads, values, strict=True):
            narrow.add_row(Text(f"  {head}"), Text(_short(value)))
    tables.print_first_that_fits(console, [wide, narrow])


def _short(words: str) -> str:
    plain = figures.plain(words)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 3]}..."


def _stages(found: Comparison, most: int) -> Table:
    """The joint model of each stage, a line for each run; fewer costs where there is no room."""
    costs = ["Bytes each\nso far", "Epsilon\nso far"][:most]
    if all(each is None for stage in found.stages for each in stage.epsilon):
        costs = costs[:1]
    head = ["Stage: method", "", "%", f"Minus\n{name(0)}", "95 % CI", *costs]
    table = tables.empty_table(head, words=2, gap=1)
    for stage in found.stages:
        table.add_row(Text(figures.plain(stage.title), style="bold"))
        for number, speaker in enumerate(stage.speakers):
            if speaker is None:
                continue
            words = f"  {name(number)}: {speaker.label}"
            given = [released(stage, number), figures.epsilon(stage.epsilon[number])][: len(costs)]
            cells = [words, SIDES[speaker.quantity], *cell_texts(speaker.cell), *given]
            table.add_row(*map(Text, cells))
    return table


_LAYOUTS = ((False, 2), (False, 1), (True, 2), (True, 1))
"""Whether differences stand below the accuracies, and the gap between columns."""


def _lines(stage: ComparedStage, stacked: bool, gap: int) -> Table:
    """Every method of a stage."""
    heads = [name(0)]
    for number in range(1, len(stage.names)):
        more = [name(number), f"minus {name(0)}", "95 % CI"]
        heads += ["\n".join([more[0], f"{more[1]} [{more[2]}]"])] if stacked else more
    table = tables.empty_table([f"Stage {figures.plain(stage.title)}", "", *heads], 2, gap)
    for line in shown(stage.lines):
        cells = [figures.number(line.cells[0].value)]
        for cell in line.cells[1:]:
            value, *more = cell_texts(cell)
            below = " ".join(each for each in more if each != figures.NULL)
            cells += [f"{value}\n{below}" if below else value] if stacked else [value, *more]
        table.add_row(*map(Text, [line.label, SIDES[line.quantity], *cells]))
    return table


def _run_by_run(stage: ComparedStage) -> Table:
    """Every method of a stage, a line for each run, for a narrow terminal or many runs."""
    head = [f"Stage {figures.plain(stage.title)}", "%", "minus", "95 % CI"]
    table = tables.empty_table(head, gap=1)
    for line in shown(stage.lines):
        table.add_row(Text(f"{line.label}, {SIDES[line.quantity]}", style="bold"))
        for number, cell in enumerate(line.cells):
            table.add_row(*map(Text, [f"  {name(number)}", *cell_texts(cell)]))
    return table
