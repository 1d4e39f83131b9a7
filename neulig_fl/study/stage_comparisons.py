"""Rows of a stage against its NeuLig, and stage against stage, paired by query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neulig_fl.metrics import evaluation
from neulig_fl.metrics.predictions import Key, Scores
from neulig_fl.report.headline import QUANTITIES, headline, quantity
from neulig_fl.study.coopvec_needs import NEULIG


def within(scores: Scores) -> list[dict[str, Any]]:
    """A stage's `comparisons`: every method minus NeuLig per sample, on the same queries.

    Args:
        scores: of the stage's rows.
    """
    base = scores.get((NEULIG, "sample", None))
    if not base:
        return []
    found = []
    for (method, granularity, variant), row in scores.items():
        if row is base or not row:
            continue
        named = {"method": method, "granularity": granularity, "variant": variant}
        for key in QUANTITIES:
            figure = evaluation.comparison(row, base, key)
            if figure is not None:
                found.append({**named, "versus": NEULIG, "quantity": key, **figure})
    return found


def between(stages: Sequence[Mapping[str, Any]], scores: Mapping[str, Scores]) -> Iterator[Any]:
    """The report's `stage_comparisons`: each stage beside the first and the last one before it.

    Merge is compared with merge and ensemble with ensemble; the joint model's accuracy (merge where
    there is one) also where the earlier stage's is the other.

    Args:
        stages: the report's, in order; those without accuracies are passed over.
        scores: of each stage, by its name.
    """
    spoken = [(s["name"], row) for s in stages if (row := headline(s["results"])) is not None]
    for number, (name, row) in enumerate(spoken):
        earlier = {spoken[at][0]: spoken[at][1] for at in (0, number - 1) if number}
        for versus, base in earlier.items():
            for key, base_key in _quantities(row, base):
                found = evaluation.comparison(
                    scores[name][_key(row)], scores[versus][_key(base)], key, base_key
                )
                if found is not None:
                    yield (
                        _record(name, row, key) | _record(versus, base, base_key, "versus") | found
                    )


def _quantities(row: Mapping[str, Any], base: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which accuracy is compared with which."""
    pairs = [(key, key) for key in QUANTITIES]
    joint, base_joint = quantity(row), quantity(base)
    if joint and base_joint and joint != base_joint:
        pairs.append((joint, base_joint))
    return pairs


def _key(row: Mapping[str, Any]) -> Key:
    return row["method"], row["granularity"], row["variant"]


def _record(stage: str, row: Mapping[str, Any], key: str, side: str = "") -> dict[str, Any]:
    named = {name: row[name] for name in ("method", "granularity", "variant")}
    record = {"stage": stage, **named, "quantity": key}
    if not side:
        return record
    return {side if name == "stage" else f"{side}_{name}": value for name, value in record.items()}
