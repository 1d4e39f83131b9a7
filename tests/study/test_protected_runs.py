"""Sealed and noised records from end to end: what leaves, what opens, what it costs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Share
from neulig_fl.core.errors import BadReply, ClientRefused
from neulig_fl.ledger import chain
from neulig_fl.ledger.opening import OPENING
from neulig_fl.merging.inference import ExpertStack
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import OVERHEAD
from neulig_fl.records.kinds.task_vector import moved
from neulig_fl.records.protections import Case, Stated, gaussian, none
from neulig_fl.records.release_plan import stage_plan, stage_requests
from neulig_fl.records.signed_requests import signed
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.report import Report
from neulig_fl.server.collecting import Collector
from neulig_fl.verification import whole_run

SEALED = [
    {"kind": "offset-sum", "protection": "sealed"},
    {"kind": "features", "queries": ["pool", "evaluation"], "protection": "sealed"},
]
NO_ALIGNMENT = {"epochs": 2, "batch_size": 4, "alignment": "none"}


def _stage(name: str, *share: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "share": list(share), **more}


def _noised(**noise: Any) -> dict[str, Any]:
    share = {"kind": "features", "queries": ["pool", "evaluation"]}
    return tiny.noised(share, clip=1.0, delta=1e-5, **noise)


def _collected(collector: Collector, number: int = 0) -> tuple[list[Any], list[Any]]:
    return collector.collect(collector.released.setting.scenario.stages[number])


def _entries(folder: Path, client: str) -> list[dict[str, Any]]:
    return chain.read(folder / "clients" / client / "ledger.jsonl")


# ---------------------------------------------------------------- sealed


def test_a_sealed_run_has_the_results_of_a_plain_one(data: Path, tmp_path: Path) -> None:
    """Without it sealing would change figures, or not be what the server opens."""
    sealed_stages = [
        _stage("outputs", *SEALED, run=["train-portland", "ensemble"]),
        _stage("merging", {"kind": "parameters", "protection": "sealed"}, run=["merge"]),
    ]
    plain = tiny.run(tmp_path / "plain", data)
    sealed = tiny.run(tmp_path / "sealed", data, stages=sealed_stages)
    assert _without_bytes(sealed) == _without_bytes(plain)
    for one, other in zip(tiny.releases(plain), tiny.releases(sealed), strict=True):
        assert other["bytes"] == one["bytes"] + OVERHEAD
        assert other["protection"] == "sealed"
    assert whole_run.verify(tmp_path / "sealed" / "out")[0].holds


def _without_bytes(report: Report) -> list[list[dict[str, Any]]]:
    return [[{**row, "bytes": None} for row in stage] for stage in tiny.results(report)]


def test_what_travels_sealed_does_not_hold_the_record(data: Path, tmp_path: Path) -> None:
    """Without it whoever carries the messages would read along."""
    seen: list[bytes] = []

    def tapped(answers: list[Answer]) -> list[Answer]:
        seen.extend(bytes(answer.payload) for answer in answers)
        return answers

    collector = tiny.collector(tmp_path, data, tapped, stages=[_stage("one", *SEALED)])
    releases, _ = _collected(collector)
    carried = b"".join(seen)
    known = collector.released.outputs[("A", "features", "pool")]
    for client in tiny.CLIENTS:
        record = known[client].numpy().tobytes()
        assert len(record) > 100
        assert record[:16] not in carried
    planned = stage_plan(collector.released.setting, collector.released.setting.scenario.stages[0])
    assert [p.bytes for p in planned] == [r["bytes"] for r in releases]


def _swapped(answers: list[Answer]) -> list[Answer]:
    """Two clients' sealed payloads change places, with receipts to match."""
    first, second, *rest = answers
    if len(first.payload) <= 8 + OVERHEAD:
        return answers
    return [_carrying(first, second.payload), _carrying(second, first.payload), *rest]


def _carrying(answer: Answer, payload: bytes | memoryview) -> Answer:
    digest = hashlib.sha256(payload).hexdigest()
    return dataclasses.replace(answer, payload=payload, body={**answer.body, "sha256": digest})


def test_sealed_records_that_change_places_do_not_open(data: Path, tmp_path: Path) -> None:
    """Without it whoever carries messages could give one client's record out as another's."""
    collector = tiny.collector(tmp_path, data, _swapped, stages=[_stage("one", *SEALED)])
    with pytest.raises(BadReply, match=r"client 'ada', .*does not open: it was changed, or sealed"):
        _collected(collector)


