"""What `check` and `plan` foresee is what a run does: scenarios that are shipped, and random ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from test_privacy_scenarios import shrunk

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import NeuligError, ScenarioError
from neulig_fl.core.progress import Progress
from neulig_fl.records.release_plan import open_setting
from neulig_fl.records.secagg.plan import PlannedSum
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study.checking import load
from neulig_fl.study.cost_outlook import foreseen as foreseen_cost
from neulig_fl.study.dry_run import rehearse
from neulig_fl.study.outlook import StageOutlook
from neulig_fl.study.server_loop import Study

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
SHIPPED = sorted(file for file in SCENARIOS.rglob("*.yaml") if file.parent.name != "studies")
NAMES = ("ada", "bob", "cyd", "dan")
TASKS = ("first", "second", "first", "second")
STEPS = ("train-portland", "vote", "ensemble", "merge")
METHODS = ("task-arithmetic", "ties", "regmean", "fisher", "magmax")
SUMMED = {"protection": "secure-aggregation"}

NOISE = {"gaussian": {"noise_multiplier": 3.0, "clip": 1.0, "delta": 1e-5}}

Row = tuple[str, str | None, str | None]


@dataclass(frozen=True)
class Seen:
    """What came of a stage.

    Args:
        releases: client, kind, query set, rows and bytes of each record.
        refusals: client and kind.
        rows: by method, granularity and variant: whether there is an ensemble, and a merge.
    """

    releases: list[tuple[Any, ...]]
    refusals: list[tuple[str, str]]
    rows: dict[Row, tuple[bool, bool]]


# ---------------------------------------------------------------- scenarios


@st.composite
def shares(draw: st.DrawFn, outputs: str) -> list[dict[str, Any]]:
    """What a stage asks for: a few kinds, some of them in sums."""
    found: list[dict[str, Any]] = []
    sets = [["pool"], ["evaluation"], ["pool", "evaluation"], ["pool", "evaluation"]]
    others = st.lists(st.sampled_from(["labels", "top-k", "probabilities"]), max_size=1)
    for kind in (*draw(st.sampled_from([(outputs,), (outputs,), ()])), *draw(others)):
        share = {"kind": kind, "queries": draw(st.sampled_from(sets))}
        share |= draw(st.sampled_from([{}, {}, {"fraction": 0.5}, {"protection": "sealed"}]))
        if kind == outputs and draw(st.integers(0, 3)) == 0:
            share |= {"protection": NOISE}
        if kind == outputs and draw(st.integers(0, 3)) == 0:
            share = {"kind": kind, "queries": ["evaluation"]} | SUMMED
        found.append(share)
    for kind in draw(st.lists(st.sampled_from(["offset-sum", "gram", "fisher"]), unique=True)):
        found.append({"kind": kind} | ({"examples": 4} if kind in ("gram", "fisher") else {}))
    model = draw(st.sampled_from([None, "parameters", "parameters", "task-vector"]))
    if model is not None:
        summed = model == "parameters" and draw(st.booleans())
        found.append({"kind": model} | (SUMMED if summed else {}))
    return found


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """A client's rules; most have none."""
    refused = st.sampled_from(["parameters", "features", "labels", "offset-sum", "gram"])
    return draw(
        st.one_of(
            st.just({}),
            st.just({}),
            st.builds(lambda kind: {"never": [kind]}, refused),
            st.builds(lambda rows: {"budgets": {"max_rows": rows}}, st.sampled_from([5, 13, 40])),
            st.builds(
                lambda most: {"budgets": {"max_leverage": most}}, st.sampled_from([0.2, 1.0])
            ),
        )
    )


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """What differs from the tiny scenario; nearly all of it is valid."""
    count = draw(st.integers(3, 4))
    outputs = draw(st.sampled_from(["features", "features", "logits"]))
    alignment = draw(st.sampled_from(["paper", "none"]))
    stages: list[dict[str, Any]] = []
    known: set[tuple[str, str | None, bool]] = set()
    for number in range(draw(st.integers(1, 3))):
        share = draw(shares(outputs))
        own = {
            (each["kind"], queries, "secure" in each.get("protection", ""))
            for each in share
            for queries in each.get("queries", [None])
        }
        sums = {each for each in own if each[2]}
        known |= own - sums
        trained = any("train-portland" in stage["run"] for stage in stages)
        run = [
            step
            for step in STEPS
            if draw(st.integers(0, 3)) and _met(step, known, sums, trained, outputs, alignment)
        ]
        if "train-portland" not in run and not trained:
            run = [step for step in run if step == "vote"]
        stage = {"name": f"stage-{number}", "share": share, "run": run}
        if "merge" in run:
            few = st.lists(st.sampled_from(["sample", "task", "global"]), min_size=1, unique=True)
            stage["granularity"] = draw(few)
        stages += [stage] if share or run else []
    assume(stages)
    models = {("parameters", None), ("task-vector", None)}
    merges = any("merge" in stage["run"] for stage in stages) and any(
        (kind, queries) in models for kind, queries, _ in known
    )
    return {
        "clients": [
            {"name": name, "task": task, "policy": draw(policies())}
            for name, task in zip(NAMES[:count], TASKS, strict=False)
        ],
        "stages": stages,
        "methods": draw(st.lists(st.sampled_from(METHODS), unique=True, max_size=2))
        if merges
        else [],
        "portland": {
            "epochs": 1,
            "batch_size": 4,
            "alignment": alignment,
            "outputs": outputs,
        },
        "on_refusal": draw(st.sampled_from(["continue", "continue", "stop"])),
    }


