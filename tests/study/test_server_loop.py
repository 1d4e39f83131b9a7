"""Whole runs on the local engine: every way to train Portland, who is left out, what is written."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario, dump, load_resolved
from neulig_fl.core.errors import RunError
from neulig_fl.core.progress import FILE
from neulig_fl.ledger import chain
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.records.release_plan import open_setting, stage_plan
from neulig_fl.report import Report
from neulig_fl.report.headline import headline
from neulig_fl.runtime import engines
from neulig_fl.runtime.engines import Job, local
from neulig_fl.study import runs
from neulig_fl.study.run_notes import notes
from neulig_fl.study.trained_portland import TrainedPortland
from neulig_fl.verification import whole_run

TWO = [{"name": "ada", "task": "first"}, {"name": "bob", "task": "second"}]
SMALL = {"pool": 4, "evaluation": 4, "train": 4}


# ---------------------------------------------------------------- the slow, obvious way


def _columns(scenario: Scenario, setting: Any, task: str) -> slice:
    start = 0
    for name, opened in setting.tasks.items():
        stop = start + len(opened.source.class_names)
        if name == task:
            return slice(start, stop)
        start = stop
    raise KeyError(task)


def _predict(
    outputs: Tensor, heads: dict[str, Tensor], task: str, kind: str, space: str, own: slice
) -> int:
    """One query's class in the label space, from one vector of features or union logits."""
    if kind == "features":
        head = torch.cat(list(heads.values())) if space == "union" else heads[task]
        return int((head @ (outputs / outputs.norm())).argmax())
    return int((outputs if space == "union" else outputs[own]).argmax())


def _slow_accuracies(scenario: Scenario, out: Path) -> list[tuple[float, float]]:
    """(merged, ensembled) accuracy of every task, query by query, from the experts themselves."""
    setting = open_setting(scenario, scenario.seed)
    family, options = setting.family, scenario.portland
    encoders = [
        ClientHandler(scenario, scenario.seed, c.name, out).encoder("A")[0]
        for c in scenario.clients
    ]
    network = load_file(out / "portland.safetensors")
    heads = {
        n: family.head(t.source.class_names, t.source.templates) for n, t in setting.tasks.items()
    }
    union = torch.cat(list(heads.values()))
    found = []
    for name, task in setting.tasks.items():
        own = _columns(scenario, setting, name)
        at = task.indices("evaluation", scenario.queries.evaluation)
        merged, ensembled = 0, 0
        for i, label in zip(at, task.labels(at), strict=True):
            image = family.normalise(task.pixels(at[at == i], family.image_size))
            target = int(label) + (own.start if options.label_space == "union" else 0)
            z = [e(image)[0] for e in encoders]
            if options.outputs == "logits":
                z = [union @ (v / v.norm()) for v in z]
            beta = torch.softmax(network["weight"] @ torch.cat(z) + network["bias"], dim=0).tolist()
            mixed = sum(b * v for b, v in zip(beta, z, strict=True))
            arguments = (heads, name, options.outputs, options.label_space, own)
            ensembled += _predict(mixed, *arguments) == target  # type: ignore[arg-type]
            model = family.encoder()
            states = [e.state_dict() for e in encoders]
            model.load_state_dict(
                {k: sum(b * s[k] for b, s in zip(beta, states, strict=True)) for k in states[0]}
            )
            features = model.eval()(image)[0]
            guess = _predict(features, heads, name, "features", options.label_space, own)
            merged += guess == target
        found.append((100 * merged / len(at), 100 * ensembled / len(at)))
    return found


LEARNT = {"epochs": 8, "lr": 5.0e-3, "batch_size": 8}
"""Enough for the tiny experts to tell their classes apart, so that a wrong figure shows."""

PROTOCOLS = {
    "pool": {"queries": "pool", "objective": "supervised"},
    "evaluation": {"queries": "evaluation", "objective": "semi"},
    "train": {"queries": "train", "objective": "supervised"},
}


