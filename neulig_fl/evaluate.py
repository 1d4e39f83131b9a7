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

from neulig_fl import intervals
from neulig_fl.coopvec import effective_experts, interior_share

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


def discordant(first: Tensor, second: Tensor) -> tuple[int, int, int]:
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
    if merge is not None and ensemble is not None and len(merge):
        b, c, n = discordant(merge, ensemble)
        record["gap"] = 100.0 * (b - c) / n
        record["gap_ci95"] = list(interval_pp([(b, c, n)], 0.95))
        if score.merged is not None and score.ensembled is not None:
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
    gaps = [t["gap"] for t in tasks]
    if gaps and all(g is not None for g in gaps):
        counts = [_counts(s.merge_right, s.ensemble_right) for s in scores]
        ci90 = interval_pp(counts, 0.90)
        record["gap_of_means"] = _mean(gaps)
        record["gap_of_means_ci95"] = list(interval_pp(counts, 0.95))
        record["mean_absolute_gap"] = _mean([abs(g) for g in gaps])
        record["equivalence"] = {
            "margin_pp": MARGIN_PP,
            "ci90": list(ci90),
            "verdict": intervals.equivalence(ci90, MARGIN_PP),
        }
    return record


def comparison(
    scores: Sequence[TaskScore], base: Sequence[TaskScore], quantity: str
) -> dict[str, Any] | None:
    """A method's accuracy minus NeuLig's on the same queries, in percentage points.

    Args:
        scores: the method's, one a task.
        base: NeuLig's, the same tasks.
        quantity: `merge_accuracy` or `ensemble_accuracy`.

    Returns:
        {difference, ci95}, or None when a side is missing or a task has no query.
    """
    side = {"merge_accuracy": "merge_right", "ensemble_accuracy": "ensemble_right"}[quantity]
    pairs = [(getattr(s, side), getattr(b, side)) for s, b in zip(scores, base, strict=True)]
    if not pairs or any(one is None or two is None or not len(one) for one, two in pairs):
        return None
    counts = [_counts(one, two) for one, two in pairs]
    difference = float(np.mean([100.0 * (b - c) / n for b, c, n in counts]))
    return {"difference": difference, "ci95": list(interval_pp(counts, 0.95))}


def interval_pp(counts: Sequence[intervals.Discordant], level: float) -> tuple[float, float]:
    """The score interval of the mean difference over tasks, percentage points."""
    low, high = intervals.score_interval(counts, level)
    return 100.0 * low, 100.0 * high


def _counts(first: Tensor | None, second: Tensor | None) -> tuple[int, int, int]:
    if first is None or second is None:
        return 0, 0, 0
    return discordant(first, second)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
