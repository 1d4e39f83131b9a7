"""One point for each stage and method: the joint model's accuracy, and what it was had for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulig_fl.report import figures, revealed, rows, timeline
from neulig_fl.report.headline import NEVER, SIDES, headline, quantity

MARKS = (
    "One point for each stage and method that partners could use (the oracle and the checkpoint "
    "itself are in the tables); filled is the row that speaks for its stage."
)
"""How such a figure's points are read."""


def points(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of every stage that have an accuracy, but those that no stage could use.

    Returns:
        `stage`, `method`, `side` (merge or ensemble), `accuracy` (percent), `bytes` (the most
        that a client had released by then), `revealed` (of `revealed.LEVELS`), `speaks` (whether
        the row speaks for its stage).
    """
    return list(_points(report))


def _points(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    so_far: list[Mapping[str, Any]] = []
    lines = timeline.stage_lines(report)
    for stage, line in zip(report["stages"], lines, strict=True):
        so_far += stage["releases"]
        speaker = headline(stage["results"])
        for result in rows.ordered(stage["results"]):
            key = quantity(result)
            if key is None or result["method"] in NEVER:
                continue
            yield {
                "stage": figures.plain(stage["name"]),
                "method": rows.called(result),
                "side": SIDES[key],
                "accuracy": result["average"][key],
                "bytes": line.bytes[1],
                "revealed": revealed.most(so_far),
                "speaks": result is speaker,
            }


def front(found: Sequence[Mapping[str, Any]], cost: str) -> list[dict[str, Any]]:
    """The Pareto front: points that no other beats in accuracy at the same cost or less.

    Args:
        found: as `points` gives them.
        cost: the column, of numbers.

    Returns:
        `cost` and `accuracy` of the front, by rising cost.

    Example:
        >>> found = [{"bytes": b, "accuracy": a} for b, a in ((1, 80.0), (2, 70.0), (3, 90.0))]
        >>> [point["bytes"] for point in front(found, "bytes")]
        [1, 3]
    """
    best: list[dict[str, Any]] = []
    for point in sorted(found, key=lambda p: (p[cost], -p["accuracy"])):
        if not best or point["accuracy"] > best[-1]["accuracy"]:
            best.append({cost: point[cost], "accuracy": point["accuracy"]})
    return best
