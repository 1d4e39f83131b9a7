"""Merge and ensemble accuracy, gaps, intervals and agreement, as the report wants them.

Accuracies and differences are percentages and percentage points. A gap is merge minus ensemble, on
the same queries, so every interval is one on paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from neulig_fl.metrics import intervals
from neulig_fl.metrics.concentration import effective_experts, interior_share
from neulig_fl.metrics.intervals import Discordant

MARGIN_PP = 1.0
"""Equivalence margin for merge and ensemble, percentage points."""


@dataclass(frozen=True)
class TaskScore:
    """What one method did on one task's evaluation queries.

    Args:
        task: the task.
        targets: true classes, (queries,).
        merged: predicted classes of the merged model; None when there is none.
        ensembled: predicted classes of the ensemble; None when there is none.
        coopvecs: the weights, (queries, experts); None when the method has none.
        reason: why a side is missing.
    """

    task: str
    targets: Tensor
    merged: Tensor | None
    ensembled: Tensor | None
    coopvecs: Tensor | None
    reason: str | None = None

    @property
    def merge_right(self) -> Tensor | None:
        """Which queries the merged model gets right."""
        return None if self.merged is None else self.merged == self.targets

    @property
    def ensemble_right(self) -> Tensor | None:
        """Which queries the ensemble gets right."""
        return None if self.ensembled is None else self.ensembled == self.targets


def percent(right: Tensor | None) -> float | None:
    """Accuracy in percent; null stays null."""
    return None if right is None or not len(right) else float(100.0 * right.double().mean())


def discordant(first: Tensor, second: Tensor) -> Discordant:
    """(only the first is right, only the second is right, queries)."""
    return int((first & ~second).sum()), int((second & ~first).sum()), len(first)


def task_record(score: TaskScore) -> dict[str, Any]:
    """One entry of `results[].tasks`."""
    merge, ensemble = score.merge_right, score.ensemble_right
    record: dict[str, Any] = {
        "task": score.task,
        "n": len(score.targets),
        "merge_accuracy": percent(merge),
        "ensemble_accuracy": percent(ensemble),
        "gap": None,
        "gap_ci95": None,
        "agreement": None,
        "effective_experts": None,
        "interior": None,
        "reason": score.reason,
    }
    if score.coopvecs is not None and len(score.coopvecs):
        record["effective_experts"] = float(effective_experts(score.coopvecs).mean())
        record["interior"] = interior_share(score.coopvecs)
    counts = _paired([(merge, ensemble)])
    if counts is not None:
        record["gap"] = _difference(counts)
        record["gap_ci95"] = list(interval_pp(counts, 0.95))
    if score.merged is not None and score.ensembled is not None and len(score.targets):
        record["agreement"] = float((score.merged == score.ensembled).double().mean())
    return record


def average_record(scores: Sequence[TaskScore]) -> dict[str, Any]:
    """`results[].average`: means over tasks, every task weighing the same."""
    tasks = [task_record(s) for s in scores]
    record: dict[str, Any] = {
        "merge_accuracy": _mean([t["merge_accuracy"] for t in tasks]),
        "ensemble_accuracy": _mean([t["ensemble_accuracy"] for t in tasks]),
        "gap_of_means": None,
        "gap_of_means_ci95": None,
        "mean_absolute_gap": None,
        "equivalence": None,
    }
    counts = _paired([(s.merge_right, s.ensemble_right) for s in scores])
    if counts is not None:
        ci90 = interval_pp(counts, 0.90)
        record["gap_of_means"] = _difference(counts)
        record["gap_of_means_ci95"] = list(interval_pp(counts, 0.95))
        record["mean_absolute_gap"] = _mean([abs(t["gap"]) for t in tasks])
        record["equivalence"] = {
            "margin_pp": MARGIN_PP,
            "ci90": list(ci90),
            "verdict": intervals.equivalence(ci90, MARGIN_PP),
        }
    return record


_SIDES = {"merge_accuracy": "merge_right", "ensemble_accuracy": "ensemble_right"}


def comparison(
    scores: Sequence[TaskScore],
    base: Sequence[TaskScore],
    quantity: str,
    base_quantity: str | None = None,
) -> dict[str, Any] | None:
    """One accuracy minus another on the same queries, in percentage points.

    Args:
        scores: of what is compared, one a task.
        base: of what it is compared with, the same tasks.
        quantity: `merge_accuracy` or `ensemble_accuracy`.
        base_quantity: the base's; the same where not given.

    Returns:
        {difference, ci95}, or None when a side is missing, a task has no query, or the two answered
        another number of queries, as where a vote has answers to more of them.
    """
    side, other = _SIDES[quantity], _SIDES[base_quantity or quantity]
    pairs = [(getattr(s, side), getattr(b, other)) for s, b in zip(scores, base, strict=True)]
    counts = _paired(pairs)
    if counts is None:
        return None
    return {"difference": _difference(counts), "ci95": list(interval_pp(counts, 0.95))}


def interval_pp(counts: Sequence[Discordant], level: float) -> tuple[float, float]:
    """The score interval of the mean difference over tasks, percentage points."""
    low, high = intervals.score_interval(counts, level)
    return 100.0 * low, 100.0 * high


def _paired(pairs: Sequence[tuple[Tensor | None, Tensor | None]]) -> list[Discordant] | None:
    """Counts for each pair; None where one cannot be compared, or there is none."""
    there = [(a, b) for a, b in pairs if a is not None and b is not None and len(a)]
    if any(len(a) != len(b) for a, b in there):
        return None
    found = [discordant(a, b) for a, b in there]
    return found if found and len(found) == len(pairs) else None


def _difference(counts: Sequence[Discordant]) -> float:
    """The mean over tasks of the differences, percentage points."""
    return float(np.mean([100.0 * (b - c) / n for b, c, n in counts]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
