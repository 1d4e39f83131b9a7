"""A comparison of runs in Markdown and CSV; `comparison_screen` has the terminal's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from neulig_fl.report import comparison, figures, rows, tidy
from neulig_fl.report.comparison import Cell, ComparedStage, Comparison, Line, name
from neulig_fl.report.headline import SIDES
from neulig_fl.report.markdown_tables import filled, table, text

COLUMNS = (
    "stage", "method", "granularity", "variant", "quantity", "run", "scenario", "accuracy",
    "difference", "low", "high", "over", "reason",
)  # fmt: skip
"""Of the CSV: accuracies in percent; difference to the first run and its interval in points."""


def markdown(found: Comparison) -> str:
    """The comparison as Markdown."""
    numbers = range(len(found.runs))
    runs = [
        [name(n), run.folder, run.scenario, ", ".join(map(str, run.seeds))]
        for n, run in enumerate(found.runs)
    ]
    parts = ["# Comparison of runs", table(["", "Folder", "Scenario", "Seeds"], runs, words=4)]
    parts += ["## What the scenarios differ in"]
    if found.settings:
        lines = [[each.key, *map(value_text, each.values)] for each in found.settings]
        parts.append(table(["Key", *map(name, numbers)], lines, words=1 + len(numbers)))
    else:
        parts.append("Nothing: they say the same.")
    parts += ["## Stages", *_stages(found)]
    said = [*comparison.sentences(found), *found.notes, *comparison.reasons(found), comparison.RULE]
    parts += [f"- {text(each)}" for each in said]
    for stage in found.stages:
        if stage.lines:
            parts += [f"## Stage {text(stage.title)}", _lines(stage, len(found.runs))]
    return "\n\n".join(parts) + "\n"


def _stages(found: Comparison) -> Iterator[str]:
    """The joint models, run by run."""
    head = ["Stage", "Run", "Method", "Accuracy of", "%", f"Minus {name(0)}", "95 % CI"]
    body = []
    for stage in found.stages:
        for number, speaker in enumerate(stage.speakers):
            if speaker is not None:
                side = SIDES[speaker.quantity]
                cells = cell_texts(speaker.cell)
                given = [released(stage, number), figures.epsilon(stage.epsilon[number])]
                body.append([stage.title, name(number), speaker.label, side, *cells, *given])
    if body:
        yield filled([*head, "Bytes each so far", "Epsilon so far"], body, words=4)


def _lines(stage: ComparedStage, runs: int) -> str:
    head = ["Method", "Accuracy of", name(0)]
    for number in range(1, runs):
        head += [name(number), f"{name(number)} minus {name(0)}", "95 % CI"]
    body = []
    for line in shown(stage.lines):
        cells = [figures.number(line.cells[0].value)]
        for cell in line.cells[1:]:
            cells += cell_texts(cell)
        body.append([line.label, SIDES[line.quantity], *cells])
    return table(head, body, words=2)


def shown(lines: Sequence[Line]) -> list[Line]:
    """The lines of a table: what is one model has its accuracy once."""
    found: list[Line] = []
    for line in lines:
        last = found[-1] if found else None
        again = last is not None and line.method in rows.ONE_MODEL and last.label == line.label
        if not again or last is None or line.cells != last.cells:
            found.append(line)
    return found


def cell_texts(cell: Cell) -> list[str]:
    """Accuracy, difference and interval as they are printed."""
    versus = cell.versus_first
    return [
        figures.number(cell.value),
        figures.signed(versus.value if versus else None),
        figures.interval(versus.ci95 if versus else None),
    ]


def released(stage: ComparedStage, number: int) -> str:
    """Bytes of a client so far, in words."""
    sizes = stage.released[number]
    if sizes is None:
        return figures.NULL
    return " to ".join(dict.fromkeys(figures.size(each) for each in sizes))


def value_text(value: Any) -> str:
    """A scenario's value in one line; what is not there is "-"."""
    if value is None:
        return figures.NULL
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def csv_text(found: Comparison) -> str:
    """The comparison as CSV: a row for each stage, method, side and run."""
    lines = [
        dict(zip(COLUMNS, _csv_row(stage, line, number, found), strict=True))
        for stage in found.stages
        for line in stage.lines
        for number in range(len(found.runs))
    ]
    return tidy.csv_text(lines, COLUMNS)


def _csv_row(stage: ComparedStage, line: Line, number: int, found: Comparison) -> list[Any]:
    run, cell = found.runs[number], line.cells[number]
    versus = cell.versus_first
    low, high = (versus.ci95 if versus else None) or (None, None)
    difference = [versus.value, low, high, versus.over, versus.reason] if versus else [None] * 5
    row = [stage.names[number], line.method, line.granularity, line.variant, line.quantity]
    return [*row, run.folder, run.scenario, cell.value, *difference]
