"""What a report's tables show, before any layout: rows, releases and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neulig_fl.report import figures

CONTROLS = ("simple-average", "hard-routing", "best-single", "oracle", "pretrained")
QUANTITIES = ("merge_accuracy", "ensemble_accuracy", "gap")
ROUTING = 0.05  # a share of interior queries below this is called routing
NEULIG, METHOD, CONTROL = range(3)  # ranks


@dataclass(frozen=True)
class TableRow:
    """One result: a method at a granularity, its averages and its tasks' figures.

    Attributes:
        label: how the method is called in a table.
        rank: 0 NeuLig, 1 a merge method, 2 a control.
        verdict: of equivalence; the status where there is no result; "-" where there is no verdict.
        average: the report's `average`, or nulls; with `agreement`, `effective_experts` and
            `interior` as means over the tasks.
        tasks: the report's `tasks[]` by name.
    """

    label: str
    rank: int
    status: str
    reason: str | None
    verdict: str
    average: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]


def label(method: str, granularity: str | None, variant: str | None = None) -> str:
    """A method's name in a table.

    Example:
        >>> label("neulig", "sample"), label("ties", None), label("ties", None, "density 0.1")
        ('NeuLig (sample)', 'ties', 'ties (density 0.1)')
    """
    name = "NeuLig" if method == "neulig" else figures.plain(method)
    besides = ", ".join(figures.plain(part) for part in (granularity, variant) if part)
    return f"{name} ({besides})" if besides else name


def called(found: Mapping[str, Any]) -> str:
    """The name in a table of a result, or of what else has a method."""
    return label(found["method"], found["granularity"], found["variant"])


def rows(stage: Mapping[str, Any]) -> list[TableRow]:
    """A stage's results in the order of the tables: NeuLig, merge methods, controls."""
    return [_row(result) for result in ordered(stage["results"])]


