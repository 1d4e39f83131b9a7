"""Merge methods in whole runs: their rows, what a stage does not permit, what is chosen, sums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from neulig_fl.cli.plan import Plan, record
from neulig_fl.core import cache_folder, variants
from neulig_fl.merging import methods as merge_methods
from neulig_fl.merging.methods import StateDicts, merged
from neulig_fl.records.release_plan import open_setting
from neulig_fl.report import Report
from neulig_fl.study.checking import load

EXPERTS = {"epochs": 8, "lr": 5.0e-3, "batch_size": 8}
"""Enough for the tiny experts to tell their classes apart, so that a wrong figure shows."""

OUTPUTS = {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]}
PARAMETERS = {"name": "merging", "share": [{"kind": "parameters"}], "run": ["merge"]}
MEASURED = [{"kind": "gram", "examples": 6}, {"kind": "fisher", "examples": 6}]
SUMS = {"protection": "secure-aggregation"}
QUICK = {"adamerging": {"steps": 2}, "wemoe": {"steps": 2}, "git-rebasin": {"sweeps": 2}}
FREE = ["task-arithmetic", "ties", "dare", "magmax"]


def every_method() -> list[Any]:
    """All methods that merge three experts; those that take long with few steps."""
    fitting = [n for n in merge_methods.names() if merge_methods.load(n).NEEDS.experts in (None, 3)]
    fitting.remove("lines")  # tiny-vit has one block, and so no depth
    return [{"name": name, "options": QUICK.get(name, {})} for name in fitting]


def run(folder: Path, data: Path, *stages: dict[str, Any], **changes: Any) -> Report:
    """A run of the tiny scenario."""
    said = {"stages": list(stages), "experts": EXPERTS, **changes}
    return tiny.run(folder, data, **said)


def rows(report: Report, stage: int) -> dict[tuple[str, str | None], dict[str, Any]]:
    """A stage's results by method and variant; NeuLig's per sample alone."""
    return {
        (row["method"], row["variant"]): row
        for row in report.data["stages"][stage]["results"]
        if row["granularity"] in (None, "sample", "global")
    }


def planned(folder: Path) -> dict[str, Any]:
    """What `plan` says of the scenario of a run."""
    setting = open_setting(load(folder / "scenario.yaml"), tiny.SEED)
    return json.loads(json.dumps(record(Plan.of(setting))))  # type: ignore[no-any-return]


def test_every_method_has_a_row_in_every_stage_and_one_release_serves_all(
    data: Path, tmp_path: Path
) -> None:
    """A method could be missing from a table, or make a client give its model away again."""
    merging = {**PARAMETERS, "share": [{"kind": "parameters"}, *MEASURED]}
    report = run(tmp_path, data, OUTPUTS, merging, methods=every_method())
    first, second = rows(report, 0), rows(report, 1)

    for entry in every_method():
        name = entry["name"]
        (before,) = [row for (method, _), row in first.items() if method == name]
        (after,) = [row for (method, _), row in second.items() if method == name]
        counterpart = bool(merge_methods.load(name).NEEDS.outputs)
        assert after["status"] == "ok", (name, after["reason"])
        assert after["average"]["merge_accuracy"] is not None
        assert (after["average"]["ensemble_accuracy"] is not None) == counterpart
        assert before["status"] == ("ok" if counterpart else "not-permitted")
        assert (before["reason"] or "").startswith("" if counterpart else "needs ")
        assert after["experts"] == list(tiny.CLIENTS)
        assert after["seconds"] > 0
        assert after["peak_rss_bytes"] > 0
        assert after["bytes"] > 0
    released = report.data["stages"][1]["releases"]
    size = {k: sum(r["bytes"] for r in released if r["kind"] == k) for k in ("gram", "fisher")}
    models = sum(r["bytes"] for r in released if r["kind"] == "parameters")
    assert second[("fisher", None)]["bytes"] == size["fisher"]
    assert second[("regmean", None)]["bytes"] == size["gram"] + models
    assert second[("ties", None)]["bytes"] == models
    kinds = [r["kind"] for r in released]
    assert kinds == [kind for kind in ("parameters", "gram", "fisher") for _ in tiny.CLIENTS]
    assert report.data["ledger"]["verified"]


def test_a_row_is_the_methods_own_merge_of_the_experts(data: Path, tmp_path: Path) -> None:
    """The report would show another model's accuracy under the method's name."""
    methods = ["task-arithmetic", {"name": "ties", "options": {"density": 0.5}}]
    report = run(tmp_path, data, OUTPUTS, PARAMETERS, methods=methods)
    scenario = load(tmp_path / "scenario.yaml")
    setting = open_setting(scenario, tiny.SEED)
    files = sorted((cache_folder.cache_dir() / "experts").glob("*.safetensors"))
    from neulig_fl.client import experts

    own = {}
    for client in scenario.clients:
        task = setting.tasks[client.task]
        found = experts.recipe(scenario, client, "A", setting.family, task, tiny.SEED)
        assert experts.cached_path(found) in files
        own[client.name] = load_file(experts.cached_path(found))
    source = StateDicts(own, checkpoint=setting.family.encoder().state_dict())
    for name, variant, options in (
        ("task-arithmetic", None, {}),
        ("ties", "density 0.5", {"density": 0.5}),
    ):
        encoder = setting.family.encoder()
        encoder.load_state_dict(merged(name, source, **options))
        shown = rows(report, 1)[(name, variant)]
        for task_row in shown["tasks"]:
            task = setting.tasks[task_row["task"]]
            indices = task.indices("evaluation", 7)
            wanted = experts.accuracy(encoder, task, indices, setting.family)
            assert task_row["merge_accuracy"] == pytest.approx(wanted)


def test_options_are_chosen_on_the_labelled_pool(data: Path, tmp_path: Path) -> None:
    """Options could be chosen on what is evaluated, or not be chosen at all."""
    tried = [0.0, 0.3, 1.0, 8.0]
    methods = [{"name": "task-arithmetic", "tune": {"lambda": tried}}]
    methods += [{"name": "task-arithmetic", "options": {"lambda": value}} for value in tried]
    report = run(tmp_path, data, OUTPUTS, PARAMETERS, methods=methods)
    found = rows(report, 1)
    tuned = found[("task-arithmetic", "lambda tuned")]
    by_value = {
        each["options"]["lambda"]: each["pool_accuracy"] for each in tuned["settings"]["tried"]
    }
    best = max(tried, key=lambda value: (by_value[value], -tried.index(value)))

    assert list(by_value) == tried
    assert len(set(by_value.values())) > 1
    assert tuned["settings"]["options"] == {"lambda": best}
    assert tuned["tasks"] == found[("task-arithmetic", f"lambda {best:g}")]["tasks"]
    assert all(
        row["settings"]["tried"] == [] for (_, v), row in found.items() if v and v != "lambda tuned"
    )
    assert "the best of 4 by accuracy on the labelled pool" in report.markdown()


def test_pool_labels_choose_and_evaluation_labels_do_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A figure would be better than the method is: selected on evaluation queries."""
    from neulig_fl.study import method_rows

    seen = []
    honest = method_rows.accuracy

    def watched(predictions: Any, targets: Any) -> float:
        seen.append([len(each) for each in targets])
        return honest(predictions, targets)

    monkeypatch.setattr(method_rows, "accuracy", watched)
    methods = [{"name": "ties", "tune": {"lambda": [0.5, 1.0]}}]
    run(tmp_path, data, OUTPUTS, PARAMETERS, methods=methods)

    assert seen == [[6, 6], [6, 6]]  # the pool has 6 queries a task, evaluation 7


