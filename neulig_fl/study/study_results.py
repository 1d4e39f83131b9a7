"""study.json from the reports of a study's runs: results, stages and comparisons over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files
from neulig_fl.core.errors import InputError
from neulig_fl.report import contract, rows, study_report, study_words
from neulig_fl.report.headline import QUANTITIES, headline, quantity
from neulig_fl.report.summary import FIGURES
from neulig_fl.report.timeline import stage_lines
from neulig_fl.runtime.engines import OUTCOME
from neulig_fl.study.over_seeds import over_seeds
from neulig_fl.study.study_files import OpenedStudy, StudyRun

Data = Mapping[str, Any]
_Key = tuple[str, str | None, str | None]
_NOT_THERE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Ended:
    """How one run of a study ended.

    Args:
        run: the case and seed.
        report: its report; None where it failed.
        reason: why it failed.
        trained: experts that were not in the cache; None where that is not known.
    """

    run: StudyRun
    report: Data | None
    reason: str | None = None
    trained: int | None = None


def trained_experts(folder: Path) -> int | None:
    """How many experts a run trained, from its folder; None where it does not say."""
    try:
        prepared = json.loads(regular_files.read(folder / OUTCOME))["prepared"]
        return sum(bool(now) for of_group in prepared.values() for now in of_group.values())
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def build(study: OpenedStudy, ended: Sequence[Ended]) -> dict[str, Any]:
    """The content of study.json, validated.

    A figure's mean, sd and ci95 (Student's t) are over all seeds; where one lacks the figure, also
    because its run failed, they are null, as in summary.json.

    Args:
        study: the study.
        ended: every run of it, in any order.

    Raises:
        RunError: the study does not fit its contract.
    """
    by_case = {case.name: _of_case(study, case.name, ended) for case in study.cases}
    said = study.written.said
    reports = [each.report for each in ended if each.report is not None]
    stages = [s for name, found in by_case.items() for s in _stages(name, found)]
    built: dict[str, Any] = {
        "schema_version": contract.SCHEMA_VERSION,
        "name": study.name,
        "question": said.question,
        "hash": study.hash,
        "base": {
            "file": said.base,
            "name": study.base.scenario.name,
            "hash": study.base.scenario.hash,
            "clients": [client.name for client in study.base.scenario.clients],
        },
        "seeds": list(study.seeds),
        "versus": study.versus,
        "vary": list(said.vary or {}),
        "versions": sorted({str(report["versions"]["neulig_fl"]) for report in reports}),
        "engines": sorted({str(report["engine"]) for report in reports}),
        "rule": study_words.RULE,
        "cases": [
            {
                "name": case.name,
                "overrides": list(case.opened.overrides),
                "varied": dict(case.varied),
                "scenario_hash": case.opened.scenario.hash,
            }
            for case in study.cases
        ],
        "runs": [_run(each) for each in _in_order(study, ended)],
        "results": [r for name, found in by_case.items() for r in _results(name, found)],
        "stages": stages,
        "comparisons": [*_comparisons(stages, study.versus)],
    }
    built["answers"] = study_words.answers(built)
    study_report.validate(built)
    return built


def _in_order(study: OpenedStudy, ended: Sequence[Ended]) -> list[Ended]:
    """By case, then by seed."""
    found = {(each.run.case.name, each.run.seed): each for each in ended}
    return [found[case.name, seed] for case in study.cases for seed in study.seeds]


def _run(ended: Ended) -> dict[str, Any]:
    done = ended.report is not None
    return {
        "case": ended.run.case.name,
        "seed": ended.run.seed,
        "folder": ended.run.folder.as_posix(),
        "state": "done" if done else "failed",
        "reason": None if done else ended.reason or "no reason given",
        "seconds": ended.report["seconds"]["total"] if ended.report is not None else None,
        "trained": ended.trained,
        "verified": ended.report["ledger"]["verified"] if ended.report is not None else None,
    }


def _of_case(study: OpenedStudy, case: str, ended: Sequence[Ended]) -> list[Data | None]:
    """A case's reports, one a seed; None where the run failed."""
    found = {each.run.seed: each.report for each in ended if each.run.case.name == case}
    return [found.get(seed) for seed in study.seeds]


