"""The end of a run on a terminal of any width: short, every average, every task's accuracies.

Each table has layouts from rich to narrow; the first that fits the console is taken. Cells are
Text, never markup: a reason may come from a client.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.core.errors import plain
from neulig_fl.core.run_folders import RUN_PAGE
from neulig_fl.report import figures, rows, sentences, settings, stage_table, tables, timeline

_VERDICT = {"equivalent": "green", "different": "red", "inconclusive": "yellow"}
_SHORT = {"merge_accuracy": "Mer.", "ensemble_accuracy": "Ens.", "gap": "Gap"}
_WIDTH = {"merge_accuracy": 6, "ensemble_accuracy": 6, "gap": 7}
Column = tuple[str, Callable[[rows.TableRow], str]]


def show(report: Mapping[str, Any], console: Console, path: Path | None) -> None:
    """Print a report.

    Args:
        report: the report.
        console: where to; its width decides the layout.
        path: report.json on disk, named at the end; None where there is none.
    """
    _head(report, console)
    heading(console, "Stages")
    console.print(stage_table.fitted(timeline.stage_lines(report), console, records=True))
    for sentence in [*timeline.answers(report), timeline.RULE]:
        _say(console, sentence)
    for stage in report["stages"]:
        _stage(stage, rows.clients(report), console)
    heading(console, "What each client gave away")
    _given(report, console)
    heading(console, "How to read it")
    for sentence in sentences.how_to_read(report):
        _say(console, sentence)
    if report["notes"]:
        heading(console, "Notes")
    for note in report["notes"]:
        _say(console, note, mark="-")
    if path is not None:
        heading(console, "The whole report")
        files = [path.with_name(name) for name in (RUN_PAGE, "report.md", path.name)]
        for file in files if files[0].is_file() else files[1:]:  # `run` draws the page
            console.print(Text(plain(file), overflow="fold"), style="cyan")


def _head(report: Mapping[str, Any], console: Console) -> None:
    scenario, total = report["scenario"], figures.number(report["seconds"]["total"], 1)
    memory = report["peak_rss_bytes"] / 2**20
    console.print(Text(figures.plain(scenario["name"]), style="bold"))
    run = f"Seed {scenario['seed']}, {report['engine']} engine, {total} s"
    _say(console, f"{run}, server's peak memory {memory:,.0f} MiB.")
    for sentence in [
        *sentences.differs(scenario),
        *sentences.experts(report),
        sentences.portland(report),
    ]:
        _say(console, sentence)


def _stage(stage: Mapping[str, Any], everyone: Sequence[str], console: Console) -> None:
    heading(console, f"Stage {stage['name']} (group {stage['group']})")
    found = rows.rows(stage, everyone)
    if not found:
        _say(console, "This stage has no results: it only released records.")
        return
    layouts = [([c for c in columns if _says(c, found)], gap) for columns, gap in _LAYOUTS]
    tables.print_first_that_fits(console, [_averages(found, *layout) for layout in layouts])
    told = [*rows.missing(found), *rows.groupings(stage), *settings.sentences(stage)]
    for sentence in told:
        _say(console, sentence, mark="-")
    for table in _per_task(found, rows.tasks(stage), rows.quantities(found), console):
        console.print()
        console.print(table)
    differences = rows.differences(stage)
    if differences:
        console.print()
        tables.print_first_that_fits(
            console, [_differences(differences, wide) for wide in (True, False)]
        )
    if stage["audits"]:
        _say(console, f"{len(stage['audits'])} audits: see report.md")


def _average(key: str, shown: Callable[[Any], str]) -> Callable[[rows.TableRow], str]:
    return lambda row: shown(row.average[key])


_MERGE: Column = ("Merge", _average("merge_accuracy", figures.number))
_ENSEMBLE: Column = ("Ens.", _average("ensemble_accuracy", figures.number))
_GAP: Column = ("Gap of\nmeans", _average("gap_of_means", figures.signed))
_CI: Column = ("95 % CI", _average("gap_of_means_ci95", figures.interval))
_ABSOLUTE: Column = ("Mean\n|gap|", _average("mean_absolute_gap", figures.number))
_AGREE: Column = ("Agree\n%", _average("agreement", figures.percent))
_EXPERTS: Column = ("Effective\nexperts", _average("effective_experts", figures.number))
_INTERIOR: Column = ("Interior\n%", _average("interior", figures.percent))
_VERDICTS: Column = ("Verdict", lambda row: row.verdict)


def _says(column: Column, found: Sequence[rows.TableRow]) -> bool:
    """Whether a column has a figure; what a stage does not compute has none."""
    return any(column[1](row) != figures.NULL for row in found)


def _stacked(row: rows.TableRow) -> str:
    gap = _GAP[1](row)
    return gap if row.average["gap_of_means_ci95"] is None else f"{gap}\n{_CI[1](row)}"


_WIDE = (_MERGE, _ENSEMBLE, _GAP, _CI, _VERDICTS, _ABSOLUTE, _AGREE, _EXPERTS, _INTERIOR)
_MIDDLE = (_MERGE, _ENSEMBLE, _GAP, _CI, _VERDICTS, _INTERIOR)
_NARROW = (_MERGE, _ENSEMBLE, ("Gap of means\n95 % CI", _stacked), _INTERIOR)
_LAYOUTS = (
    (_WIDE, 2),
    (_MIDDLE, 2),
    (_MIDDLE, 1),
    (_NARROW, 1),
)  # columns, and the gap between them


def _averages(found: Sequence[rows.TableRow], layout: Sequence[Column], gap: int) -> Table:
    """The stage's averages; a layout without verdicts has them under the methods' names."""
    table = tables.empty_table(["Averages", *(head for head, _ in layout)], gap=gap)
    for at, (head, _) in enumerate(layout, start=1):
        table.columns[at].justify = "left" if head == "Verdict" else "right"
    for at, row in enumerate(found):
        style = _VERDICT.get(row.verdict, "dim")
        name = _name(row)
        if _VERDICTS not in layout and row.verdict != figures.NULL:
            name.append(f"\n{row.verdict}", style=style)
        if row.without:
            name.append(f"\nwithout {row.fewer}", style="yellow not bold")
        cells = [
            Text(shown(row), style=style if head == "Verdict" else "") for head, shown in layout
        ]
        table.add_row(name, *cells, end_section=_ends(found, at))
    return table


def _name(row: rows.TableRow) -> Text:
    return Text().append(row.label, style="bold" if row.rank == rows.NEULIG else "")


def _ends(found: Sequence[rows.TableRow], at: int) -> bool:
    """Whether the controls begin after this row."""
    return at + 1 < len(found) and found[at].rank != rows.CONTROL == found[at + 1].rank


def _per_task(
    found: Sequence[rows.TableRow], tasks: Sequence[str], keys: Sequence[str], console: Console
) -> Iterator[Table]:
    """Each task's accuracies, as many tasks side by side as fit; one alone has intervals too."""
    known = [row for row in found if row.tasks]
    if not known or not keys:
        return
    for each in range(len(tasks), 0, -1):
        blocks = [_block(known, tasks[at : at + each], keys) for at in range(0, len(tasks), each)]
        if all(tables.fits(console, block) for block in blocks) and (each > 1 or len(tasks) == 1):
            yield from blocks
            return
    for task in tasks:
        yield _one_task(known, task)