def test_a_sealed_record_of_another_stage_or_run_does_not_open(data: Path, tmp_path: Path) -> None:
    """Without it an old record could be given out as a new one."""
    kept: dict[tuple[str, int], bytes] = {}

    def replayed(answers: list[Answer]) -> list[Answer]:
        return [
            _carrying(each, kept.setdefault((each.client, len(each.payload)), bytes(each.payload)))
            if each.action == "release"
            else each
            for each in answers
        ]

    changes = {"stages": [_stage("one", *SEALED)]}
    _collected(tiny.collector(tmp_path, data, replayed, **changes))
    with pytest.raises(BadReply, match="does not open"):
        _collected(tiny.collector(tmp_path, data, replayed, **changes))


def test_the_same_sealed_record_is_not_taken_twice(data: Path, tmp_path: Path) -> None:
    """Without it one record could stand for two."""
    collector = tiny.collector(tmp_path, data, stages=[_stage("one", *SEALED)])
    _collected(collector)
    stage = collector.released.setting.scenario.stages[0]
    request = stage_requests(collector.released.setting.scenario, stage)[0]
    item = next(iter(stage_plan(collector.released.setting, stage)))
    (answer,) = collector.clients.ask([Ask("ada", "release", dataclasses.asdict(request))], 1.0)
    assert answer.status == "ok"
    collector._checked(item, answer)
    with pytest.raises(BadReply, match="was received before"):
        collector._checked(item, answer)


def test_asked_again_a_sealed_record_is_sealed_anew_and_charged_once(
    data: Path, tmp_path: Path
) -> None:
    """Without it the ledger would not hold what left, or a repeat would cost a second time."""
    collector = tiny.collector(tmp_path, data, stages=[_stage("one", *SEALED)])
    _collected(collector)
    stage = collector.released.setting.scenario.stages[0]
    request = stage_requests(collector.released.setting.scenario, stage)[1]
    (answer,) = collector.clients.ask([Ask("ada", "release", dataclasses.asdict(request))], 1.0)
    *_, first, last = [
        e for e in _entries(tmp_path, "ada") if e["kind"] == "features" and e["queries"] == "pool"
    ]
    assert (first["event"], last["event"]) == ("release", "repeat")
    assert last["repeats"] == first["index"]
    assert first["sha256"] != last["sha256"] == hashlib.sha256(answer.payload).hexdigest()


# ---------------------------------------------------------------- the server's key


def test_a_server_with_another_key_than_the_pinned_one_gets_nothing(
    data: Path, tmp_path: Path
) -> None:
    """Without it whoever stands between could have records sealed to itself."""
    pinned = Identity.new()
    changes = {"stages": [_stage("one", *SEALED)], "trust": {"server": pinned.key}}
    collector = tiny.collector(tmp_path, data, **changes, on_refusal="continue")
    releases, refusals = _collected(collector)
    assert releases == []
    assert len(refusals) == 9
    assert all("which is not the pinned one" in each["reason"] for each in refusals)
    assert {e["event"] for e in _entries(tmp_path, "ada")} == {"refusal"}
    assert not (tmp_path / "clients" / "ada" / "releases").exists()

    right = tiny.collector(tmp_path / "right", data, **changes)
    right.identity = pinned
    assert len(_collected(right)[0]) == 9


def test_a_nodes_own_pin_counts_whatever_the_scenario_says(data: Path, tmp_path: Path) -> None:
    """Without it the scenario's author could name a server that the node's owner does not know."""
    scenario = tiny.scenario(tmp_path, data)
    server, other = Identity.new(), Identity.new()
    party = ClientHandler(scenario, 3, "ada", tmp_path / "store", server_pin=other.key)
    with pytest.raises(ClientRefused, match="is not the pinned one"):
        party.answer("hello", tiny.opening(party, server=server), b"")
    known = ClientHandler(scenario, 3, "ada", tmp_path / "store", server_pin=server.key)
    known.answer("hello", tiny.opening(known, server=server), b"")
    with pytest.raises(ClientRefused, match="is not the pinned one"):  # a pin that came later
        tiny.say(party, "release", {"stage": "outputs", "group": "A", "kind": "offset-sum"},
                 server=server)  # fmt: skip
    assert [e["event"] for e in ClientStore(tmp_path / "store").entries()] == ["refusal"] * 2