def test_who_keeps_the_parameters_in_is_left_out_and_named(data: Path, tmp_path: Path) -> None:
    """A method would merge an expert that its owner keeps in, or leave it out in silence."""
    clients = [
        {"name": "ada", "task": "first"},
        {"name": "bob", "task": "second", "policy": {"never": ["parameters"]}},
        {"name": "cyd", "task": "first"},
    ]
    merging = {**PARAMETERS, "share": [{"kind": "parameters"}, *MEASURED]}
    said = {"clients": clients, "on_refusal": "continue", "methods": [*FREE, "regmean", "fisher"]}
    report = run(tmp_path, data, OUTPUTS, merging, **said)

    for name in (*FREE, "regmean", "fisher"):
        row = rows(report, 1)[(name, None)]
        assert row["experts"] == ["ada", "cyd"]
        assert row["reason"] == "without bob"
    refused = {(r["client"], r["kind"]) for r in report.data["stages"][1]["refusals"]}
    assert refused == {("bob", "parameters"), ("bob", "gram"), ("bob", "fisher")}


def test_sums_run_what_sums_are_enough_for_and_name_what_the_others_need(
    data: Path, tmp_path: Path
) -> None:
    """A method would read single records through a sum, or a sum would be refused for no reason."""
    single = {**PARAMETERS, "name": "single", "share": [{"kind": "parameters"}, *MEASURED]}
    summed = {
        "name": "sums",
        "share": [{**each, **SUMS} for each in ({"kind": "parameters"}, *MEASURED)],
        "run": ["merge"],
        "granularity": ["global", "sample"],
    }
    clients = [
        {"name": name, "task": task, "policy": {"budgets": {"max_leverage": 1.0}}}
        for name, task in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ]
    enough = ["task-arithmetic", "iso-c", "regmean", "fisher"]
    said = {"clients": clients, "on_refusal": "continue", "secure_aggregation": {"clip": 64}}
    methods = [*enough, "ties", "adamerging"]
    report = run(tmp_path, data, OUTPUTS, summed, single, methods=methods, **said)
    found, wanted = rows(report, 1), rows(report, 2)

    for name in enough:
        assert found[(name, None)]["status"] == "ok", (name, found[(name, None)]["reason"])
        sums = [t["merge_accuracy"] for t in found[(name, None)]["tasks"]]
        assert sums == [t["merge_accuracy"] for t in wanted[(name, None)]["tasks"]], name
    assert found[("ties", None)]["status"] == "not-permitted"
    assert found[("ties", None)]["reason"] == "needs parameters of each client"
    assert found[("adamerging", None)]["average"]["merge_accuracy"] is None
    sample = [r for r in report.data["stages"][1]["results"] if r["granularity"] == "sample"]
    assert [row["status"] for row in sample] == ["not-permitted"]
    masked = [
        r for r in report.data["stages"][1]["releases"] if r["protection"] == "secure-aggregation"
    ]
    uniform = [r["kind"] for r in masked if r["client"] == "ada"]
    assert sorted(set(uniform)) == ["fisher", "gram", "parameters"]
    assert uniform.count("gram") == uniform.count("fisher") == 1
    assert uniform.count("parameters") == 2  # a CoopVec's, and one uniform sum for all the methods