def _block(found: Sequence[rows.TableRow], tasks: Sequence[str], keys: Sequence[str]) -> Table:
    under = " ".join(f"{_SHORT[key]:>{_WIDTH[key]}}" for key in keys)
    names = [textwrap.wrap(figures.plain(task), max(len(under), 12)) for task in tasks]
    widths = [max(len(line) for line in [*name, under]) for name in names]
    table = tables.empty_table(["Each task"])
    for name, width in zip(names, widths, strict=True):
        head = [*(line.center(width) for line in name), under.rjust(width)]
        table.add_column(Text("\n".join(head)), no_wrap=True, vertical="bottom")
    for at, row in enumerate(found):
        cells = []
        for task, width in zip(tasks, widths, strict=True):
            shown = (f"{_figure(row.tasks.get(task), key):>{_WIDTH[key]}}" for key in keys)
            cells.append(Text(" ".join(shown).rjust(width)))
        table.add_row(_name(row), *cells, end_section=_ends(found, at))
    return table


def _one_task(found: Sequence[rows.TableRow], name: str) -> Table:
    table = tables.empty_table([figures.plain(name), "Mer.", "Ens.", "Gap", "95 % CI"], gap=1)
    for at, row in enumerate(found):
        task = row.tasks.get(name)
        cells = [_figure(task, key) for key in rows.QUANTITIES]
        cells.append(figures.interval(task["gap_ci95"] if task else None))
        table.add_row(_name(row), *map(Text, cells), end_section=_ends(found, at))
    return table


