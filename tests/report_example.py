"""A realistic report: four clients, three stages, refusals and nulls, made from paired counts."""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from typing import Any

import numpy as np

from neulig_fl.metrics.intervals import equivalence, score_interval

TASKS = ("mnist5k", "digits", "shapes", "textures")
CLIENTS = ("north", "east", "south", "harbour")
N = (1000, 450, 600, 600)
NO_PARAMETERS = "parameters of group A are not released before stage merging"
ONE_MODEL = "one model: nothing is ensembled"

# method, granularity -> a (right merged, right ensembled, b, c) for each task
NEULIG = ((962, 965, 4, 7), (431, 434, 3, 6), (588, 588, 0, 0), (571, 569, 5, 3))
COUNTS: dict[tuple[str, str | None], tuple[tuple[int, int, int, int], ...]] = {
    ("hard-routing", None): (
        (955, 955, 0, 0),
        (428, 428, 0, 0),
        (587, 587, 0, 0),
        (566, 566, 0, 0),
    ),
    ("simple-average", None): (
        (713, 921, 12, 220),
        (250, 391, 9, 150),
        (301, 540, 5, 244),
        (366, 502, 14, 150),
    ),
    ("neulig", "sample"): NEULIG,
    ("neulig", "task"): ((958, 961, 6, 9), (430, 431, 4, 5), (587, 588, 0, 1), (566, 568, 5, 7)),
    ("oracle", None): ((971, 971, 0, 0), (437, 437, 0, 0), (590, 590, 0, 0), (574, 574, 0, 0)),
    ("best-single", None): ((971, 971, 0, 0), (322, 322, 0, 0), (98, 98, 0, 0), (101, 101, 0, 0)),
}
GROUPED = 2  # the result of stage merging that near-equal CoopVecs were merged as one for


def task_row(at: int, counts: tuple[int, int, int, int], method: str = "neulig") -> dict[str, Any]:
    """One task's figures, from its counts."""
    merge, ensemble, b, c = counts
    weights = {"neulig": (1.21 + 0.11 * at, 0.173 + 0.05 * at), "simple-average": (4.0, 1.0)}
    experts, interior = weights.get(method, (1.0, 0.0))
    low, high = score_interval([(b, c, N[at])])
    return {
        "task": TASKS[at],
        "n": N[at],
        "merge_accuracy": 100 * merge / N[at],
        "ensemble_accuracy": 100 * ensemble / N[at],
        "gap": 100 * merge / N[at] - 100 * ensemble / N[at],
        "gap_ci95": [100 * low, 100 * high],
        "agreement": 1.0 - (b + c) / N[at],
        "effective_experts": experts,
        "interior": interior,
        "reason": None,
    }


def average_row(tasks: list[dict[str, Any]], counts: Any) -> dict[str, Any]:
    """The averages over the tasks."""
    merge = sum(task["merge_accuracy"] for task in tasks) / len(tasks)
    ensemble = sum(task["ensemble_accuracy"] for task in tasks) / len(tasks)
    triples = [(b, c, n) for (_, _, b, c), n in zip(counts, N, strict=True)]
    ci90, ci95 = (
        (100 * low, 100 * high)
        for low, high in (score_interval(triples, level) for level in (0.90, 0.95))
    )
    return {
        "merge_accuracy": merge,
        "ensemble_accuracy": ensemble,
        "gap_of_means": merge - ensemble,
        "gap_of_means_ci95": list(ci95),
        "mean_absolute_gap": sum(abs(task["gap"]) for task in tasks) / len(tasks),
        "equivalence": {"margin_pp": 1.0, "ci90": list(ci90), "verdict": equivalence(ci90, 1.0)},
    }


def result(method: str, granularity: str | None = None) -> dict[str, Any]:
    """A result with every figure."""
    counts = COUNTS[method, granularity]
    tasks = [task_row(at, four, method) for at, four in enumerate(counts)]
    return {
        "method": method,
        "granularity": granularity,
        "variant": None,
        "status": "ok",
        "reason": None,
        "seconds": 4.25,
        "peak_rss_bytes": 812_000_000,
        "bytes": 46_137_344,
        "experts": list(CLIENTS),
        "tasks": tasks,
        "average": average_row(tasks, counts),
        "grouping": None,
        "settings": None,
    }


def one_sided(row: dict[str, Any], missing: str, reason: str) -> dict[str, Any]:
    """The same result where the merge or the ensemble accuracy cannot be had."""
    for task in row["tasks"]:
        task.update({missing: None, "gap": None, "gap_ci95": None, "agreement": None})
        task["reason"] = reason
    row["average"].update(
        {missing: None, "gap_of_means": None, "gap_of_means_ci95": None}
        | {"mean_absolute_gap": None, "equivalence": None}
    )
    return row


def refused(
    method: str, status: str, reason: str, granularity: str | None = None
) -> dict[str, Any]:
    """A result that there is not."""
    return {
        "method": method,
        "granularity": granularity,
        "variant": None,
        "status": status,
        "reason": reason,
        "seconds": None,
        "peak_rss_bytes": None,
        "bytes": None,
        "experts": [],
        "tasks": [],
        "average": None,
        "grouping": None,
        "settings": None,
    }


