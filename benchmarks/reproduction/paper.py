"""The paper's tables as printed, where they do not agree with themselves, and ours beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from neulig_fl.report import figures
from reproduction.order import mean_merge
from reproduction.over_seeds import Method, gap_interval, spread_of

FILE = Path(__file__).parents[1] / "paper_tables.json"
SIDES = ("merge", "ensemble")
HALF = 0.005
"""The most that rounding to two decimals can change."""

TINY = 1e-6

OURS: Mapping[str, tuple[str, str | None]] = {
    "Pre-trained": ("pretrained", None),
    "Fine-tuned": ("oracle", None),
    "Simple-Averaging": ("simple-average", None),
    "Task-Arithmetic": ("task-arithmetic", None),
    "Ties-Merging": ("ties", None),
    "RegMean": ("regmean", None),
    "AdaMerging": ("adamerging", None),
    "WeMoE": ("wemoe", None),
    "Ours (Semi-Supervised)": ("neulig", "semi"),
    "Ours (Supervised)": ("neulig", "supervised"),
}
"""The paper's names: our method, and the objective that Portland must have been trained by."""

GRANULARITY = "sample"
"""The paper's NeuLig has a CoopVec of its own for every input."""

Table = Mapping[str, Any]


def tables() -> dict[str, Any]:
    """The file of the paper's tables: title, arXiv id, tables by key."""
    loaded: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return loaded


# ---------------------------------------------------------------- where the paper disagrees


def doubts(table: Table) -> Iterator[str]:
    """A sentence for every printed figure that does not follow from the others, within rounding."""
    for row in table["methods"]:
        for words in (*_averages(table, row), *_gaps(row), *_average_gap(table, row)):
            yield f"{table['label']}, {row['method']}: {words}"


def mean(table: Table, row: Mapping[str, Any], figure: str) -> float | None:
    """The mean over tasks of what the paper prints; None where it prints none."""
    return figures.mean([row["tasks"][task][figure] for task in table["tasks"]])


def _averages(table: Table, row: Mapping[str, Any]) -> Iterator[str]:
    wrong = []
    for side in SIDES:
        printed, found = row["average"][side], mean(table, row, side)
        if found is not None and abs(printed - found) > 2 * HALF + TINY:
            wrong.append(side)
            means = figures.number(found)
            yield f"average {side} {figures.number(printed)}, the tasks' mean is {means}"
    exchanged = _exchanged(table, row) if len(wrong) == len(SIDES) else ()
    if exchanged:
        where = " and ".join(exchanged)
        yield f"both averages follow if merge and ensemble of {where} are exchanged"


def _exchanged(table: Table, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The fewest tasks whose columns must be exchanged for both averages to follow; or none."""
    tasks = table["tasks"]
    for count in range(1, len(tasks)):
        for chosen in combinations(tasks, count):
            sums = dict.fromkeys(SIDES, 0.0)
            for task in tasks:
                sides = reversed(SIDES) if task in chosen else SIDES
                for side, other in zip(SIDES, sides, strict=True):
                    sums[side] += row["tasks"][task][other]
            errors = [abs(sums[side] / len(tasks) - row["average"][side]) for side in SIDES]
            if max(errors) <= 2 * HALF + TINY:
                return chosen
    return ()


def _gaps(row: Mapping[str, Any]) -> Iterator[str]:
    for task, cell in row["tasks"].items():
        if cell["gap"] is not None and not _is_gap(cell, cell["gap"]):
            found = abs(cell["merge"] - cell["ensemble"])
            printed = figures.number(cell["gap"])
            yield f"gap on {task} {printed}, its two accuracies differ by {figures.number(found)}"


def _average_gap(table: Table, row: Mapping[str, Any]) -> Iterator[str]:
    """The average gap may be the averages' difference or the mean of the tasks' gaps."""
    average, of_tasks = row["average"], mean(table, row, "gap")
    if of_tasks is None or _is_gap(average, average["gap"]):
        return
    if abs(average["gap"] - of_tasks) > 2 * HALF + TINY:
        found = abs(average["merge"] - average["ensemble"])
        yield (
            f"average gap {figures.number(average['gap'])}, the averages differ by "
            f"{figures.number(found)} and the mean of the gaps is {figures.number(of_tasks)}"
        )


def _is_gap(cell: Mapping[str, Any], gap: float) -> bool:
    return abs(abs(cell["merge"] - cell["ensemble"]) - gap) <= 3 * HALF + TINY


# ---------------------------------------------------------------- ours beside it


@dataclass(frozen=True)
class Beside:
    """A row of the paper beside one of ours.

    Args:
        name: the paper's.
        average: the paper's averages.
        method: ours; None where the scenario has none.
    """

    name: str
    average: Mapping[str, float | None]
    method: Method | None

    @property
    def signs(self) -> str:
        """Whether merge minus ensemble, as printed, has the same sign in both."""
        ours = self.method and spread_of(self.method.average("gap_of_means"))
        merge, ensemble = self.average["merge"], self.average["ensemble"]
        if not self.method or not ours or merge is None or ensemble is None:
            return figures.NULL
        ends = gap_interval(self.method)
        if ends and ends[0] <= 0.0 <= ends[1]:
            return "ours not significant"
        signs = [_sign(ours["mean"]), _sign(merge - ensemble)]
        return "same" if signs[0] == signs[1] else "different"


def _sign(gap: float) -> int:
    rounded = round(gap, 2)
    return (rounded > 0) - (rounded < 0)


def beside(table: Table, methods: Sequence[Method], objective: str | None) -> list[Beside]:
    """The paper's rows in its order, each with all of ours that are the same method.

    Args:
        table: of the paper.
        methods: of one stage.
        objective: by which Portland was trained; the paper has a row for each.
    """
    found = []
    for row in table["methods"]:
        name, wanted = OURS[row["method"]]
        same = [m for m in methods if m.name == name and m.granularity in (None, GRANULARITY)]
        own: list[Method | None] = [*same] if wanted in (None, objective) else []
        found += [Beside(row["method"], row["average"], method) for method in own or [None]]
    return found


def order(rows: Sequence[Beside]) -> tuple[int, list[str]]:
    """How the order by merge accuracy compares.

    Returns:
        The number of pairs of rows that both sides order; those in another order here, as
        `A over B` in our names, the better one here first.
    """
    figured = [
        (row, ours)
        for row in rows
        if row.method and row.average["merge"] is not None
        if (ours := mean_merge(row.method)) is not None
    ]
    pairs, other = 0, []
    for (one, ours), (two, theirs) in combinations(figured, 2):
        here, there = ours - theirs, one.average["merge"] - two.average["merge"]  # type: ignore[operator]
        if not round(here, 9) or not round(there, 9):  # two of ours in one row of the paper, too
            continue
        pairs += 1
        if (here > 0) != (there > 0):
            better, worse = (one, two) if here > 0 else (two, one)
            other.append(f"{better.method.label} over {worse.method.label}")  # type: ignore[union-attr]
    return pairs, other