def ordered(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Results (or what else has a `method`) in the order of the tables."""
    return sorted(results, key=_place)


def _place(result: Mapping[str, Any]) -> tuple[int, int]:
    rank = _rank(result["method"])
    return rank, CONTROLS.index(result["method"]) if rank == CONTROL else 0


def _rank(method: str) -> int:
    if method == "neulig":
        return NEULIG
    return CONTROL if method in CONTROLS else METHOD


def _row(result: Mapping[str, Any]) -> TableRow:
    tasks = {task["task"]: task for task in result["tasks"]}
    keys = ("merge_accuracy", "ensemble_accuracy", "gap_of_means", "gap_of_means_ci95")
    average = dict.fromkeys([*keys, "mean_absolute_gap", "equivalence"]) | (result["average"] or {})
    for key in ("agreement", "effective_experts", "interior"):
        average[key] = figures.mean([task[key] for task in tasks.values()])
    test = average["equivalence"]
    verdict = test["verdict"] if test else figures.NULL
    if result["status"] != "ok":
        verdict = result["status"].replace("-", " ")
    return TableRow(
        called(result),
        _rank(result["method"]),
        result["status"],
        result["reason"],
        verdict,
        average,
        tasks,
    )


def tasks(stage: Mapping[str, Any]) -> list[str]:
    """The tasks of a stage's results, in their order."""
    return list(dict.fromkeys(task["task"] for r in stage["results"] for task in r["tasks"]))


def quantities(found: Sequence[TableRow]) -> list[str]:
    """Which of merge accuracy, ensemble accuracy and gap some task of some row has."""
    every = [task for row in found for task in row.tasks.values()]
    return [key for key in QUANTITIES if any(task[key] is not None for task in every)]


def missing(found: Sequence[TableRow]) -> list[str]:
    """Why figures are null, one sentence a reason, with the methods (and tasks) it holds for."""
    sentences = [
        f"{row.label}: {row.verdict}: {_told(row.reason)}" for row in found if row.status != "ok"
    ]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for row in found:
        for reason, of in _task_reasons(row).items():
            lacks = [
                name
                for name in ("merge", "ensemble")
                if any(row.tasks[task][f"{name}_accuracy"] is None for task in of)
            ]
            where = "" if len(of) == len(row.tasks) else f" on {', '.join(of)}"
            grouped.setdefault((reason, " or ".join(lacks), where), []).append(row.label)
    for (reason, missed, where), labels in grouped.items():
        what = f"no {missed} accuracy" if missed else "some figures missing"
        sentences.append(f"{', '.join(labels)}: {what}{where}: {reason}")
    return sentences


def groupings(stage: Mapping[str, Any]) -> list[str]:
    """What it changed to merge near-equal CoopVecs as one, one sentence a result."""
    return [
        f"{called(result)}: {_grouping(result['grouping'])}"
        for result in ordered(stage["results"])
        if result["grouping"]
    ]


def _grouping(found: Mapping[str, Any]) -> str:
    queries, networks = figures.count(found["queries"]), figures.count(found["networks"])
    merged = f"{queries} queries were merged as {networks} network"
    merged += "s" if found["networks"] > 1 else ""
    change = f"{100.0 * found['largest_output_change']:.2g} % of the largest output"
    checked = f"on {figures.count(found['checked'])} checked queries: {change}"
    predictions = f"predictions changed: {figures.count(found['changed_predictions'])}"
    within = f"tolerance {found['tolerance']:g}"
    return f"{merged} ({within}); largest output change {checked}; {predictions}"


def _task_reasons(row: TableRow) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, task in row.tasks.items():
        if task["reason"]:
            found.setdefault(figures.plain(task["reason"]), []).append(name)
    return found


def _told(reason: str | None) -> str:
    return figures.plain(reason) if reason else "no reason was recorded"


@dataclass(frozen=True)
class Difference:
    """A method minus NeuLig: `values` by quantity, each (difference, [low, high])."""

    label: str
    values: Mapping[str, tuple[float, Sequence[float]]]


def differences(stage: Mapping[str, Any]) -> list[Difference]:
    """A stage's comparisons, one row a method."""
    found: dict[str, dict[str, tuple[float, Sequence[float]]]] = {}
    for comparison in ordered(stage["comparisons"]):
        name = called(comparison)
        value = comparison["difference"], comparison["ci95"]
        found.setdefault(name, {})[comparison["quantity"]] = value
    return [Difference(name, values) for name, values in found.items()]


@dataclass(frozen=True)
class Given:
    """Releases of one stage that are alike but for their owner and content."""

    stage: str
    clients: tuple[str, ...]
    what: str
    rows: int
    bytes: int
    epsilon: str


def given(stage: Mapping[str, Any]) -> list[Given]:
    """What was given away in a stage, with like releases of several clients together."""
    found: dict[tuple[str, int, int, str], list[str]] = {}
    for release in stage["releases"]:
        key = what(release), release["rows"], release["bytes"], figures.epsilon(release["epsilon"])
        found.setdefault(key, []).append(release["client"])
    return [Given(stage["name"], tuple(dict.fromkeys(c)), *key) for key, c in found.items()]


def what(release: Mapping[str, Any]) -> str:
    """A release in words.

    Example:
        >>> what({"kind": "features", "queries": "pool", "protection": "sealed"})
        'features of pool, sealed'
    """
    queries = f" of {release['queries']}" if release["queries"] else ""
    protection = "unprotected" if release["protection"] == "none" else release["protection"]
    return figures.plain(f"{release['kind']}{queries}, {protection}")


def clients(report: Mapping[str, Any]) -> list[str]:
    """Every client that the report names, in order of appearance."""
    named = [expert["client"] for expert in report["reference"]["experts"]]
    for stage in report["stages"]:
        named += [entry["client"] for entry in [*stage["releases"], *stage["refusals"]]]
    return list(dict.fromkeys(named))


def who(some: Sequence[str], everyone: Sequence[str]) -> str:
    """Clients in words.

    Example:
        >>> who(["north", "east"], ["north", "east"]), who(["east"], ["north", "east"])
        ('all 2', 'east')
    """
    if len(everyone) > 1 and set(some) == set(everyone):
        return f"all {len(everyone)}"
    return figures.plain(", ".join(some))


def refusals(report: Mapping[str, Any]) -> list[str]:
    """One sentence a record that was not released; its reason says whether it was refused."""
    return [
        figures.plain(
            f"{r['client']} did not release {r['kind']} in stage {stage['name']}: {r['reason']}"
        )
        for stage in report["stages"]
        for r in stage["refusals"]
    ]


def ledger(report: Mapping[str, Any]) -> str:
    """One sentence on the ledger, and on whose keys its signatures rest."""
    found = report["ledger"]
    state = "chain and signatures are verified" if found["verified"] else "NOT VERIFIED"
    head = figures.plain(found["head"])[:16] if found["head"] else figures.NULL
    said = f"Ledger: {found['entries']} entries, {state}; head {head}"
    if "trust" not in found:
        return said
    first = [figures.plain(n) for n, each in found["trust"].items() if not each["pinned"]]
    if not first:
        return f"{said}; all keys were pinned"
    return f"{said}; keys trusted on first use: {', '.join(first)}"


def privacy(report: Mapping[str, Any]) -> list[str]:
    """Sentences on what a run, or all seeds, cost in differential privacy; none without noise."""
    found = report["privacy"]
    if found["epsilon"] is None:
        return []
    cost = f"epsilon is {figures.epsilon(found['epsilon'])} at delta {found['delta']:g}"
    what = "the run" if "engine" in report else "all seeds together"
    sentences = [
        f"Differential privacy of {what}, {figures.plain(found['adjacency'])}: {cost}, for the "
        "client that spent most, over all that has left of its experts."
    ]
    for each in found["clients"]:
        name = figures.plain(each["client"])
        if each["unprotected"]:
            kinds = ", ".join(figures.plain(kind) for kind in each["unprotected"])
            sentences.append(f"{name}: infinite, because without noise went {kinds}.")
        if each["earlier_runs"]:
            runs = ", ".join(figures.plain(run)[:8] for run in each["runs"])
            count = f"{each['earlier_runs']} earlier run{'s' * (each['earlier_runs'] > 1)}"
            sentences.append(f"{name}: what left in {count} is included (ids {runs}).")
    return sentences


def accuracy_against_epsilon(report: Mapping[str, Any]) -> list[list[str]]:
    """A line for each stage's rows of NeuLig and the average: method, epsilons, both averages."""
    spent = {each["stage"]: each for each in report["privacy"]["stages"]}
    lines = []
    for stage in report["stages"]:
        if stage["name"] not in spent:
            continue
        cost = spent[stage["name"]]
        for row in rows(stage):
            if row.rank > NEULIG and row.label != "simple-average":
                continue
            averages = (row.average["ensemble_accuracy"], row.average["merge_accuracy"])
            lines.append(
                [
                    figures.plain(stage["name"]),
                    row.label,
                    figures.epsilon(cost["epsilon"]),
                    figures.epsilon(cost["so_far"]),
                    *(figures.number(value) for value in averages),
                ]
            )
    return lines


def portland(report: Mapping[str, Any]) -> str:
    """One sentence on how Portland was trained."""
    found = report["portland"]
    if found is None:
        return "Portland: no stage trained it."
    inputs = f"{found['objective']} on {found['queries']} queries"
    if found["objective_on"] != "ensemble":
        judged = {"merge": "merged models", "both": "ensemble and merged models"}
        inputs += f", through {judged[found['objective_on']]} (an extension)"
    if found["transductive"]:
        inputs += " (transductive: the inputs on which accuracy is measured)"
    trained = f"{len(found['trajectory'])} epochs in {figures.number(found['seconds'])} s"
    rate = figures.count(round(found["samples_per_second"]))
    size = f"{figures.count(found['parameters'])} parameters on {found['outputs']}"
    loss = f"alignment {found['alignment']}, alpha {found['alpha']:g}, beta {found['beta']:g}"
    return f"Portland: {size}, {inputs}, {loss}; {trained} ({rate} samples/s)."


def experts(report: Mapping[str, Any]) -> list[str]:
    """One sentence a group on the experts' own accuracies, or why there is none."""
    found = report["reference"]["experts"]
    if not found:
        return [f"Experts alone: {_told(report['reference']['reason'])}"]
    sentences = []
    for group in dict.fromkeys(expert["group"] for expert in found):
        own = [expert for expert in found if expert["group"] == group]
        each = ", ".join(
            f"{e['task']} {figures.number(e['accuracy'])} ({e['client']})" for e in own
        )
        mean = figures.number(figures.mean([expert["accuracy"] for expert in own]))
        sentences.append(f"Experts alone, group {group}: {each}; mean {mean}")
    return sentences


def how_to_read(report: Mapping[str, Any]) -> list[str]:
    """Two or three sentences on the tables, and one where a small gap is only routing."""
    sentences = [
        "The gap is merge minus ensemble accuracy in percentage points, with 95 % intervals: a gap "
        "near 0 says that both mixtures do as well, not that they do well, so read it beside the "
        "accuracies and the controls.",
        "A gap of 0 with no interior query (largest CoopVec entry below 0.9) is routing, not "
        "merging: then both mixtures are one expert.",
    ]
    margins = sorted(set(_margins(report)))
    if margins:
        allowed = " or ".join(f"-{margin:g} and +{margin:g}" for margin in margins)
        sentences.append(
            f"Equivalent: the gap's 90 % interval lies between {allowed} points. Different: it "
            "does not, and excludes 0; the 95 % interval beside it is wider and may hold 0. "
            "Inconclusive: too few queries to tell. '-' is a figure that is missing or does not "
            "apply, never 0."
        )
    return [*sentences, *_routing(report)]


def _margins(report: Mapping[str, Any]) -> Iterator[float]:
    for stage in report["stages"]:
        for result in stage["results"]:
            if result["average"] and result["average"]["equivalence"]:
                yield result["average"]["equivalence"]["margin_pp"]


def _routing(report: Mapping[str, Any]) -> Iterator[str]:
    for stage in report["stages"]:
        for row in rows(stage):
            interior = row.average["interior"]
            if row.rank == NEULIG and interior is not None and interior < ROUTING:
                yield (
                    f"Here, in stage {stage['name']}, {row.label} is nearly all routing: "
                    f"{figures.percent(interior)} % of the queries are interior."
                )