def test_nothing_is_sealed_for_a_server_that_began_no_run(data: Path, tmp_path: Path) -> None:
    """Without it a sealed share would be sent open, or to an earlier run's key."""
    scenario = tiny.scenario(tmp_path, data, stages=[_stage("one", *SEALED)])
    party = ClientHandler(scenario, 3, "ada", tmp_path / "store")
    party.answer("hello", tiny.opening(party, "cd" * 16), b"")
    asked = {"stage": "one", "group": "A", "kind": "offset-sum", "protection": "sealed"}
    body = signed(tiny.SERVER_KEYS, "ab" * 16, 1, Ask("ada", "release", asked)).body
    with pytest.raises(ClientRefused, match="no server has begun this run here"):
        party.answer("release", body, b"")
    assert [e["event"] for e in ClientStore(tmp_path / "store").entries()] == ["refusal"]


def test_a_forged_server_key_opens_no_run(data: Path, tmp_path: Path) -> None:
    """Without it an agreement key that the pinned key never signed would be sealed to."""
    scenario = tiny.scenario(tmp_path, data)
    party, honest = ClientHandler(scenario, 3, "ada", tmp_path / "store"), Identity.new()
    said = tiny.opening(party, server=honest)
    said[OPENING]["server"]["agreement"] = Identity.new().agreement
    with pytest.raises(ClientRefused, match="that the first one signed"):
        party.answer("hello", said, b"")


# ---------------------------------------------------------------- gaussian


def test_noise_costs_what_the_report_and_the_ledgers_say(data: Path, tmp_path: Path) -> None:
    """Without it epsilon in the report would be another one than the clients accounted for."""
    stages = [
        _stage("first", _noised(epsilon=4.0), run=["train-portland", "ensemble"]),
        _stage("second", _noised(epsilon=8.0), run=["train-portland", "ensemble"]),
    ]
    report = tiny.run(tmp_path, data, stages=stages, portland=NO_ALIGNMENT)
    found = report.data["privacy"]
    multipliers = [
        e["noise_multiplier"] for e in _entries(tmp_path / "out", "ada") if e["event"] == "release"
    ]
    assert len(multipliers) == 4
    assert len(set(multipliers)) == 2
    together = accountant.spent([Charge("f", m) for m in multipliers], 1e-5).epsilon
    assert found["epsilon"] == pytest.approx(together)
    assert [s["epsilon"] for s in found["stages"]] == pytest.approx([4.0, 8.0], rel=1e-3)
    assert [s["so_far"] for s in found["stages"]] == pytest.approx([4.0, together], rel=1e-3)
    assert {c["client"] for c in found["clients"]} == set(tiny.CLIENTS)
    assert all(r["epsilon"] < 8.0 and r["delta"] == 1e-5 for r in tiny.releases(report))
    assert whole_run.verify(tmp_path / "out")[0].holds
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "## Differential privacy" in markdown
    assert "| first | NeuLig (sample) | 4 | 4 |" in markdown


def test_a_report_with_another_epsilon_does_not_verify(data: Path, tmp_path: Path) -> None:
    """Without it a report could print a smaller epsilon than the clients signed."""
    stages = [_stage("first", _noised(epsilon=4.0))]
    tiny.run(tmp_path, data, stages=stages, portland=NO_ALIGNMENT)
    file = tmp_path / "out" / "report.json"
    report = json.loads(file.read_text())
    report["privacy"]["epsilon"] = 1.0
    file.write_text(json.dumps(report))
    (failure,) = whole_run.verify(tmp_path / "out")[0].failures
    assert "its epsilons are not those that the signed entries come to" in failure.what


def test_one_record_without_noise_makes_the_run_infinite(data: Path, tmp_path: Path) -> None:
    """Without it the offset sum, which depends on the model, would seem to be free."""
    stages = [
        _stage("noised", _noised(epsilon=1.0)),
        _stage("bare", {"kind": "offset-sum"}),
    ]
    report = tiny.run(tmp_path, data, stages=stages)
    found = report.data["privacy"]
    assert found["epsilon"] == "inf"
    assert [c["unprotected"] for c in found["clients"]] == [["offset-sum"]] * 3
    assert [s["so_far"] for s in found["stages"]] == [pytest.approx(1.0, rel=1e-3), "inf"]
    said = (tmp_path / "out" / "report.md").read_text()
    assert "ada: infinite, because without noise went offset-sum." in said