def test_the_plan_says_the_same_as_the_run(data: Path, tmp_path: Path) -> None:
    """A user would learn from the run what the plan could have said."""
    merging = {**PARAMETERS, "share": [{"kind": "parameters"}, MEASURED[0]]}
    sums = {"name": "sums", "share": [{"kind": "fisher", "examples": 6, **SUMS}], "run": ["merge"]}
    methods = [*every_method(), {"name": "ties", "options": {"density": 0.5}}]
    allowed = {"budgets": {"max_leverage": 1}}  # by default no sum of what left alone before
    clients = [{**each, "policy": allowed} for each in tiny.said(tmp_path)["clients"]]
    report = run(tmp_path, data, OUTPUTS, merging, sums, methods=methods, clients=clients)
    stages = planned(tmp_path)["stages"]

    for at, stage in enumerate(stages):
        said = {
            (r["method"], r["granularity"], r["variant"]): (r["merge"], r["ensemble"])
            for r in stage["results"]
        }
        happened = {
            (r["method"], r["granularity"], r["variant"]): tuple(
                bool(r["average"]) and r["average"][f"{side}_accuracy"] is not None
                for side in ("merge", "ensemble")
            )
            for r in report.data["stages"][at]["results"]
        }
        assert said == happened


def test_a_method_that_fails_has_a_row_that_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One method's failure would end the run, and take the others' figures with it."""
    module = variants.load("neulig_fl.merging.methods", "magmax")

    def broken(given: Any, *, lambda_: float = 0.5) -> Any:
        for name, shape in given.entries.items():
            yield name, torch.full(shape, torch.nan)

    monkeypatch.setattr(module, "merge", broken)
    report = run(tmp_path, data, OUTPUTS, PARAMETERS, methods=["magmax", "task-arithmetic"])
    found = rows(report, 1)

    assert found[("magmax", None)]["status"] == "failed"
    assert "is not finite" in found[("magmax", None)]["reason"]
    assert found[("task-arithmetic", None)]["status"] == "ok"


def test_the_same_on_both_engines(data: Path, tmp_path: Path) -> None:
    """Law 10: a method would depend on the order of replies or on threads."""
    merging = {**PARAMETERS, "share": [{"kind": "parameters"}, *MEASURED]}
    found = [
        tiny.results(run(tmp_path / str(at), data, OUTPUTS, merging, methods=every_method()))
        for at in range(2)
    ]

    assert found[0] == found[1]
    assert np.isfinite([r["bytes"] for r in found[0][1]]).all()
