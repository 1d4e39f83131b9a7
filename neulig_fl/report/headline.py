"""Which row speaks for a stage: one rule for tables, pages and comparisons of stages.

It looks at what there is and never at how good it is, so that nothing is selected on evaluation
data. `oracle` and `pretrained` never speak for a stage: no stage could use the one, and the other
is what there was before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIRST = ("neulig", "vote", "simple-average")
"""These speak before any other, in this order; then merge methods in the scenario's order."""

LAST = ("hard-routing", "best-single")
"""These speak where there is nothing else."""

NEVER = ("oracle", "pretrained")

SIDES = {"merge_accuracy": "merge", "ensemble_accuracy": "ensemble"}
"""What tables and figures call each accuracy."""

MODELS = {"merge_accuracy": "merged model", "ensemble_accuracy": "ensemble"}
"""What sentences call the model that has it."""

QUANTITIES = tuple(SIDES)


def headline(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first result that has an accuracy, as the report has it; None where none has.

    Args:
        results: of one stage, in the report's order.

    Example:
        >>> average = {"merge_accuracy": None, "ensemble_accuracy": 91.0}
        >>> rows = [{"method": name, "average": average} for name in ("ties", "vote")]
        >>> headline(rows)["method"]
        'vote'
    """
    there = [r for r in results if r["method"] not in NEVER and quantity(r) is not None]
    return min(there, key=_place, default=None)


def _place(result: Mapping[str, Any]) -> int:
    method = result["method"]
    if method in FIRST:
        return FIRST.index(method)
    return len(FIRST) + (1 + LAST.index(method) if method in LAST else 0)


def quantity(result: Mapping[str, Any]) -> str | None:
    """Which accuracy is that of the joint model: the merged model's where there is one.

    Returns:
        `merge_accuracy` or `ensemble_accuracy`; None where the result has neither.
    """
    average = result["average"] or {}
    return next((key for key in QUANTITIES if average.get(key) is not None), None)