def _met(
    step: str,
    known: set[tuple[str, str | None, bool]],
    sums: set[tuple[str, str | None, bool]],
    trained: bool,
    outputs: str,
    alignment: str,
) -> bool:
    """Whether a step is likely to be allowed; `check` decides."""
    kinds = {(kind, queries) for kind, queries, _ in known}
    summed = {(kind, queries) for kind, queries, _ in sums}
    if step == "train-portland":
        start = alignment == "none" or ("offset-sum", None) in kinds
        return start and (outputs, "pool") in kinds
    if step == "vote":
        return any((kind, "evaluation") in kinds for kind in ("labels", "top-k", "probabilities"))
    answers = (outputs, "evaluation") in kinds | summed
    if step == "ensemble":
        return answers
    models = {("parameters", None), ("task-vector", None)} & kinds
    return answers and (bool(models) or ("parameters", None) in summed)


# ---------------------------------------------------------------- foreseen, and done


def foreseen(outlook: StageOutlook) -> Seen:
    """What the plan says of a stage."""
    return Seen(
        [(p.client, p.request.kind, p.request.queries, p.rows, p.bytes) for p in outlook.released],
        [(p.client, p.request.kind) for p in outlook.refused],
        {
            (each.method, each.granularity, each.variant): (each.ensemble, each.merge)
            for each in outlook.results
        },
    )


def done(stage: Mapping[str, Any]) -> Seen:
    """What the report says of it; records that went into sums apart."""
    return Seen(
        [
            (r["client"], r["kind"], r["queries"], r["rows"], r["bytes"])
            for r in stage["releases"]
            if r["protection"] != SUMMED["protection"]
        ],
        [(r["client"], r["kind"]) for r in stage["refusals"]],
        {
            (row["method"], row["granularity"], row["variant"]): _sides(row)
            for row in stage["results"]
        },
    )


def _sides(row: Mapping[str, Any]) -> tuple[bool, bool]:
    tasks: Sequence[Mapping[str, Any]] = row["tasks"]
    return (
        any(task["ensemble_accuracy"] is not None for task in tasks),
        any(task["merge_accuracy"] is not None for task in tasks),
    )


def run(scenario: Scenario, folder: Path) -> tuple[Study, str | None]:
    """A real run, clients in this process, and the error that ended it."""
    clients = tiny.InProcess(scenario, folder)
    known = ReleasedRecords(clients.setting)
    progress = Progress(lambda event: None)
    study = Study(Collector(clients, known, progress, {}, tiny.SERVER_KEYS), progress)
    try:
        study.prepare(scenario)
        for stage in scenario.stages:
            study.run_stage(stage)
    except NeuligError as error:
        return study, str(error)
    return study, None


def compare(outlooks: Sequence[StageOutlook], stages: Sequence[Mapping[str, Any]]) -> None:
    """Every stage that was gone through is as it was foreseen."""
    for outlook, stage in zip(outlooks, stages, strict=False):
        before, after = foreseen(outlook), done(stage)
        assert after.releases == before.releases, stage["name"]
        assert set(before.refusals) <= set(after.refusals), stage["name"]
        more = {client for client, _ in set(after.refusals) - set(before.refusals)}
        sums = [each for each in outlook.sums if each.refusals or depends(each)]
        assert more <= {client for each in sums for client in each.experts}, stage["name"]
        assert after.rows.keys() == before.rows.keys(), stage["name"]
        for result in outlook.results:
            if "unless" in (result.reason or ""):
                continue  # it depends on figures that a plan cannot know, and says so
            key = (result.method, result.granularity, result.variant)
            reasons = [r["reason"] for r in stage["results"] if _key(r) == key]
            assert after.rows[key] == before.rows[key], (stage["name"], key, result, reasons)


def depends(planned: PlannedSum) -> bool:
    """Whether clients may refuse a sum when they see its CoopVecs."""
    return planned.leverage[0] < planned.leverage[1]