def _stage(report: Data | None, name: str) -> Data:
    """A stage of a report; empty where the run failed or did not reach it."""
    stages: Sequence[Data] = report["stages"] if report else []
    return next((stage for stage in stages if stage["name"] == name), _NOT_THERE)


def _stage_names(reports: Sequence[Data | None]) -> list[str]:
    there = [report for report in reports if report is not None]
    return list(dict.fromkeys(stage["name"] for report in there for stage in report["stages"]))


def _key(result: Data) -> _Key:
    return result["method"], result["granularity"], result["variant"]


def _named(key: _Key) -> dict[str, Any]:
    return dict(zip(("method", "granularity", "variant"), key, strict=True))


def _results(case: str, reports: Sequence[Data | None]) -> Iterator[dict[str, Any]]:
    for name in _stage_names(reports):
        stages = [_stage(report, name) for report in reports]
        by_key = [{_key(r): r for r in stage.get("results", [])} for stage in stages]
        group = next(stage["group"] for stage in stages if stage)
        for key in dict.fromkeys(key for found in by_key for key in found):
            found = [of_seed.get(key, _NOT_THERE) for of_seed in by_key]
            yield {"case": case, "stage": name, "group": group, **_result(key, found)}


def _result(key: _Key, found: Sequence[Data]) -> dict[str, Any]:
    """One row over seeds; an empty mapping where a seed has none."""
    there = [result for result in found if result]
    tasks = dict.fromkeys(task["task"] for result in there for task in result["tasks"])
    experts = [result["experts"] for result in there]
    seconds = [result["seconds"] for result in there if result["seconds"] is not None]
    return {
        **_named(key),
        **_figures(found),
        "tasks": [_task(name, found) for name in tasks],
        "bytes": max((r["bytes"] for r in there if r["bytes"] is not None), default=None),
        "seconds": math.fsum(seconds) / len(seconds) if seconds else None,
        "experts": [c for c in experts[0] if all(c in each for each in experts)],
        "reason": next((r["reason"] for r in there if r["reason"]), None),
    }


def _figures(found: Sequence[Data]) -> dict[str, Any]:
    averages = [result.get("average") or {} for result in found]
    return {key: over_seeds([a.get(key) for a in averages]) for key in FIGURES}


def _task(name: str, found: Sequence[Data]) -> dict[str, Any]:
    of_seeds = [
        next((task for task in result.get("tasks", []) if task["task"] == name), _NOT_THERE)
        for result in found
    ]
    figures = {key: over_seeds([task.get(key) for task in of_seeds]) for key in QUANTITIES}
    return {"task": name, **figures}


