"""The tables of a study's page, and the cards of its cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulig_fl.report import figures, revealed, rows
from neulig_fl.report.headline import SIDES
from neulig_fl.report.page.tables import Cell, Table, number, table, words

_SPREADS = ("merge_accuracy", "ensemble_accuracy", "gap_of_means")


def card(case: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """What the first screen shows of a case: its last stage that has an accuracy."""
    own = [stage for stage in study["stages"] if stage["case"] == case["name"]]
    last = next((stage for stage in own if stage["last"]), None)
    shown: dict[str, Any] = {"name": figures.plain(case["name"]), "there": last is not None}
    if last is None:
        return shown
    row, given = last["headline"], last["bytes_so_far"]
    shared = (f"{each['kind']} ({rows.guard(each)})" for each in last["released_so_far"])
    ends = row["accuracy"]["ci95"]
    return shown | {
        "stage": figures.plain(last["stage"]),
        "side": "Merged model" if row["quantity"] == "merge_accuracy" else "Ensemble",
        "value": row["accuracy"]["mean"],
        "text": figures.number(row["accuracy"]["mean"]),
        "ends": figures.interval(ends) if ends else "one seed, no interval",
        "method": figures.plain(row["label"]),
        "gap": figures.signed(row["gap_of_means"]["mean"]),
        "shared": figures.plain("; ".join(dict.fromkeys(shared))) or "nothing",
        "revealed": revealed.most(last["released_so_far"]),
        "bytes": figures.size(given["most"]),
        "epsilon": _claim(last["epsilon_so_far"]),
        "without": figures.plain(", ".join(last["without"])),
        "refusals": sum(stage["refusals"] for stage in own),
    }


def _claim(epsilon: float | str | None) -> str:
    found = figures.epsilon(epsilon)
    return "no claim" if found == figures.NULL else found


def _spread(found: Mapping[str, Any], *, signed: bool = False) -> list[Cell]:
    """The mean, the standard deviation and the interval."""
    shown = figures.signed if signed else figures.number
    return [
        number(found["mean"], shown),
        number(found["sd"]),
        Cell(figures.interval(found["ci95"])),
    ]


def stages(study: Mapping[str, Any]) -> Table | None:
    """Every case stage by stage."""
    head = ["Case", "Stage", "Group", "Released in it", "Method", "Without"]
    head += ["Merge %", "sd", "95 % CI", "Ensemble %", "sd", "95 % CI", "Bytes each so far"]
    head += ["Epsilon so far", "Refused or missing"]
    none = {"mean": None, "sd": None, "ci95": None}
    body = []
    for stage in study["stages"]:
        row = stage["headline"] or {"label": None, **dict.fromkeys(_SPREADS, none)}
        body.append(
            [
                *(words(stage[key]) for key in ("case", "stage", "group")),
                words("; ".join(stage["given"])),
                words(row["label"]),
                words(", ".join(stage["without"])),
                *_spread(row["merge_accuracy"]),
                *_spread(row["ensemble_accuracy"]),
                number(stage["bytes_so_far"]["most"], figures.count),
                words(figures.epsilon(stage["epsilon_so_far"])),
                number(stage["refusals"] or None, figures.count),
            ]
        )
    return table("Every case, stage by stage", head, body)


def comparisons(study: Mapping[str, Any]) -> Table | None:
    """Each case minus the one that all are compared with."""
    head = ["Case", "Stage", "Accuracy", "Minus", "Its stage", "Its accuracy"]
    head += ["Difference", "sd", "95 % CI", "Shown"]
    body = (
        [
            words(found["case"]),
            words(found["stage"]),
            words(SIDES[found["quantity"]]),
            words(found["versus_case"]),
            words(found["versus_stage"]),
            words(SIDES[found["versus_quantity"]]),
            *_spread(found["difference"], signed=True),
            words(found["word"].replace("-", " ")),
        ]
        for found in study["comparisons"]
    )
    return table("Differences, paired by seed", head, body)


def results(study: Mapping[str, Any]) -> Table | None:
    """Every row of every stage of every case."""
    head = ["Case", "Stage", "Method", "Merge %", "sd", "95 % CI", "Ensemble %", "sd", "95 % CI"]
    head += ["Gap of means", "sd", "95 % CI", "Seconds", "Reason"]
    body = (
        [
            words(found["case"]),
            words(found["stage"]),
            words(rows.called(found)),
            *_spread(found["merge_accuracy"]),
            *_spread(found["ensemble_accuracy"]),
            *_spread(found["gap_of_means"], signed=True),
            number(found["seconds"]),
            words(found["reason"]),
        ]
        for found in study["results"]
    )
    return table("Every row, over the seeds", head, body)


def tasks(study: Mapping[str, Any]) -> Table | None:
    """Every row, task by task."""
    head = ["Case", "Stage", "Method", "Task", "Merge %", "sd", "95 % CI"]
    head += ["Ensemble %", "sd", "95 % CI"]
    body = (
        [
            words(found["case"]),
            words(found["stage"]),
            words(rows.called(found)),
            words(task["task"]),
            *_spread(task["merge_accuracy"]),
            *_spread(task["ensemble_accuracy"]),
        ]
        for found in study["results"]
        for task in found["tasks"]
    )
    return table("Each task, over the seeds", head, body)


def released(study: Mapping[str, Any]) -> Table | None:
    """What left the clients in each stage of each case."""
    head = ["Case", "Stage", "Kind", "Queries", "Protection", "Clients", "Bytes of each", "Epsilon"]
    body = (
        [
            words(stage["case"]),
            words(stage["stage"]),
            words(found["kind"]),
            words(", ".join(found["queries"])),
            words(found["protection"]),
            words(rows.who(found["clients"], study["base"]["clients"])),
            number(found["bytes"], figures.count),
            words(figures.epsilon(found["epsilon"])),
        ]
        for stage in study["stages"]
        for found in stage["released"]
    )
    return table("Records released, case by case", head, body)


def overrides(study: Mapping[str, Any]) -> Table | None:
    """How each case differs from the base."""
    body = (
        [words(case["name"]), words(each)]
        for case in study["cases"]
        for each in case["overrides"] or ["the base as it is"]
    )
    return table("How the cases differ from the base", ["Case", "Override"], body)


def runs(study: Mapping[str, Any]) -> Table | None:
    """Every run."""
    head = ["Case", "Seed", "State", "Seconds", "Experts trained", "Ledger", "Folder", "Reason"]
    ledgers = {True: "verified", False: "NOT VERIFIED", None: None}
    body = (
        [
            words(run["case"]),
            number(run["seed"], str),
            words(run["state"]),
            number(run["seconds"]),
            number(run["trained"], figures.count),
            words(ledgers[run["verified"]]),
            words(run["folder"]),
            words(run["reason"]),
        ]
        for run in study["runs"]
    )
    return table("Every run", head, body)
