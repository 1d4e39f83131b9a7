"""A scenario over several seeds: what summary.json says, from the seeds' reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger import privacy_cost
from neulig_fl.metrics.intervals import spread
from neulig_fl.report import contract, summary

_Key = tuple[str, str | None, str | None]


def build(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The averages of each result over seeds, and what all seeds cost in differential privacy.

    A figure's mean, sd (sample) and ci95 (Student's t) are over all seeds; where one seed lacks the
    figure they are null, since a mean over the seeds that happened to succeed is another quantity.
    `values` has what each seed gave.

    Args:
        reports: validated reports of one scenario, one a seed.

    Returns:
        The summary, validated. Accuracies in percent, gaps in percentage points.

    Raises:
        InputError: no report, two of the same seed, or reports of different scenarios.
        RunError: the summary does not fit its schema.
    """
    if not reports:
        raise InputError("summary: no report was given; run the scenario with at least one seed")
    scenarios = [report["scenario"] for report in reports]
    seeds = [scenario["seed"] for scenario in scenarios]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"summary: seeds {seeds} are not all different; keep one report a seed")
    if len({scenario["hash"] for scenario in scenarios}) > 1:
        hashes = ", ".join(f"seed {s['seed']}: {s['hash'][:12]}" for s in scenarios)
        raise InputError(
            f"summary: the reports are of different scenarios ({hashes}); run all seeds again"
        )
    stages = list(dict.fromkeys(stage["name"] for report in reports for stage in report["stages"]))
    built = {
        "schema_version": contract.SCHEMA_VERSION,
        "scenario": {key: value for key, value in scenarios[0].items() if key != "seed"},
        "seeds": seeds,
        "engine": reports[0]["engine"],
        "notes": list(dict.fromkeys(note for report in reports for note in report["notes"])),
        "stages": [{"name": name, "results": _results(reports, name)} for name in stages],
        "privacy": privacy_cost.over_seeds(reports),
    }
    summary.validate(built)
    return built


def _results(reports: Sequence[Mapping[str, Any]], stage: str) -> list[dict[str, Any]]:
    averages = [_averages(report, stage) for report in reports]
    keys = list(dict.fromkeys(key for of_seed in averages for key in of_seed))
    return [
        {"method": method, "granularity": granularity, "variant": variant}
        | {
            figure: over_seeds([a.get(key, {}).get(figure) for a in averages])
            for figure in summary.FIGURES
        }
        for key in keys
        for method, granularity, variant in [key]
    ]


def _averages(report: Mapping[str, Any], stage: str) -> dict[_Key, dict[str, Any]]:
    return {
        (result["method"], result["granularity"], result["variant"]): result["average"] or {}
        for found in report["stages"]
        if found["name"] == stage
        for result in found["results"]
    }


def over_seeds(values: list[float | None]) -> dict[str, Any]:
    """One figure as a `Spread`: null where a seed lacks it, and without interval for one seed."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "sd": None, "ci95": None, "values": values}
    found = spread(known)
    return {**found, "ci95": list(found["ci95"]) if found["ci95"] else None, "values": values}


def write(reports: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `folder`/summary.json atomically.

    Raises:
        InputError, RunError: what `build` raises, or the disk refuses.
    """
    return write_atomically(folder / summary.FILE_NAME, contract.to_json(build(reports)), PRIVATE)