def _stages(case: str, reports: Sequence[Data | None]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    there = [report for report in reports if report is not None]
    lines = [{line.name: line for line in stage_lines(report)} for report in there]
    names = _stage_names(reports)
    for at, name in enumerate(names):
        stages = [_stage(report, name) for report in reports]
        reached = [line[name] for line in lines if name in line]
        row = _headline(stages)
        found.append(
            {
                "case": case,
                "stage": name,
                "group": next(stage["group"] for stage in stages if stage),
                "last": False,
                "headline": row,
                "given": list(dict.fromkeys(g for line in reached for g in line.given)),
                "without": _without(there, name, row),
                "released": _released(there, names[at : at + 1]),
                "released_so_far": _released(there, names[: at + 1]),
                "bytes_so_far": {
                    "least": min(line.bytes[0] for line in reached),
                    "most": max(line.bytes[1] for line in reached),
                },
                "epsilon_so_far": _most(
                    cost["so_far"]
                    for report in there
                    for cost in report["privacy"]["stages"]
                    if cost["stage"] == name
                ),
                "refusals": sum(line.refusals for line in reached),
                "seeds": [
                    report["scenario"]["seed"]
                    for report in there
                    if any(stage["name"] == name for stage in report["stages"])
                ],
            }
        )
    spoken = [stage for stage in found if stage["headline"]]
    if spoken:
        spoken[-1]["last"] = True
    return found


def _headline(stages: Sequence[Data]) -> dict[str, Any] | None:
    """The row that speaks for the stage in the first seed that has one, over all seeds."""
    row = next((row for s in stages if (row := headline(s.get("results", [])))), None)
    if row is None:
        return None
    found = [
        next((r for r in s.get("results", []) if _key(r) == _key(row)), _NOT_THERE) for s in stages
    ]
    figures = _figures(found)
    joint = str(quantity(row))
    return {
        **_named(_key(row)),
        "label": rows.label(*_key(row)),
        "quantity": joint,
        "accuracy": figures[joint],
        **figures,
    }


def _without(reports: Sequence[Data], stage: str, row: Data | None) -> list[str]:
    """Clients that the headline lacks in a seed, in the scenario's order."""
    lacking: set[str] = set()
    everyone: dict[str, None] = {}
    for report in reports if row else ():
        clients = rows.clients(report)
        everyone |= dict.fromkeys(clients)
        for result in _stage(report, stage).get("results", []):
            if row and _key(result) == _key(row):
                lacking |= set(rows.row(result, clients).without)
    return [name for name in everyone if name in lacking]


def _released(reports: Sequence[Data], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Kinds of record with their protections, in the order in which they were first released."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    spent: dict[tuple[str, str, str, int], int] = {}
    for number, report in enumerate(reports):
        for stage in (s for s in report["stages"] if s["name"] in stages):
            for each in stage["releases"]:
                key = each["kind"], each["protection"]
                entry = found.setdefault(key, {"queries": {}, "clients": {}, "epsilon": None})
                entry["queries"] |= {each["queries"]: None} if each["queries"] else {}
                entry["clients"] |= {each["client"]: None}
                entry["epsilon"] = _most([entry["epsilon"], each["epsilon"]])
                place = (*key, each["client"], number)
                spent[place] = spent.get(place, 0) + each["bytes"]
    return [
        {
            "kind": kind,
            "protection": protection,
            "queries": list(entry["queries"]),
            "clients": list(entry["clients"]),
            "bytes": max(v for place, v in spent.items() if place[:2] == (kind, protection)),
            "epsilon": entry["epsilon"],
        }
        for (kind, protection), entry in found.items()
    ]


def _most(values: Any) -> float | str | None:
    """The largest epsilon; None where none makes a claim."""
    known = [value for value in values if value is not None]
    return "inf" if "inf" in known else max(known, default=None)


def _comparisons(stages: Sequence[Data], versus: str) -> Iterator[dict[str, Any]]:
    """Every stage of every other case beside one case's last stage, and beside its namesake."""
    spoken = [stage for stage in stages if stage["headline"]]
    base = [stage for stage in spoken if stage["case"] == versus]
    for stage in (each for each in spoken if each["case"] != versus):
        for other in base:
            if other["last"] or other["stage"] == stage["stage"]:
                yield from _between(stage, other)


def _between(stage: Data, versus: Data) -> Iterator[dict[str, Any]]:
    row, base = stage["headline"], versus["headline"]
    joint = row["quantity"], base["quantity"]
    for pair in dict.fromkeys([joint, *((key, key) for key in QUANTITIES)]):
        sides = row[pair[0]]["values"], base[pair[1]]["values"]
        if pair != joint and any(set(side) == {None} for side in sides):
            continue
        difference = over_seeds(
            [None if None in (a, b) else a - b for a, b in zip(*sides, strict=True)]
        )
        yield {
            "case": stage["case"],
            "stage": stage["stage"],
            "quantity": pair[0],
            "versus_case": versus["case"],
            "versus_stage": versus["stage"],
            "versus_quantity": pair[1],
            "last": bool(stage["last"] and versus["last"]),
            "joint": pair == joint,
            "difference": difference,
            "word": _word(difference),
        }


def _word(difference: Data) -> str:
    """By `study_words.RULE`."""
    if difference["mean"] is None:
        return "missing"
    if difference["ci95"] is None:
        return "one-seed"
    low, high = difference["ci95"]
    return "more" if low > 0 else "less" if high < 0 else "not-shown"
