"""The end of a run: on one screen what each stage's share policy gave, and where the rest lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.core.errors import plain
from neulig_fl.core.run_folders import RUN_PAGE
from neulig_fl.report import figures, rows, sentences, stage_table, timeline
from neulig_fl.report.headline import MODELS, headline, quantity
from neulig_fl.report.timeline import StageLine

LINES = 24
"""Of a terminal that nobody made larger."""


def show(
    report: Mapping[str, Any], console: Console, path: Path | None, besides: Sequence[str] = ()
) -> None:
    """Print what a run came to; at most 24 lines where the console has 80 columns or more.

    Args:
        report: the report.
        console: where to; its width decides the layout.
        path: report.json on disk, named at the end; None where there is none.
        besides: sentences on what no report says.
    """
    for detail in ("all", "no records", "last sentences"):
        parts = [*_parts(report, console, path, besides, detail)]
        if sum(_height(part, console) for part in parts) <= LINES:
            break
    for part in parts:
        console.print(part)


def _height(part: Text | Table, console: Console) -> int:
    probe = Console(file=StringIO(), width=console.width)
    probe.print(part)
    return str(probe.file.getvalue()).count("\n")  # type: ignore[attr-defined]


def _parts(
    report: Mapping[str, Any],
    console: Console,
    path: Path | None,
    besides: Sequence[str],
    detail: str,
) -> Iterator[Text | Table]:
    scenario, total = report["scenario"], figures.number(report["seconds"]["total"], 1)
    run = f": seed {scenario['seed']}, {report['engine']} engine, {total} s"
    yield Text(figures.plain(scenario["name"]), style="bold").append(run, style="not bold")
    yield from map(_paragraph, sentences.differs(scenario))
    lines = timeline.stage_lines(report)
    yield stage_table.fitted(lines, console, records=detail == "all")
    said = timeline.answers(report)
    yield Text()
    yield from _sentences(said if detail != "last sentences" else said[-2:])
    yield from _sentences([*_controls(report), *_refused(lines), _ledger(report), *besides])
    if path is not None:
        page = path.with_name(RUN_PAGE)
        where = page if page.is_file() else path.with_name("report.md")
        yield _paragraph(f"Every method, task, note and release: {plain(where)}", "cyan")


def _controls(report: Mapping[str, Any]) -> Iterator[str]:
    """What the controls reach in the last stage with an accuracy: without them none is good."""
    spoken = [(s, row) for s in report["stages"] if (row := headline(s["results"])) is not None]
    if not spoken:
        return
    stage, speaker = next(
        each for each in reversed(spoken) if each[0]["group"] == spoken[0][0]["group"]
    )
    key = str(quantity(speaker))
    found = [
        f"{row.label} {figures.number(row.average[key])}"
        for row in rows.rows(stage)
        if row.rank == rows.CONTROL
        and row.label != speaker["method"]
        and row.average[key] is not None
    ]
    if found:
        yield f"Beside it in {stage['name']}, {MODELS[key]}: {', '.join(found)} %."


def _refused(lines: Sequence[StageLine]) -> Iterator[str]:
    refused = [f"{line.refusals} in {line.name}" for line in lines if line.refusals]
    if refused:
        yield f"Records refused or missing: {', '.join(refused)}."


def _ledger(report: Mapping[str, Any]) -> str:
    found = report["ledger"]
    state = "chain and signatures verified" if found["verified"] else "NOT VERIFIED"
    return f"Ledger: {figures.count(found['entries'])} entries, {state}."


def _sentences(said: Sequence[str]) -> Iterator[Text]:
    for sentence in said:
        yield _paragraph(figures.plain(sentence))


def _paragraph(words: str, style: str = "") -> Text:
    return Text(words, style=style, overflow="fold")
