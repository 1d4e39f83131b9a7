"""A realistic study: three cases over three seeds, one of them refused by a client."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

CLIENTS = ["north", "east", "south", "harbour"]
SEEDS = [7, 8, 9]
NONE = {"mean": None, "sd": None, "ci95": None, "values": [None] * 3}


def spread(*values: float) -> dict[str, Any]:
    """A figure over the seeds, with Student's interval."""
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / len(values) ** 0.5
    return {"mean": mean, "sd": sd, "ci95": [mean - half, mean + half], "values": [*values]}


def _row(merge: tuple[float, ...] | None, ensemble: tuple[float, ...]) -> dict[str, Any]:
    gap = None if merge is None else [m - e for m, e in zip(merge, ensemble, strict=True)]
    return {
        "method": "neulig",
        "granularity": "sample",
        "variant": None,
        "merge_accuracy": spread(*merge) if merge else NONE,
        "ensemble_accuracy": spread(*ensemble),
        "gap_of_means": spread(*gap) if gap else NONE,
    }


def example() -> dict[str, Any]:
    """The content of a study.json."""
    outputs, merged = (93.6, 93.9, 93.8), (93.1, 93.8, 93.3)
    lacking = (71.2, 72.9, 73.1)
    cases = {
        "outputs": ("features", None, outputs, 1_540_000),
        "models": ("parameters", merged, outputs, 6_470_000),
        "refused": ("parameters", lacking, lacking, 6_470_000),
    }
    study: dict[str, Any] = {
        "schema_version": 1,
        "name": "example",
        "question": "What do the models add?",
        "hash": "ab" * 32,
        "base": {"file": "base.yaml", "name": "base", "hash": "cd" * 32, "clients": CLIENTS},
        "seeds": SEEDS,
        "versus": "outputs",
        "vary": [],
        "versions": ["0.1.0"],
        "engines": ["local"],
        "rule": "'More' is said where the interval excludes 0.",
        "answers": ["Models add nothing that is shown.", "Refusals cost 21 points.", "A detail."],
        "cases": [],
        "runs": [],
        "results": [],
        "stages": [],
        "comparisons": [],
    }
    for name, (kind, merge, ensemble, size) in cases.items():
        row = _row(merge, ensemble)
        joint = "merge_accuracy" if merge else "ensemble_accuracy"
        released = {
            "kind": kind,
            "protection": "sealed",
            "queries": ["evaluation"] if kind == "features" else [],
            "clients": CLIENTS,
            "bytes": size,
            "epsilon": None,
        }
        overrides = [] if name == "outputs" else [f"stages=[{name}]"]
        study["cases"].append(
            {"name": name, "overrides": overrides, "varied": {}, "scenario_hash": "ef" * 32}
        )
        study["runs"] += [
            {
                "case": name,
                "seed": seed,
                "folder": f"{name}/seed-{seed}",
                "state": "done",
                "reason": None,
                "seconds": 12.5,
                "trained": 0,
                "verified": True,
            }
            for seed in SEEDS
        ]
        place = {"case": name, "stage": name, "group": "A"}
        tasks = [
            {"task": task, **{k: row[k] for k in ("merge_accuracy", "ensemble_accuracy")}}
            for task in ("digits", "signs")
        ]
        study["results"].append(
            row | place
            | {"tasks": tasks, "bytes": size, "seconds": 1.5, "experts": CLIENTS, "reason": None}
        )  # fmt: skip
        study["stages"].append(
            place
            | {
                "last": True,
                "headline": row
                | {"label": "NeuLig (sample)", "quantity": joint, "accuracy": row[joint]},
                "given": [kind],
                "without": ["harbour"] if name == "refused" else [],
                "released": [released],
                "released_so_far": [released],
                "bytes_so_far": {"least": size, "most": size},
                "epsilon_so_far": None,
                "refusals": 3 if name == "refused" else 0,
                "seeds": SEEDS,
            }
        )
        if name != "outputs":
            pairs = zip(row[joint]["values"], outputs, strict=True)
            difference = spread(*(own - other for own, other in pairs))
            low, high = difference["ci95"]
            study["comparisons"].append(
                {
                    "case": name,
                    "stage": name,
                    "quantity": joint,
                    "versus_case": "outputs",
                    "versus_stage": "outputs",
                    "versus_quantity": "ensemble_accuracy",
                    "last": True,
                    "joint": True,
                    "difference": difference,
                    "word": "not-shown" if low <= 0 <= high else ("more" if low > 0 else "less"),
                }
            )
    return study