@pytest.mark.parametrize("travel", ["reference", "value"])
@pytest.mark.parametrize("label_space", ["task", "union"])
@pytest.mark.parametrize("outputs", ["features", "logits"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_the_figures_of_one_query_at_a_time(
    protocol: str, outputs: str, label_space: str, travel: str, data: Path, tmp_path: Path
) -> None:
    """Without it a combination that a scenario allows would crash, or report other figures."""
    asked = {"train": ["train", "pool", "evaluation"]}.get(protocol, ["pool", "evaluation"])
    share = [{"kind": "offset-sum"}, {"kind": outputs, "queries": asked}, {"kind": "parameters"}]
    share += [{"kind": "inputs"}] if protocol == "train" else []
    changes: dict[str, Any] = {
        "clients": TWO,
        "experts": LEARNT,
        "queries": {**SMALL, "evaluation": 8, "travel": travel},
        "portland": {
            "outputs": outputs, "label_space": label_space, "epochs": 4, "lr": 0.02, "batch_size": 4,
            **PROTOCOLS[protocol],
        },
        "stages": [{"name": "all", "share": share, "run": ["train-portland", "merge"]}],
    }  # fmt: skip
    report = tiny.run(tmp_path, data, **changes)
    rows = report.data["stages"][0]["results"]
    assert {r["status"] for r in rows} == {"ok"}
    scenario = load_resolved(tmp_path / "out" / "scenario.json")
    neulig = next(r for r in rows if r["method"] == "neulig")
    found = [(t["merge_accuracy"], t["ensemble_accuracy"]) for t in neulig["tasks"]]
    slow = _slow_accuracies(scenario, tmp_path / "out")
    assert found == [pytest.approx(accuracies) for accuracies in slow]
    portland = report.data["portland"]
    assert portland["transductive"] is (protocol == "evaluation")
    assert (portland["trajectory"][0]["accuracy"] is None) is (protocol == "evaluation")
    assert portland["parameters"] == 2 * (2 * (16 if outputs == "features" else 5) + 1)
    assert report.data["ledger"]["verified"] is True


# ---------------------------------------------------------------- what was announced was sent

FULL: dict[str, Any] = {
    "experts": {"epochs": 1, "lr": 1.0e-3, "batch_size": 16, "groups": ["A", "B"]},
    "stages": [
        {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]},
        {
            "name": "merging",
            "share": [*tiny.OUTPUTS, {"kind": "parameters"}],
            "run": ["merge"],
            "granularity": ["sample", "batch-first", "task", "global"],
        },
        {
            "name": "transfer",
            "group": "B",
            "share": [{"kind": "features", "queries": ["evaluation"]}, {"kind": "parameters"}],
            "run": ["ensemble", "merge"],
        },
    ],
}


@pytest.fixture(scope="module")
def full(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """A run of three stages and two groups, and its folder."""
    folder = tmp_path_factory.mktemp("full")
    return tiny.run(folder, data, **FULL), folder / "out"


Full = tuple[Report, Path]


def test_the_plan_is_the_report(full: Full) -> None:
    """Without it `plan` would announce other releases, rows or bytes than a run makes."""
    report, out = full
    scenario = load_resolved(out / "scenario.json")
    setting = open_setting(scenario, scenario.seed)
    planned = [
        (stage.name, p.client, p.request.kind, p.request.queries, p.rows, p.bytes)
        for stage in scenario.stages
        for p in stage_plan(setting, stage)
    ]
    keys = ("stage", "client", "kind", "queries", "rows", "bytes")
    assert [tuple(r[k] for k in keys) for r in tiny.releases(report)] == planned
    assert len(planned) == 9 + 3 + 6


def test_the_reports_releases_are_those_of_every_ledger(full: Full) -> None:
    """Without it a release could be missing from the report, or be charged to nobody (law 9)."""
    report, out = full
    said = [(r["client"], r["kind"], r["queries"], r["sha256"]) for r in tiny.releases(report)]
    receipts = chain.read(out / "receipts.jsonl")
    assert [(e["client"], e["kind"], e["queries"], e["sha256"]) for e in receipts] == said
    assert chain.verify(receipts)
    assert {k: report.data["ledger"][k] for k in ("entries", "head", "verified")} == {
        "entries": len(receipts), "head": chain.head(receipts), "verified": True
    }  # fmt: skip
    assert [found.failures for found in whole_run.verify(out)] == [()]
    for name in tiny.CLIENTS:
        entries = chain.read(out / "clients" / name / "ledger.jsonl")
        assert chain.verify(entries)
        key = report.data["ledger"]["trust"][name]["key"]
        assert chain.signature_fault(entries, [key]) is None
        mine = [(e["client"], e["kind"], e["queries"], e["sha256"]) for e in entries]
        assert sorted(mine, key=str) == sorted((s for s in said if s[0] == name), key=str)


def test_every_method_has_its_row(full: Full) -> None:
    """Without it a small gap could not be told from routing or from a single good expert."""
    report, _ = full
    controls = ["simple-average", "hard-routing", "best-single", "oracle", "pretrained"]
    granular = ["sample", "batch-first", "task", "global"]
    for stage, wanted in zip(
        report.data["stages"], (["sample"], granular, ["sample"]), strict=True
    ):
        names = [(r["method"], r["granularity"]) for r in stage["results"]]
        assert names == [("neulig", g) for g in wanted] + [(c, None) for c in controls]
        merged = stage["name"] != "outputs"
        for row in stage["results"]:
            assert row["status"] == "ok", (row["method"], row["reason"])
            assert [t["task"] for t in row["tasks"]] == ["first", "second"]
            assert all((t["merge_accuracy"] is not None) == merged for t in row["tasks"])
            assert row["bytes"] > 0 or row["method"] == "pretrained"
    transferred = report.data["stages"][2]["results"][0]
    assert transferred["granularity"] == "sample"


def test_a_single_expert_merges_to_itself(full: Full) -> None:
    """Without it a gap of one-hot weights would come from the merge's own mistakes (law 2)."""
    for stage in full[0].data["stages"][1:]:
        for row in stage["results"]:
            if row["method"] in ("hard-routing", "best-single", "oracle", "pretrained"):
                assert [t["gap"] for t in row["tasks"]] == [0.0, 0.0], row["method"]
                assert [t["agreement"] for t in row["tasks"]] == [1.0, 1.0]


def test_the_reference_is_the_engines_and_not_the_servers(full: Full) -> None:
    """Without it the report would have no ground truth, or the server would have seen it."""
    report, out = full
    found = report.data["reference"]["experts"]
    assert [(e["client"], e["group"]) for e in found] == [
        (name, group) for group in "AB" for name in tiny.CLIENTS
    ]
    assert "accuracy" not in json.dumps(
        json.loads((out / "outcome.json").read_text()).get("reference", {})
    )


def test_maps_are_kept_for_the_first_and_the_last_epoch(full: Full) -> None:
    """Without it nobody could see what training did to the CoopVecs."""
    maps = full[0].data["coopvec_maps"]
    assert [(m["stage"], m["group"], m["epoch"]) for m in maps] == [
        ("outputs", "A", 1),
        ("outputs", "A", 2),
    ]
    for found in maps:
        assert (found["tasks"], found["experts"]) == (["first", "second"], list(tiny.CLIENTS))
        assert [sum(row) for row in found["values"]] == pytest.approx([1.0, 1.0])


def test_the_comparisons_are_with_neulig_per_sample(full: Full) -> None:
    """Without it `merge below NeuLig's` could not be read off the report."""
    merging = full[0].data["stages"][1]
    rows = {(r["method"], r["granularity"]): r for r in merging["results"]}
    base = rows["neulig", "sample"]["average"]
    assert len(merging["comparisons"]) == 2 * (len(rows) - 1)
    for figure in merging["comparisons"]:
        own = rows[figure["method"], figure["granularity"]]["average"][figure["quantity"]]
        assert figure["difference"] == pytest.approx(own - base[figure["quantity"]])
        assert figure["ci95"][0] <= figure["difference"] <= figure["ci95"][1]


def test_stages_are_compared_query_by_query(full: Full) -> None:
    """Without it what a later stage changed could not be told from chance."""
    report = full[0].data
    stages = {stage["name"]: stage for stage in report["stages"]}
    assert list(stages) == ["outputs", "merging", "transfer"]
    found = {
        (c["stage"], c["versus"], c["quantity"], c["versus_quantity"]): c
        for c in report["stage_comparisons"]
    }
    merge, ensemble = "merge_accuracy", "ensemble_accuracy"
    assert set(found) == {
        ("merging", "outputs", ensemble, ensemble),
        ("merging", "outputs", merge, ensemble),
        ("transfer", "outputs", ensemble, ensemble),
        ("transfer", "outputs", merge, ensemble),
        ("transfer", "merging", ensemble, ensemble),
        ("transfer", "merging", merge, merge),
    }
    for (stage, versus, quantity, before), comparison in found.items():
        now, then = headline(stages[stage]["results"]), headline(stages[versus]["results"])
        assert now is not None
        assert then is not None
        difference = now["average"][quantity] - then["average"][before]
        assert comparison["difference"] == pytest.approx(difference)
        assert comparison["ci95"][0] <= difference <= comparison["ci95"][1]
        assert (comparison["method"], comparison["versus_method"]) == ("neulig", "neulig")


def test_a_second_run_trains_nothing_and_says_so(full: Full, data: Path, tmp_path: Path) -> None:
    """Without it every run would take as long as the first."""
    again = tiny.run(tmp_path, data, **FULL)
    events = [json.loads(line) for line in (tmp_path / "out" / FILE).read_text().splitlines()]
    notes = [e["note"] for e in events if "note" in e]
    assert [n for n in notes if n.startswith("group")] == [
        "group A: 0 experts trained, 3 from the cache",
        "group B: 0 experts trained, 3 from the cache",
    ]
    assert tiny.results(again) == tiny.results(full[0])


# ---------------------------------------------------------------- those who do not share


def _never(client: str, *kinds: str) -> list[dict[str, Any]]:
    tasks = dict(zip(tiny.CLIENTS, ("first", "second", "first"), strict=True))
    return [
        {"name": n, "task": t, "policy": {"never": list(kinds) if n == client else []}}
        for n, t in tasks.items()
    ]


def _neulig(report: Report) -> list[dict[str, Any]]:
    return [next(r for r in s["results"] if r["method"] == "neulig") for s in report.data["stages"]]


def test_without_one_clients_parameters_it_is_merged_without(data: Path, tmp_path: Path) -> None:
    """Without it one refusal would end a study that may go on."""
    report = tiny.run(tmp_path, data, on_refusal="continue", clients=_never("bob", "parameters"))
    outputs, merging = _neulig(report)
    assert outputs["experts"] == list(tiny.CLIENTS)
    assert merging["experts"] == ["ada", "cyd"]
    assert merging["reason"] == "without bob: weights renormalised"
    assert [t["task"] for t in merging["tasks"]] == ["first", "second"], (
        "every task is still scored"
    )
    assert all(t["gap"] is not None for t in merging["tasks"])
    oracle = next(r for r in report.data["stages"][1]["results"] if r["method"] == "oracle")
    assert oracle["tasks"][1]["merge_accuracy"] is None
    assert "bob's" in oracle["tasks"][1]["reason"]
    assert oracle["average"]["merge_accuracy"] is None
    (refusal,) = report.data["stages"][1]["refusals"]
    assert refusal["client"] == "bob"
    assert "never parameters" in refusal["reason"]


def test_without_one_clients_features_portland_never_reads_them(data: Path, tmp_path: Path) -> None:
    """Without it the network would have an input for somebody who is not there."""
    report = tiny.run(tmp_path, data, on_refusal="continue", clients=_never("bob", "features"))
    assert report.data["portland"]["experts"] == ["ada", "cyd"]
    assert [row["experts"] for row in _neulig(report)] == [["ada", "cyd"]] * 2
    assert report.data["coopvec_maps"][0]["experts"] == ["ada", "cyd"]


def test_without_one_clients_offset_sum_portland_is_trained_without_it(
    data: Path, tmp_path: Path
) -> None:
    """Without it a client that gives features but no offset sum would end the run in Python."""
    report = tiny.run(tmp_path, data, on_refusal="continue", clients=_never("bob", "offset-sum"))
    assert report.data["portland"]["experts"] == ["ada", "cyd"]
    assert [row["status"] for row in _neulig(report)] == ["ok", "ok"]


def test_without_one_owners_inputs_its_task_is_not_trained_on(data: Path, tmp_path: Path) -> None:
    """Without it the paper's protocol would end in Python when one owner keeps its inputs."""
    share = [
        {"kind": "offset-sum"},
        {"kind": "inputs"},
        {"kind": "features", "queries": ["train", "evaluation"]},
        {"kind": "parameters"},
    ]
    stage = {"name": "s", "share": share, "run": ["train-portland", "merge"]}
    stage["granularity"] = ["sample", "task"]
    report = tiny.run(
        tmp_path, data, on_refusal="continue", clients=_never("bob", "inputs"),
        portland={"queries": "train", "epochs": 1},
        stages=[stage],
    )  # fmt: skip
    sample, by_task = (r for r in report.data["stages"][0]["results"] if r["method"] == "neulig")
    assert sample["status"] == "ok"
    assert sample["experts"] == list(tiny.CLIENTS)
    assert by_task["status"] == "not-permitted"
    assert "task second" in by_task["reason"]


def test_a_stage_without_any_parameters_has_rows_with_reasons(data: Path, tmp_path: Path) -> None:
    """Without it a merge that nobody permits would be an empty table, or zeros."""
    clients = [
        {"name": n, "task": t, "policy": {"never": ["parameters"]}}
        for n, t in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ]
    report = tiny.run(tmp_path, data, on_refusal="continue", clients=clients)
    rows = report.data["stages"][1]["results"]
    assert {(r["status"], r["reason"]) for r in rows if r["method"] != "pretrained"} == {
        ("not-permitted", "no client shares features of evaluation queries and parameters")
    }
    assert all(r["average"] is None for r in rows if r["method"] != "pretrained")


# ---------------------------------------------------------------- other settings


def test_batch_norm_statistics_can_be_estimated_again(data: Path, tmp_path: Path) -> None:
    """Without it the option would be one that no run has ever taken."""
    report = tiny.run(
        tmp_path, data, batch_norm="re-estimate", clients=TWO, queries=SMALL,
        model={"name": "micro-rn", "pretrained": "none"},
    )  # fmt: skip
    assert [row["status"] for row in _neulig(report)] == ["ok", "ok"]
    assert "estimated again" in " ".join(report.data["notes"])


def _notes(data: Path, **changes: Any) -> list[str]:
    """The notes of a run that trained Portland."""
    untrained = Portland(torch.zeros(1, 1), torch.zeros(1), ("ada",))
    trained = TrainedPortland(Fit(untrained, [], 0.0, 0), "outputs", "A", "pool", "ada", "by rule")
    return notes(Scenario.model_validate(tiny.said(data, **changes)), trained)


def test_notes_claim_nothing_of_weights_from_elsewhere(data: Path) -> None:
    """Without it a checkpoint that was trained on the pool would pass for one that was not."""
    brought = [{**TWO[0], "checkpoint": "ada.pt"}, TWO[1]]
    plain = _notes(data, clients=TWO)
    assert "a public pool that no expert was trained on and that" in plain[0]
    assert not any("not known here" in note for note in plain)
    one = _notes(data, clients=brought)
    assert "a public pool that no expert of this run's own training was trained on" in one[0]
    assert "The experts of ada were brought as checkpoints: what they were trained on is" in one[1]
    tagged = {"model": {"name": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}}
    start = "Experts start from the weights laion2b_s34b_b79k: what they were trained on is not"
    assert [start in note for note in _notes(data, clients=brought, **tagged)[1:3]] == [False, True]
    all_brought = [{**each, "checkpoint": "x.pt"} for each in TWO]
    assert not any(start in note for note in _notes(data, clients=all_brought, **tagged))
    diverse = {"origin": "diverse"}
    assert not any(start in note for note in _notes(data, experts=diverse, clients=TWO, **tagged))
    path = {"model": {"name": "tiny-vit", "pretrained": "private/place/start.pt"}}
    assert "the weights start.pt:" in _notes(data, clients=TWO, **path)[1]


def test_notes_name_the_experts_settings(data: Path) -> None:
    """Without it a report does not say how the experts that it rests on were trained."""
    options = {"epochs": 3, "lr": 2e-4, "batch_size": 16, "weight_decay": 0.2, "warmup": 0.25}
    (said,) = [n for n in _notes(data, experts=options) if n.startswith("Experts (")]
    for words in ("3 epochs", "batches of 16", "rate 0.0002", "25 % of", "weight decay 0.2"):
        assert words in said
    brought = [{**c, "checkpoint": "x.pt"} for c in TWO]
    assert not any(n.startswith("Experts (") for n in _notes(data, clients=brought))


def test_notes_say_what_is_chosen_on_evaluation_inputs(data: Path) -> None:
    """Without it a best expert that was chosen on evaluation inputs would pass for one that was not."""
    protocol = {"queries": "evaluation", "objective": "semi"}
    transductive = _notes(data, portland=protocol)[0]
    assert "the best single expert is chosen on them; so are CoopVec Maps" in transductive
    assert not any("Transductive" in note for note in _notes(data))


def test_diverse_experts_have_no_checkpoint_to_compare_with(data: Path, tmp_path: Path) -> None:
    """Without it a fresh network would be shown as `pretrained`."""
    diverse = {"epochs": 1, "batch_size": 16, "origin": "diverse"}
    report = tiny.run(tmp_path, data, experts=diverse, clients=TWO, queries=SMALL)
    for stage in report.data["stages"]:
        row = next(r for r in stage["results"] if r["method"] == "pretrained")
        assert (row["status"], row["reason"]) == (
            "not-permitted", "origin: diverse has no common checkpoint"
        )  # fmt: skip


def test_every_seed_has_its_own_experts_and_report(data: Path, tmp_path: Path) -> None:
    """Without it a spread over seeds would be one run, counted several times."""
    path = tiny.write(tmp_path, data, clients=TWO, queries=SMALL)
    text = path.read_text(encoding="utf-8").replace(f"seed: {tiny.SEED}", "seeds: [3, 4]")
    path.write_text(text, encoding="utf-8")
    one, two = runs.run_seeds(path, "local", tmp_path / "out")
    sums = [[r["sha256"] for r in tiny.releases(report)] for report in (one, two)]
    assert not set(sums[0]) & set(sums[1])
    assert (tmp_path / "out" / "summary.json").is_file()


def test_alignment_by_each_rule_trains_another_portland(data: Path, tmp_path: Path) -> None:
    """Without it the option would change nothing in a real run."""
    trained = []
    for rule in ("paper", "code", "none"):
        options = {"epochs": 1, "batch_size": 4, "alignment": rule, "beta": 10.0}
        tiny.run(tmp_path / rule, data, portland=options, clients=TWO, queries=SMALL)
        trained.append(load_file(tmp_path / rule / "out" / "portland.safetensors")["weight"])
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(trained, 2))


# ---------------------------------------------------------------- what the server may open

_WATCH: list[tuple[str, list[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _WATCH:
        _WATCH[-1][1].append(str(arguments[0]))


@pytest.fixture(scope="module")
def _watched() -> Iterator[None]:
    sys.addaudithook(_hook)
    yield
    _WATCH.clear()


@pytest.mark.usefixtures("_watched")
def test_the_server_opens_no_file_of_a_clients(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the server could read what no client released: stores, ledgers, experts."""
    scenario = tiny.scenario(tmp_path, data, clients=TWO, queries=SMALL)
    out = tmp_path / "out"
    out.mkdir()
    dump(scenario, out / "scenario.json")
    honest = ClientHandler.answer

    def answer(self: ClientHandler, *arguments: Any) -> Any:
        _WATCH.append(("client", []))
        try:
            return honest(self, *arguments)
        finally:
            seen.append(_WATCH.pop())

    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(ClientHandler, "answer", answer)
    _WATCH.append(("server", []))
    local.run(Job(out / "scenario.json", out, clients=2))
    opened = _WATCH.pop()[1]
    assert any("outcome.json" in path for path in opened), "the hook must see the server"
    assert any("ledger.jsonl" in path for _, paths in seen for path in paths), "and the clients"
    private = [p for p in opened if f"{out}/clients" in p or "/experts/" in p]
    assert private == []


def test_the_outcome_is_whole_or_not_there(data: Path, tmp_path: Path) -> None:
    """Without it a run that was cut off would leave half a result."""
    scenario = tiny.scenario(tmp_path, data, clients=TWO, queries=SMALL)
    out = tmp_path / "out"
    out.mkdir()
    dump(scenario, out / "scenario.json")
    engines.run("local", Job(out / "scenario.json", out, clients=2))
    assert not [p.name for p in out.iterdir() if p.name.startswith(".")]
    outcome = json.loads((out / "outcome.json").read_text())
    assert [s["name"] for s in outcome["stages"]] == ["outputs", "merging"]


def test_a_scenario_pins_keys(data: Path, tmp_path: Path) -> None:
    """Without it `trust:` would be read and ignored, and anybody could pass for a partner."""
    key = ClientStore(tmp_path / "out" / "clients" / "ada").identity.key
    stages = [{"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland"]}]
    report = tiny.run(tmp_path, data, stages=stages, trust={"ada": key})
    trust = report.data["ledger"]["trust"]
    assert {name: each["pinned"] for name, each in trust.items()} == {
        "ada": True, "bob": False, "cyd": False
    }  # fmt: skip
    assert trust["ada"]["key"] == key
    with pytest.raises(RunError, match=r"client .bob., saying hello: .* not the pinned one"):
        tiny.run(tmp_path / "other", data, stages=stages, trust={"bob": key})