def _key(row: Mapping[str, Any]) -> Row:
    return row["method"], row["granularity"], row["variant"]


MORE_VOTES = {
    "stages": [
        {
            "name": "outputs",
            "share": [
                {"kind": "features", "queries": ["pool", "evaluation"], "fraction": 0.5},
                {"kind": "labels", "queries": ["evaluation"]},
            ],
            "run": ["train-portland", "vote", "ensemble"],
        }
    ],
    "portland": {"epochs": 1, "batch_size": 4, "alignment": "none"},
}
"""A vote on twice as many queries as the ensemble answers; such a run once ended in an error."""


ONE_MODEL = {
    "clients": [
        {"name": "ada", "task": "first", "policy": {"never": ["parameters"]}},
        {"name": "bob", "task": "second", "policy": {"never": ["parameters"]}},
        {"name": "cyd", "task": "first"},
    ],
    "stages": [
        {
            "name": "all",
            "share": [
                {"kind": "features", "queries": ["pool", "evaluation"]},
                {"kind": "parameters"},
            ],
            "run": ["train-portland", "merge"],
        }
    ],
    "portland": {"epochs": 1, "batch_size": 4, "alignment": "none"},
}
"""Only a client whose expert is no task's own shares its model; the oracle was once promised."""

FEWER_LATER = {
    "clients": [
        {"name": "ada", "task": "first", "policy": {"budgets": {"max_rows": 40}}},
        {"name": "bob", "task": "second"},
        {"name": "cyd", "task": "first"},
    ],
    "stages": [
        {
            "name": "whole",
            "share": [{"kind": "logits", "queries": ["pool"], "protection": NOISE}],
            "run": ["train-portland"],
        },
        {
            "name": "half",
            "share": [{"kind": "logits", "queries": ["pool"], "fraction": 0.5}],
            "run": ["train-portland"],
        },
    ],
    "portland": {"epochs": 1, "batch_size": 4, "alignment": "none", "outputs": "logits"},
}
"""Answers to half of the pool after answers to all of it, once stacked where a client had no more
rows to give."""


@given(said=scenarios())
@example(said=FEWER_LATER)
@example(said=ONE_MODEL)
@example(said=MORE_VOTES)
@settings(
    max_examples=200,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a smaller case takes minutes to find
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_run_does_what_was_foreseen(said: dict[str, Any], data: Path) -> None:
    """Without it a plan would promise a result that the run does not give, or keep quiet of one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "scenario.yaml"
        path.write_text(yaml.safe_dump(tiny.said(data, **said), sort_keys=False), encoding="utf-8")
        try:
            scenario = load(path).resolved(folder)
        except ScenarioError:
            assume(False)
        check(scenario, folder)


def check(scenario: Scenario, folder: Path) -> None:
    """Rehearse a scenario, run it, and compare."""
    setting = open_setting(scenario, scenario.seed)
    outlooks = list(rehearse(setting))
    study, error = run(scenario, folder)
    stages = study.stages
    whole = [each for each in outlooks if each.stops is None]
    if scenario.on_refusal == "stop" and any(depends(p) for o in whole for p in o.sums):
        whole = whole[: len(stages)]  # a refusal of CoopVecs, which no plan knows, ends the run
    else:
        assert (error is None) == (outlooks[-1].stops is None), (error, outlooks[-1].stops)
    assert [each["name"] for each in stages] == [each.stage.name for each in whole]
    compare(whole, stages)
    if error is None and not any(depends(p) for o in whole for p in o.sums):
        told = foreseen_cost(setting, whole).account
        assert cost(told) == cost(study.outcome()["privacy"])


def cost(privacy: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was spent; experts have other names in a plan than in a ledger."""
    clients = [(c["client"], c["epsilon"], c["unprotected"]) for c in privacy["clients"]]
    return privacy["epsilon"], privacy["delta"], privacy["stages"], clients


QUICK = {"adamerging": {"steps": 2}, "wemoe": {"steps": 2}, "git-rebasin": {"sweeps": 2}}
"""Options with which methods that learn take a moment."""


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_scenario_does_what_was_foreseen(file: Path, data: Path, tmp_path: Path) -> None:
    """The same stages, policies, protections and methods, with a small model and few queries."""
    said = shrunk(file, data, tiny.MODEL)
    said.pop("seeds", None)
    named = [
        entry if isinstance(entry, str) else entry["name"] for entry in said.get("methods", [])
    ]
    fitting = [name for name in dict.fromkeys(named) if name != "lines"]  # tiny-vit has one block
    said["methods"] = [{"name": name, "options": QUICK.get(name, {})} for name in fitting]
    said["seed"] = tiny.SEED
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    check(load(path).resolved(tmp_path), tmp_path)
