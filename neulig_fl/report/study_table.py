"""The end of a study: on one screen each case's accuracy, what it cost, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from textwrap import shorten

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neulig_fl.core.errors import plain
from neulig_fl.core.run_folders import STUDY_PAGE
from neulig_fl.report import figures, study_tidy, study_words, tables
from neulig_fl.report.brief import LINES
from neulig_fl.report.study_words import Study

_FEWEST = 3
"""Cases that are shown where there is room for no more."""


def show(study: Study, console: Console, path: Path) -> None:
    """Print what a study came to; at most 24 lines where the console has 80 columns or more.

    Args:
        study: the content of study.json.
        console: where to; its width decides the layout.
        path: study.json on disk.
    """
    said = study["answers"]
    for cases, sentences, words in _smaller(len(study["cases"]), len(said)):
        parts = [*_parts(study, console, path, cases, said[:sentences], words)]
        if sum(_height(part, console) for part in parts) <= LINES:
            break
    for part in parts:
        console.print(part)


def _smaller(cases: int, sentences: int) -> Iterator[tuple[int, int, bool]]:
    """What is tried: how many cases and sentences, and whether the table has its words.

    First fewer sentences, then a table of figures alone, then fewer cases.
    """
    yield from ((cases, count, True) for count in range(sentences, 0, -1))
    yield from ((count, 1, False) for count in range(cases, _FEWEST - 1, -1))
    yield min(cases, _FEWEST), 0, False


def _height(part: Text | Table, console: Console) -> int:
    text = StringIO()
    Console(file=text, width=console.width).print(part)
    return text.getvalue().count("\n")


def _parts(
    study: Study, console: Console, path: Path, cases: int, said: Sequence[str], words: bool
) -> Iterator[Text | Table]:
    runs = study["runs"]
    failed = sum(run["state"] == "failed" for run in runs)
    how = f": {len(study['cases'])} cases, {study_words.seeds(study)}, {len(runs)} runs"
    how += f", {failed} FAILED" if failed else ""
    yield Text(figures.plain(study["name"]), style="bold").append(how, style="not bold")
    if study["question"]:
        most = max(2 * console.width - 2, 20)
        yield _paragraph(
            shorten(figures.plain(study["question"]), most, placeholder="..."), "italic"
        )
    yield _table(study, console, cases, words)
    if cases < len(study["cases"]):
        yield Text(f"and {len(study['cases']) - cases} more cases")
    for sentence in said:
        yield _paragraph(figures.plain(sentence))
    rest = len(study["answers"]) - len(said)
    more = f"{rest} more sentence{'s' * (rest > 1)}, e" if rest else "E"
    yield _paragraph(study["rule"], "dim")
    page = path.with_name(STUDY_PAGE)
    where = page if page.is_file() else path.with_name("study.md")
    yield _paragraph(f"{more}very stage and method: {plain(where)}", "cyan")
    if not study_tidy.has_parquet():
        yield _paragraph(study_tidy.NO_PARQUET)


def _table(study: Study, console: Console, cases: int, words: bool) -> Table:
    """Layouts from rich to narrow; the last folds its words."""
    lines = [*_lines(study)][:cases]
    layouts = [_layout(lines, left_out) for left_out in ((), ("Method",))]
    layouts.append(_layout(lines, ("Method", "Revealed")))
    if not words:
        return layouts[-1]
    if tables.fits(console, layouts[0]):
        return layouts[0]
    return next((each for each in layouts[1:] if console.width >= _width(each)), layouts[-1])


def _width(table: Table) -> int:
    """What a table needs at least, its words folded to 20 columns."""
    words = sum(20 for column in table.columns if not column.no_wrap)
    numbers = [
        max(len(line) for cell in column.cells for line in str(cell).split("\n"))
        for column in table.columns
        if column.no_wrap
    ]
    return words + sum(numbers) + 2 * len(table.columns)


def _layout(lines: Sequence[Mapping[str, str]], left_out: Sequence[str]) -> Table:
    heads = [
        head
        for head in (lines[0] if lines else ())
        if head not in left_out and {line[head] for line in lines} != {figures.NULL}
    ]
    words = sum(head in ("Case", "Method", "Revealed") for head in heads)
    table = tables.empty_table(heads, words=words, gap=1)
    for line in lines:
        table.add_row(*(Text(line[head]) for head in heads))
    return table


_HEADS = ("Method", "Revealed", "Accuracy", "Difference", "Bytes each", "Epsilon")


def _lines(study: Study) -> Iterator[dict[str, str]]:
    """What the table says of each case, of its last stage that has an accuracy."""
    compared = {c["case"]: c for c in study["comparisons"] if c["last"] and c["joint"]}
    for case, stage in study_words.last_stages(study).items():
        line = {"Case": figures.plain(case), **dict.fromkeys(_HEADS, figures.NULL)}
        if stage is not None:
            row = stage["headline"]
            line["Method"] = row["label"]
            line["Revealed"] = study_words.revealed(stage)
            line["Accuracy"] = study_words.spread(row["accuracy"])
            line["Bytes each"] = study_words.size(stage)
            line["Epsilon"] = figures.epsilon(stage["epsilon_so_far"])
        if case in compared:
            line["Difference"] = figures.signed(compared[case]["difference"]["mean"])
        yield line


def _paragraph(words: str, style: str = "") -> Text:
    return Text(words, style=style, overflow="fold")