def test_a_run_without_noise_claims_nothing(data: Path, tmp_path: Path) -> None:
    """Without it a plain run would print an epsilon, even an infinite one, that nobody claimed."""
    report = tiny.run(tmp_path, data)
    assert report.data["privacy"]["epsilon"] is None
    assert "Differential privacy of the run" not in (tmp_path / "out" / "report.md").read_text()


def test_asked_again_the_same_noise_leaves(data: Path, tmp_path: Path) -> None:
    """Without it a server could ask the same again and again, and average the noise away."""
    changes: dict[str, Any] = {"stages": [_stage("one", _noised(epsilon=4.0))]}
    first = tiny.collector(tmp_path, data, **changes)
    _collected(first)
    second = tiny.collector(tmp_path, data, **changes)
    _collected(second)
    one, two = (c.released.outputs[("A", "features", "pool")]["ada"] for c in (first, second))
    assert torch.equal(one, two)
    entries = [e for e in _entries(tmp_path, "ada") if e["queries"] == "pool"]
    assert [e["event"] for e in entries] == ["release", "repeat"]


def test_other_noise_is_another_record(data: Path, tmp_path: Path) -> None:
    """Without it a stage with a larger epsilon would be given the noise of a smaller one."""
    stages = [_stage("one", _noised(epsilon=4.0)), _stage("two", _noised(epsilon=400.0))]
    collector = tiny.collector(tmp_path, data, stages=stages)
    _collected(collector)
    before = collector.released.outputs[("A", "features", "pool")]["ada"].clone()
    _collected(collector, 1)
    after = collector.released.outputs[("A", "features", "pool")]["ada"]
    assert before.std() > 5 * after.std()


