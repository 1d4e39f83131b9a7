"""What a report's tables show, before any layout: rows, releases and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neulig_fl.report import figures

CONTROLS = ("simple-average", "hard-routing", "best-single", "oracle", "pretrained")
ONE_MODEL = ("hard-routing", "best-single", "oracle", "pretrained")
"""Controls that answer each query with one model: its merge is its ensemble."""

BY_CONSTRUCTION = "by construction"
"""The verdict of a gap that can only be 0."""

QUANTITIES = ("merge_accuracy", "ensemble_accuracy", "gap")
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
        without: clients whose experts it could have mixed and does not.
    """

    label: str
    rank: int
    status: str
    reason: str | None
    verdict: str
    average: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    without: tuple[str, ...] = ()

    @property
    def fewer(self) -> str:
        """The clients that are missing, in words; "-" where none is.

        Example:
            >>> TableRow("a", 0, "ok", None, "-", {}, {}, ("north", "east")).fewer
            'north, east'
        """
        return figures.plain(", ".join(self.without)) or figures.NULL


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


def rows(stage: Mapping[str, Any], everyone: Sequence[str] = ()) -> list[TableRow]:
    """A stage's results in the order of the tables: NeuLig, merge methods, controls.

    Args:
        stage: of the report.
        everyone: the scenario's clients, so that a row can say which of them it is without.
    """
    return [row(result, everyone) for result in ordered(stage["results"])]


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


_MEANS = ("agreement", "effective_experts", "interior")

NO_AVERAGE: Mapping[str, Any] = {
    "merge_accuracy": None,
    "ensemble_accuracy": None,
    "gap_of_means": None,
    "gap_of_means_ci95": None,
    "mean_absolute_gap": None,
    "equivalence": None,
    **dict.fromkeys(_MEANS),
}
"""The averages of what has no result."""


def row(result: Mapping[str, Any], everyone: Sequence[str] = ()) -> TableRow:
    """One result as the tables show it."""
    tasks = {task["task"]: task for task in result["tasks"]}
    average = {**NO_AVERAGE, **(result["average"] or {})}
    for key in _MEANS:
        average[key] = figures.mean([task[key] for task in tasks.values()])
    verdict = _verdict(result, average)
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
        tuple(_left_out(result, everyone)),
    )


def _verdict(result: Mapping[str, Any], average: Mapping[str, Any]) -> str:
    """Of equivalence; what is one model, a control or one expert, cannot differ from itself."""
    test = average["equivalence"]
    if test is None:
        return figures.NULL
    one = result["method"] in ONE_MODEL or len(result.get("experts", ())) == 1
    if one and average["mean_absolute_gap"] == 0:
        return BY_CONSTRUCTION
    found: str = test["verdict"]
    return found


def _left_out(result: Mapping[str, Any], everyone: Sequence[str]) -> list[str]:
    one = result["method"] in ("pretrained", "best-single")
    if one or not everyone or not result["experts"]:
        return []
    return [name for name in everyone if name not in result["experts"]]


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
        f"{row.label}: {row.verdict}: {told(row.reason)}" for row in found if row.status != "ok"
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


def told(reason: str | None) -> str:
    """A reason in words."""
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
    rows: int | None
    bytes: int
    epsilon: str


def given(stage: Mapping[str, Any]) -> list[Given]:
    """What was given away in a stage, with like releases of several clients together."""
    found: dict[tuple[str, int | None, int, str], list[str]] = {}
    for release in stage["releases"]:
        rows = counted_rows(release)
        key = what(release), rows, release["bytes"], figures.epsilon(release["epsilon"])
        found.setdefault(key, []).append(release["client"])
    return [Given(stage["name"], tuple(dict.fromkeys(c)), *key) for key, c in found.items()]


def counted_rows(release: Mapping[str, Any]) -> int | None:
    """A release's rows, where rows are counted: what answers no queries has none."""
    rows: int = release["rows"]
    return rows if release["queries"] else None


def what(release: Mapping[str, Any]) -> str:
    """A release in words.

    Example:
        >>> what({"kind": "features", "queries": "pool", "protection": "sealed"})
        'features of pool, sealed'
    """
    queries = f" of {release['queries']}" if release["queries"] else ""
    return figures.plain(f"{release['kind']}{queries}, {guard(release)}")


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


def guard(release: Mapping[str, Any]) -> str:
    """The protection of a release, in a word.

    Example:
        >>> guard({"protection": "none"}), guard({"protection": "sealed"})
        ('unprotected', 'sealed')
    """
    found: str = release["protection"]
    return "unprotected" if found == "none" else found
