"""What a report says in sentences, for any layout: of experts, Portland, ledger, how to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neulig_fl.report import figures, rows

ROUTING = 0.05
"""A share of interior queries below this is called routing."""

_LONGEST = 100
"""Characters of a setting that replaced a file's; report.json has it whole."""


def differs(scenario: Mapping[str, Any]) -> list[str]:
    """What was run otherwise than its file says; nothing where nothing was."""
    changed = [each for each in scenario.get("overrides", []) if not each.startswith("seed=")]
    if not changed:  # the seed stands beside the name
        return []
    settings = "; ".join(_shortened(figures.plain(each)) for each in changed)
    return [f"Differs from {figures.plain(scenario.get('file') or 'its file')} in {settings}."]


def _shortened(setting: str) -> str:
    return setting if len(setting) <= _LONGEST else setting[: _LONGEST - 3] + "..."


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
        return [f"Experts alone: {rows.told(report['reference']['reason'])}"]
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
            "Inconclusive: too few queries to tell. "
            f"{rows.BY_CONSTRUCTION.capitalize()}: each query is answered by one model, which is "
            "its own ensemble. '-' is a figure that is missing or does not apply, never 0."
        )
    return [*sentences, *_routing(report)]


def _margins(report: Mapping[str, Any]) -> Iterator[float]:
    for stage in report["stages"]:
        for result in stage["results"]:
            if result["average"] and result["average"]["equivalence"]:
                yield result["average"]["equivalence"]["margin_pp"]


def _routing(report: Mapping[str, Any]) -> Iterator[str]:
    for stage in report["stages"]:
        for row in rows.rows(stage):
            interior = row.average["interior"]
            if row.rank == rows.NEULIG and interior is not None and interior < ROUTING:
                yield (
                    f"Here, in stage {stage['name']}, {row.label} is nearly all routing: "
                    f"{figures.percent(interior)} % of the queries are interior."
                )