@pytest.mark.parametrize("how", ["less noise", "noise on a plain record"])
def test_noise_that_was_not_asked_for_is_not_believed(
    how: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a client could claim an epsilon that its noise does not give."""
    share = _noised(epsilon=4.0) if how == "less noise" else tiny.OUTPUTS[1]
    honest = gaussian.PROTECTION.settings

    def less(share: Share, kind: str) -> dict[str, Any]:
        return {**honest(share, kind), "noise_multiplier": 0.1}

    def claimed(case: Case) -> Stated:
        return Stated(facts={"noise_multiplier": 9.0, "delta": 1e-5})

    changes: dict[str, Any] = {"stages": [_stage("one", share)]}
    collector = tiny.collector(tmp_path, data, **changes)
    original = collector.transport.ask

    def asked(asks: Any, timeout: float) -> Any:
        with monkeypatch.context() as patch:
            if how == "less noise":
                patch.setattr(gaussian.PROTECTION, "settings", less)
            else:
                patch.setattr(none.PROTECTION, "stated", claimed)
            answers = list(original(asks, timeout))
        return iter(answers)

    monkeypatch.setattr(collector.transport, "ask", asked)
    told = (
        "noise_multiplier 0.1, and stage 'one' asks for 1."
        if how == "less noise"
        else "noise under protection 'none'"
    )
    with pytest.raises(BadReply, match=told):
        _collected(collector)


def test_an_epsilon_is_not_overdrawn(data: Path, tmp_path: Path) -> None:
    """Without it a budget would be noticed when it is spent, and not before."""
    clients = tiny.said(data)["clients"]
    clients[0]["policy"] = {"budgets": {"max_epsilon": 5.0}}
    stages = [_stage("one", _noised(epsilon=4.0)), _stage("two", _noised(epsilon=3.0))]
    changes = {"stages": stages, "clients": clients, "on_refusal": "continue"}
    collector = tiny.collector(tmp_path, data, **changes)
    assert len(_collected(collector)[0]) == 6
    releases, refusals = _collected(collector, 1)
    assert {r["client"] for r in refusals} == {"ada"}
    assert all("limit max_epsilon 5: with this record" in r["reason"] for r in refusals)
    planned = stage_plan(collector.released.setting, collector.released.setting.scenario.stages[1])
    assert {p.client for p in planned if p.refusal} == {"ada"}
    spent = [e for e in _entries(tmp_path, "ada") if e["event"] == "release"]
    charges = [Charge("features", e["noise_multiplier"]) for e in spent]
    assert accountant.spent(charges, 1e-5).epsilon <= 5.0
    assert len(releases) == 4 + 2 - len(refusals)


def test_fewer_queries_are_no_way_to_fresh_noise(data: Path, tmp_path: Path) -> None:
    """Without it each fraction would get noise of its own, and their mean would have less."""
    scenario = tiny.scenario(tmp_path, data, stages=[_stage("one", _noised(epsilon=4.0))])
    party = ClientHandler(scenario, 3, "ada", tmp_path / "store")
    asked = {"stage": "one", "group": "A", "kind": "features", "queries": "pool"}
    with pytest.raises(ClientRefused, match=r"a fraction of 1.0 of features, not 0.5"):
        tiny.say(party, "release", {**asked, "protection": "gaussian", "fraction": 0.5}, b"")


def test_noised_parameters_can_be_merged(data: Path, tmp_path: Path) -> None:
    """Without it the noise on parameters would be named in a scenario and end the run."""
    stages = [
        _stage("one", *tiny.OUTPUTS, run=["train-portland"]),
        _stage(
            "two",
            tiny.noised({"kind": "parameters"}, clip=1.0, delta=1e-5, epsilon=1e6),
            run=["merge"],
        ),
    ]
    report = tiny.run(tmp_path, data, stages=stages)
    rows = [r for r in tiny.results(report)[1] if r["method"] == "simple-average"]
    assert rows[0]["status"] == "ok"
    sent = [r for r in tiny.releases(report) if r["kind"] == "parameters"]
    assert all(r["epsilon"] == pytest.approx(1e6, rel=1e-3) for r in sent)
    assert np.isfinite(rows[0]["average"]["merge_accuracy"])


@pytest.mark.parametrize("protection", ["none", "sealed"])
def test_a_task_vector_gives_the_server_the_same_experts(
    protection: str, data: Path, tmp_path: Path
) -> None:
    """Without it a stage that shares differences would merge other models than the experts."""
    found = []
    for kind in ("parameters", "task-vector"):
        stage = _stage("one", {"kind": kind, "protection": protection}, run=[])
        collector = tiny.collector(tmp_path / kind, data, stages=[stage])
        assert len(_collected(collector)[0]) == 3
        found.append(collector.released.stacks["A"].matrix)
    assert found[0].abs().max() > 0.01
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_who_has_task_vectors_does_not_ask_for_parameters(data: Path, tmp_path: Path) -> None:
    """Without it the same model would be charged twice."""
    names = ("task-vector", "parameters", "task-vector")
    stages = [_stage(f"s{i}", {"kind": kind}) for i, kind in enumerate(names)]
    scenario = tiny.scenario(tmp_path, data, stages=stages)
    asked = [[r.kind for r in stage_requests(scenario, stage)] for stage in scenario.stages]
    assert asked == [["task-vector"], [], []]


@pytest.mark.parametrize("kind", ["parameters", "task-vector"])
def test_a_noised_task_vector_is_clipped_as_parameters_are(
    kind: str, data: Path, tmp_path: Path
) -> None:
    """Without it the sensitivity of one of the two kinds would be another than is stated."""
    share = tiny.noised({"kind": kind}, clip=0.01, delta=1e-5, noise_multiplier=1e-6)
    collector = tiny.collector(tmp_path, data, stages=[_stage("one", share)])
    releases, _ = _collected(collector)
    assert {r["protection"] for r in releases} == {"gaussian"}
    known = collector.released
    start = known.setting.family.encoder().state_dict()
    other = ExpertStack(known.setting.family.entries(), tiny.CLIENTS)
    for client in tiny.CLIENTS:
        other.put(client, {n: start[n].numpy() for n in known.setting.family.entries()})
    moved = (known.stacks["A"].matrix - other.matrix).double().norm(dim=1)
    assert moved.tolist() == pytest.approx([0.01] * 3, rel=1e-2)


def test_a_running_variance_of_a_noised_task_vector_is_none_below_zero() -> None:
    """Without it a merged BatchNorm would take the root of a negative number."""
    start = {name: np.zeros(3, np.float32) for name in ("bn.running_var", "w")}
    whole = moved(start, {name: np.full(3, -1.0, np.float32) for name in start})
    assert whole["bn.running_var"].tolist() == [0.0] * 3
    assert whole["w"].tolist() == [-1.0] * 3
