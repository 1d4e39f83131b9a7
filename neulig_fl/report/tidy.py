"""A report as one table: a row for each stage, method, granularity and task, and for each average.

It is what statistics packages read (tidy: one observation a row), and what `neulig-fl report
--format csv` prints.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulig_fl.report import figures

AVERAGE = "average"
"""In the column `task`: the unweighted mean over the tasks."""

_PLACE = ("scenario", "seed", "stage", "group", "method", "granularity", "variant", "status")
_FIGURES = ("n", "merge_accuracy", "ensemble_accuracy", "gap", "gap_low", "gap_high")
_SHARES = ("agreement", "effective_experts", "interior")
_COSTS = ("experts", "bytes", "seconds", "reason")

COLUMNS = (*_PLACE, "task", *_FIGURES, *_SHARES, *_COSTS)
"""Accuracies are percent, gaps points, shares 0 to 1; `experts` is how many are mixed."""

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def records(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows, by column; what is missing is None.

    Args:
        report: of one run and seed.

    Example:
        >>> records({"scenario": {"name": "a", "seed": 7}, "stages": []})
        []
    """
    return [
        dict(zip(COLUMNS, row, strict=True))
        for stage in report["stages"]
        for result in stage["results"]
        for row in _rows(report["scenario"], stage, result)
    ]


def _rows(
    scenario: Mapping[str, Any], stage: Mapping[str, Any], result: Mapping[str, Any]
) -> Iterator[tuple[Any, ...]]:
    method = (result[key] for key in ("method", "granularity", "variant", "status"))
    place = (scenario["name"], scenario["seed"], stage["name"], stage["group"], *method)
    costs = (len(result["experts"]), result["bytes"], result["seconds"])
    for task in result["tasks"]:
        values = (task["n"], task["merge_accuracy"], task["ensemble_accuracy"], task["gap"])
        shares = [task[key] for key in _SHARES]
        ends = _ends(task["gap_ci95"])
        yield (*place, task["task"], *values, *ends, *shares, *costs, task["reason"])
    average = result["average"] or {}
    queries = sum(task["n"] for task in result["tasks"]) or None
    means = (average.get(k) for k in ("merge_accuracy", "ensemble_accuracy", "gap_of_means"))
    shares = [figures.mean([task[key] for task in result["tasks"]]) for key in _SHARES]
    ends = _ends(average.get("gap_of_means_ci95"))
    yield (*place, AVERAGE, queries, *means, *ends, *shares, *costs, result["reason"])


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval[0], interval[1])


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    r"""The rows as CSV (RFC 4180, a line of headings); None is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: names come
    from scenarios and reasons from clients.

    Args:
        rows: as `records` gives them, or others.
        columns: theirs.

    Example:
        >>> row = dict.fromkeys(COLUMNS) | {"scenario": "=cmd", "n": 3}
        >>> csv_text([row]).splitlines()[1][:7]
        "'=cmd,,"
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(cell(row.get(column)) for column in columns)
    return stream.getvalue()


def cell(value: Any) -> Any:
    """A value as CSV has it; a text that would be a formula gets an apostrophe before it."""
    if not isinstance(value, str):
        return "" if value is None else value
    shown = "".join(sign if sign.isprintable() else " " for sign in value)
    return f"'{shown}" if shown.startswith(_STARTS_A_FORMULA) else shown
