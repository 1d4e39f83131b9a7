"""The tables of a page: cells with their words, and with the number that they sort by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neulig_fl.report import figures, rows
from neulig_fl.report import settings as method_settings
from neulig_fl.report.headline import SIDES


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is printed.
        value: the report's own number; None where the cell holds words or nothing.
    """

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: what it holds, for a caption.
        head: the columns' names.
        body: the rows' cells.
        numbers: whether each column holds numbers.
    """

    title: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]
    numbers: Sequence[bool]


def words(value: object) -> Cell:
    """A cell of words; "-" where there are none."""
    return Cell(figures.plain(str(value)) if value not in (None, "") else figures.NULL)


def number(value: float | None, shown: Callable[[Any], str] = figures.number) -> Cell:
    """A cell of a number, and how it is printed."""
    return Cell(shown(value), value)


def table(title: str, head: Sequence[str], body: Iterable[Sequence[Cell]]) -> Table | None:
    """Without the columns of which no row has anything; None where there is no row."""
    lines = list(body)
    if not lines:
        return None
    kept = [at for at in range(len(head)) if any(row[at].text != figures.NULL for row in lines)]
    numbers = [any(row[at].value is not None for row in lines) for at in kept]
    return Table(
        figures.plain(title),
        [figures.plain(head[at]) for at in kept],
        [[row[at] for at in kept] for row in lines],
        numbers,
    )


def averages(stage: Mapping[str, Any], report: Mapping[str, Any]) -> Table | None:
    """A stage's rows, averaged over the tasks."""
    head = ["Method", "Without", "Merge %", "Ensemble %", "Gap of means", "95 % CI", "Verdict"]
    head += ["Agreement %", "Effective experts", "Interior %", "Seconds", "Bytes needed"]
    body = []
    for result in rows.ordered(stage["results"]):
        row = rows.row(result, rows.clients(report))
        average = row.average
        body.append(
            [
                words(row.label),
                words(row.fewer),
                number(average["merge_accuracy"]),
                number(average["ensemble_accuracy"]),
                number(average["gap_of_means"], figures.signed),
                Cell(figures.interval(average["gap_of_means_ci95"])),
                words(row.verdict),
                number(average["agreement"], figures.percent),
                number(average["effective_experts"]),
                number(average["interior"], figures.percent),
                number(result["seconds"]),
                number(result["bytes"] or None, figures.count),
            ]
        )
    return table(f"{stage['name']}: averages over the tasks", head, body)


def by_task(stage: Mapping[str, Any], report: Mapping[str, Any]) -> Table | None:
    """A stage's rows, task by task."""
    head = ["Task", "Method", "n", "Merge %", "Ensemble %", "Gap", "95 % CI", "Agreement %"]
    head += ["Effective experts", "Interior %"]
    found = rows.rows(stage, rows.clients(report))
    body = [
        [
            words(name),
            words(row.label),
            number(task["n"], figures.count),
            number(task["merge_accuracy"]),
            number(task["ensemble_accuracy"]),
            number(task["gap"], figures.signed),
            Cell(figures.interval(task["gap_ci95"])),
            number(task["agreement"], figures.percent),
            number(task["effective_experts"]),
            number(task["interior"], figures.percent),
        ]
        for name in rows.tasks(stage)
        for row in found
        if (task := row.tasks.get(name)) is not None
    ]
    return table(f"{stage['name']}: each task", head, body)


def minus_neulig(stage: Mapping[str, Any]) -> Table | None:
    """Each method minus NeuLig, paired by query."""
    body = []
    for found in rows.differences(stage):
        cells = [words(found.label)]
        for key in ("merge_accuracy", "ensemble_accuracy"):
            value, ends = found.values.get(key, (None, None))
            cells += [number(value, figures.signed), Cell(figures.interval(ends))]
        body.append(cells)
    head = ["Method", "Merge minus NeuLig's", "95 % CI", "Ensemble minus NeuLig's", "95 % CI"]
    return table(f"{stage['name']}: method minus NeuLig, paired by query", head, body)