def _figure(task: Mapping[str, Any] | None, key: str) -> str:
    if task is None:
        return figures.NULL
    return figures.signed(task[key]) if key == "gap" else figures.number(task[key])


def _differences(found: Sequence[rows.Difference], wide: bool) -> Table:
    """Methods minus NeuLig; where it is narrow, an interval stands under its difference."""
    join = " " if wide else "\n"
    table = tables.empty_table(["Minus NeuLig", f"Merge{join}95 % CI", f"Ensemble{join}95 % CI"])
    for difference in found:
        cells = [figures.plain(difference.label)]
        for key in ("merge_accuracy", "ensemble_accuracy"):
            value, ends = difference.values.get(key, (None, None))
            shown = [figures.signed(value), *([figures.interval(ends)] if ends else [])]
            cells.append(join.join(shown))
        table.add_row(*map(Text, cells))
    return table


def _given(report: Mapping[str, Any], console: Console) -> None:
    everyone = rows.clients(report)
    found = [given for stage in report["stages"] for given in rows.given(stage)]
    if found:
        layouts = [_given_wide(found, everyone), _given_narrow(found, everyone)]
        tables.print_first_that_fits(console, layouts)
        if any(given.epsilon == figures.NULL for given in found):
            _say(console, "Epsilon '-': no differential-privacy claim.")
    else:
        _say(console, "Nothing left a client.")
    for sentence in sentences.refusals(report):
        _say(console, sentence, mark="-")
    for sentence in sentences.privacy(report):
        _say(console, sentence)
    _say(console, f"{sentences.ledger(report)}.")


def _given_wide(found: Sequence[rows.Given], everyone: Sequence[str]) -> Table:
    table = tables.empty_table(["Stage", "Clients", "Record", *_AMOUNTS], words=3)
    last = None
    for given in found:
        stage = "" if given.stage == last else figures.plain(given.stage)
        words = (stage, rows.who(given.clients, everyone), given.what)
        table.add_row(*map(Text, [*words, *_amounts(given)]))
        last = given.stage
    return table


def _given_narrow(found: Sequence[rows.Given], everyone: Sequence[str]) -> Table:
    """Each stage's name on a line of its own."""
    table = tables.empty_table(["Clients: record", *_AMOUNTS], gap=1)
    last = None
    for given in found:
        if given.stage != last:
            table.add_row(Text(f"Stage {figures.plain(given.stage)}", style="bold"))
        words = f"{rows.who(given.clients, everyone)}: {given.what}"
        table.add_row(*map(Text, [words, *_amounts(given)]))
        last = given.stage
    return table


_AMOUNTS = ("Rows", "Bytes each", "Epsilon")


def _amounts(given: rows.Given) -> tuple[str, str, str]:
    return figures.count(given.rows), figures.count(given.bytes), given.epsilon


def heading(console: Console, words: str) -> None:
    """A blank line and a heading."""
    console.print()
    console.print(Text(figures.plain(words), style="bold cyan"))


def _say(console: Console, words: str, mark: str = "") -> None:
    """A paragraph, filled to the console; with a mark, hanging behind it."""
    told = Text(figures.plain(words), overflow="fold")
    if not mark:
        console.print(told)
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(mark, told)
    console.print(grid)