def release(client: str, kind: str, queries: str | None, rows: int, size: int) -> dict[str, Any]:
    """One record that left a client."""
    return {
        "client": client,
        "kind": kind,
        "queries": queries,
        "protection": "none" if kind == "offset-sum" else "sealed",
        "rows": rows,
        "bytes": size,
        "sha256": hashlib.sha256(f"{client}{kind}{queries}".encode()).hexdigest(),
        "epsilon": "inf" if kind == "features" else None,
        "delta": 1e-6 if kind == "features" else None,
        "adjacency": "replace one client's model" if kind == "features" else None,
    }


def comparison(method: str, granularity: str | None, quantity: str) -> dict[str, Any]:
    """A method's mean accuracy minus NeuLig's."""
    other, ours = result(method, granularity), result("neulig", "sample")
    difference = other["average"][quantity] - ours["average"][quantity]
    return {
        "method": method,
        "granularity": granularity,
        "variant": None,
        "versus": "neulig",
        "quantity": quantity,
        "difference": difference,
        "ci95": [difference - 1.37, difference + 1.42],
    }


def stage_comparison(stage: str, versus: str, quantity: str, before: str) -> dict[str, Any]:
    """A stage's NeuLig minus an earlier stage's: of the same figures, so of difference 0."""
    average = result("neulig", "sample")["average"]
    difference = average[quantity] - average[before]
    return {
        "stage": stage,
        "method": "neulig",
        "granularity": "sample",
        "variant": None,
        "quantity": quantity,
        "versus": versus,
        "versus_method": "neulig",
        "versus_granularity": "sample" if versus == "merging" else None,
        "versus_variant": None,
        "versus_quantity": before,
        "difference": difference,
        "ci95": [difference - 0.51, difference + 0.49],
    }


def ensembling() -> dict[str, Any]:
    """Outputs only: nothing can be merged yet."""
    releases = [release(client, "offset-sum", None, 1, 8) for client in CLIENTS]
    releases += [release(client, "features", "pool", 1600, 819_200) for client in CLIENTS]
    releases += [release(client, "features", "evaluation", 2650, 1_356_800) for client in CLIENTS]
    ours = result("neulig", "sample") | {"granularity": None}
    return {
        "name": "ensembling",
        "group": "A",
        "results": [
            one_sided(result("simple-average"), "merge_accuracy", NO_PARAMETERS),
            one_sided(ours, "merge_accuracy", NO_PARAMETERS),
        ],
        "comparisons": [comparison("simple-average", None, "ensemble_accuracy")],
        "releases": releases,
        "refusals": [],
        "audits": [],
    }


def merging() -> dict[str, Any]:
    """Parameters too: every method, every control, and one client that refuses."""
    reason = "its policy has never: [parameters] | asked for by stage merging"
    results = [result(method, granularity) for method, granularity in COUNTS]
    results[GROUPED]["grouping"] = {
        "tolerance": 0.05,
        "queries": sum(N),
        "networks": 311,
        "checked": 32,
        "largest_output_change": 0.01274,
        "changed_predictions": 1,
    }
    pretrained = one_sided(result("best-single"), "ensemble_accuracy", ONE_MODEL)
    return {
        "name": "merging",
        "group": "A",
        "results": [
            *results,
            pretrained | {"method": "pretrained"},
            refused("regmean", "not-permitted", "needs kind gram, which no stage releases"),
            refused("neulig", "failed", "the mean CoopVec has no finite entry", "global"),
        ],
        "comparisons": [
            comparison(method, granularity, quantity)
            for method, granularity in COUNTS
            if method != "neulig"
            for quantity in ("merge_accuracy", "ensemble_accuracy")
        ],
        "releases": [
            release(client, "parameters", None, 1, 11_534_336)
            for client in CLIENTS
            if client != "harbour"
        ],
        "refusals": [{"client": "harbour", "kind": "parameters", "reason": reason}],
        "audits": [],
    }


def transfer() -> dict[str, Any]:
    """Group B with group A's Portland."""
    releases = [release(client, "features", "evaluation", 2650, 1_356_800) for client in CLIENTS]
    releases += [release(client, "parameters", None, 1, 11_534_336) for client in CLIENTS]
    return {
        "name": "transfer",
        "group": "B",
        "results": [result("neulig", "sample"), result("simple-average"), result("oracle")],
        "comparisons": [comparison("simple-average", None, "merge_accuracy")],
        "releases": releases,
        "refusals": [],
        "audits": [],
    }


def coopvec_map() -> dict[str, Any]:
    """A near-diagonal CoopVec Map."""
    values = np.full((4, 4), 0.04) + np.eye(4) * 0.84
    return {
        "stage": "ensembling",
        "group": "A",
        "epoch": 20,
        "estimator": "histogram mode, 50 bins",
        "tasks": list(TASKS),
        "experts": list(CLIENTS),
        "values": values.tolist(),
        "raw_sums": [1.02, 0.98, 1.0, 1.11],
        "histograms": {"bins": 5, "counts": np.full((4, 4, 5), 80).tolist()},
    }


