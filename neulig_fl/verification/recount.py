"""A report's accuracies, counted again from the predictions that the run kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import InputError
from neulig_fl.metrics import evaluation, predictions
from neulig_fl.metrics.predictions import Key, Scores
from neulig_fl.study import stage_comparisons

_TOLERANCE = 1e-6
"""Percentage points, shares: what another processor's arithmetic may add to a figure."""

_NOT_KEPT = ("effective_experts", "interior", "reason")
"""Figures of a task that follow from CoopVecs, and words."""


def problem(file: Path, report: Mapping[str, Any]) -> str | None:
    """What predictions and report do not agree on, one line; None where they do.

    Counted are accuracies, gaps, agreement, equivalence, and every paired difference with its
    interval: of a row with NeuLig's, and of a stage with earlier ones.

    Args:
        file: predictions.safetensors.
        report: that holds by itself.
    """
    try:
        kept = predictions.read(file)
    except InputError as error:
        return str(error).removeprefix(f"{file}: ")
    names = [stage["name"] for stage in report["stages"]]
    strange = [name for name in kept.scores if name not in names]
    if strange:
        return f"has a stage {strange[0][:60]!r}, which the report does not have"
    for at, stage in enumerate(report["stages"]):
        found = _of_stage(stage, kept.scores.get(stage["name"], {}), f"stages[{at}]")
        if found is not None:
            return found
    try:
        counted = [*stage_comparisons.between(report["stages"], kept.scores)]
    except ValueError:  # rows of other tasks
        return "has other tasks than the report in a stage"
    return _difference(report["stage_comparisons"], counted, "stage_comparisons")


def _of_stage(stage: Mapping[str, Any], scores: Scores, place: str) -> str | None:
    rows = {_key(row): (at, row) for at, row in enumerate(stage["results"]) if row["tasks"]}
    odd = [key for key in (*scores, *rows) if key not in scores or key not in rows]
    if odd:
        return f"and the report do not have the same rows in {place}: {_called(odd[0])}"
    for key, (at, row) in rows.items():
        where = f"{place}.results[{at}]"
        tasks = [_figures(task) for task in row["tasks"]]
        counted = [_figures(evaluation.task_record(score)) for score in scores[key]]
        found = _difference(tasks, counted, f"{where}.tasks") or _difference(
            row["average"], evaluation.average_record(scores[key]), f"{where}.average"
        )
        if found is not None:
            return found
    return _difference(
        stage["comparisons"], stage_comparisons.within(scores), f"{place}.comparisons"
    )


def _key(row: Mapping[str, Any]) -> Key:
    return row["method"], row["granularity"], row["variant"]


def _called(key: Key) -> str:
    return ", ".join(part for part in key if part)[:80]


def _figures(task: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if name not in _NOT_KEPT}


def _difference(said: Any, counted: Any, place: str) -> str | None:
    """The first place at which a report says another thing than was counted."""
    if isinstance(said, Mapping) and isinstance(counted, Mapping) and set(said) == set(counted):
        parts = [(said[key], counted[key], f"{place}.{key}") for key in counted]
        return next((found for each in parts if (found := _difference(*each))), None)
    if _is_list(said) and _is_list(counted) and len(said) == len(counted):
        parts = [
            (a, b, f"{place}[{at}]") for at, (a, b) in enumerate(zip(said, counted, strict=True))
        ]
        return next((found for each in parts if (found := _difference(*each))), None)
    if isinstance(said, float) and isinstance(counted, float):
        same = math.isclose(said, counted, rel_tol=0.0, abs_tol=_TOLERANCE)
    else:
        same = not isinstance(counted, Mapping | list) and said == counted
    return (
        None
        if same
        else f"does not give {place} of the report: {_short(counted)}, not {_short(said)}"
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