def settings(stage: Mapping[str, Any]) -> Table | None:
    """The merge methods' options and needs."""
    body = ([words(cell) for cell in row] for row in method_settings.table_rows(stage))
    return table(f"{stage['name']}: settings of the merge methods", method_settings.HEAD, body)


def audits(stage: Mapping[str, Any]) -> Table | None:
    """What attacks found, one line an audit."""
    keys = list(dict.fromkeys(key for audit in stage["audits"] for key in audit))
    body = (
        [
            number(value, "{:g}".format)
            if isinstance(value := audit.get(key), int | float)
            else words(value)
            for key in keys
        ]
        for audit in stage["audits"]
    )
    return table(f"{stage['name']}: audits", keys, body)


def stage_differences(report: Mapping[str, Any]) -> Table | None:
    """A stage minus an earlier one, paired by query."""
    body = (
        [
            words(found["stage"]),
            words(SIDES[found["quantity"]]),
            words(found["versus"]),
            words(SIDES[found["versus_quantity"]]),
            number(found["difference"], figures.signed),
            Cell(figures.interval(found["ci95"])),
        ]
        for found in report["stage_comparisons"]
    )
    head = ["Stage", "Accuracy", "Minus stage", "Accuracy ", "Difference", "95 % CI"]
    return table("Stage minus earlier stage, paired by query", head, body)


def releases(report: Mapping[str, Any]) -> Table | None:
    """Every record that left a client."""
    head = ["Stage", "Client", "Kind", "Queries", "Protection", "Rows", "Bytes", "Epsilon"]
    body = (
        [
            words(stage["name"]),
            words(release["client"]),
            words(release["kind"]),
            words(release["queries"]),
            words(release["protection"]),
            number(rows.counted_rows(release), figures.count),
            number(release["bytes"], figures.count),
            _epsilon(release["epsilon"]),
        ]
        for stage in report["stages"]
        for release in stage["releases"]
    )
    return table("Who released what", head, body)


def refusals(report: Mapping[str, Any]) -> Table | None:
    """Every record that a client did not release."""
    body = (
        [words(text) for text in (stage["name"], each["client"], each["kind"], each["reason"])]
        for stage in report["stages"]
        for each in stage["refusals"]
    )
    return table("Refused, or missing", ["Stage", "Client", "Kind", "Reason"], body)


def accuracy_against_epsilon(report: Mapping[str, Any]) -> Table | None:
    """Accuracy beside what was spent, where something was noised."""
    if not report["privacy"]["stages"] or report["privacy"]["epsilon"] is None:
        return None
    head = ["Stage", "Method", "Epsilon of the stage", "Epsilon so far", "Ensemble %", "Merge %"]
    body = ([words(cell) for cell in line] for line in rows.accuracy_against_epsilon(report))
    return table("Accuracy against epsilon", head, body)


def experts(report: Mapping[str, Any]) -> Table | None:
    """Each expert alone, which only a simulation knows."""
    head = ["Client", "Task", "Group", "Origin", "Accuracy %", "Trained on", "Evaluated on"]
    body = (
        [
            *(words(expert[key]) for key in ("client", "task", "group", "origin")),
            number(expert["accuracy"]),
            number(expert["n_train"], figures.count),
            number(expert["n_eval"], figures.count),
        ]
        for expert in report["reference"]["experts"]
    )
    return table("Each expert on its own task", head, body)


def seconds(report: Mapping[str, Any]) -> Table | None:
    """Where the time went."""
    body = ([words(part), number(spent)] for part, spent in report["seconds"].items())
    return table("Seconds by part of the run", ["Part", "Seconds"], body)


def versions(report: Mapping[str, Any]) -> Table | None:
    """The server's software."""
    body = ([words(name), words(version)] for name, version in report["versions"].items())
    return table("Software", ["Package", "Version"], body)


def _epsilon(value: float | str | None) -> Cell:
    return Cell(figures.epsilon(value), value if isinstance(value, int | float) else None)