def portland() -> dict[str, Any]:
    """Portland as it was trained."""
    epochs = range(1, 21)
    return {
        "experts": list(CLIENTS),
        "outputs": "features",
        "objective": "supervised",
        "objective_on": "ensemble",
        "queries": "pool",
        "alignment": "paper",
        "alpha": 1.0,
        "beta": 0.01,
        "parameters": 2052,
        "seconds": 0.52,
        "samples_per_second": 61_538.4,
        "trajectory": [
            {
                "epoch": epoch,
                "loss": 1.1 / epoch + 0.002,
                "boosting": 1.1 / epoch,
                "alignment": 0.2,
                "accuracy": 95.0 - 20.0 / epoch,
                "effective_experts": 1.0 + 2.0 / epoch,
            }
            for epoch in epochs
        ],
        "transductive": False,
    }


def example(seed: int = 7) -> dict[str, Any]:
    """The whole report, as its parts are written to report.json; the caller may change it."""
    return copy.deepcopy(_example(seed))


@cache  # its intervals are roots of equations, which take most of a second
def _example(seed: int) -> dict[str, Any]:
    experts = [
        {
            "client": client,
            "task": task,
            "group": group,
            "origin": "shared",
            "accuracy": 97.1 - at,
            "n_train": None if client == "harbour" else 1600,
            "n_eval": n,
        }
        for group in ("A", "B")
        for at, (client, task, n) in enumerate(zip(CLIENTS, TASKS, N, strict=True))
    ]
    return {
        "schema_version": 1,
        "scenario": {"name": "outputs-then-parameters", "seed": seed, "hash": "ab" * 32},
        "versions": {
            "neulig_fl": "0.1.0",
            "flwr": "1.41.0",
            "torch": "2.9.1",
            "open_clip": "3.3.0",
            "python": "3.12.4",
            "numpy": "2.4.6",
        },
        "engine": "simulation",
        "seconds": {"total": 63.27, "prepare": 31.5, "portland": 0.52, "merge": 21.04},
        "peak_rss_bytes": 1_288_490_188,
        "notes": [
            "Portland trains on pool queries; the paper's supervised protocol uses train queries."
        ],
        "reference": {"experts": experts, "reason": None},
        "stages": [ensembling(), merging(), transfer()],
        "stage_comparisons": [
            stage_comparison("merging", "ensembling", "merge_accuracy", "ensemble_accuracy"),
            stage_comparison("merging", "ensembling", "ensemble_accuracy", "ensemble_accuracy"),
            stage_comparison("transfer", "merging", "merge_accuracy", "merge_accuracy"),
        ],
        "coopvec_maps": [coopvec_map()],
        "portland": portland(),
        "privacy": {
            "epsilon": None,
            "delta": None,
            "adjacency": None,
            "clients": [],
            "stages": [],
        },
        "ledger": {"entries": 24, "head": "cd" * 32, "verified": True},
    }


def noised(seed: int = 7) -> dict[str, Any]:
    """A short report with what `example` has not: noise that was paid for, keys, settings."""
    report = example(seed)
    del report["stages"][2:], report["portland"]["trajectory"][2:]
    del report["stage_comparisons"][1:]
    for stage in report["stages"]:
        del stage["comparisons"][1:], stage["releases"][5:]
    release = report["stages"][0]["releases"][4]
    release |= {"protection": "gaussian", "epsilon": 3.5, "delta": 1e-5}
    report["stages"][1]["results"][-1] |= {
        "method": "ties",
        "granularity": None,
        "variant": "lambda tuned",
        "settings": {
            "needs": "parameters of each client, theta_0",
            "options": {"density": 0.2, "lambda": 1.0},
            "tried": [{"options": {"lambda": 0.3}, "pool_accuracy": 71.25}],
            "extension": "its convolutions are merged too",
        },
    }
    account = {
        "expert": "e1",
        "delta": 1e-5,
        "adjacency": "replace one client's model",
        "noise": [[2.0, 3]],
        "unprotected": ["parameters"],
        "runs": ["ef" * 16],
        "earlier_runs": 1,
    }
    spender = {
        "client": "north",
        "epsilon": "inf",
        "unprotected": ["parameters"],
        "earlier_runs": 1,
        "runs": ["ef" * 16],
        "experts": [account],
    }
    report["privacy"] = {
        "epsilon": "inf",
        "delta": 1e-5,
        "adjacency": "replace one client's model",
        "clients": [spender],
        "stages": [{"stage": "ensembling", "epsilon": 3.5, "so_far": "inf"}],
    }
    key = "ed25519:" + "k" * 43
    report["ledger"] |= {"run": "ab" * 16, "trust": {"north": {"key": key, "pinned": True}}}
    return report
