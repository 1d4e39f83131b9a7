"""Attacks on what epsilon says: fresh noise that costs nothing, a delta that makes it small."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
from safetensors.torch import save_file

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.store import ClientStore
from neulig_fl.config.protection import Protection
from neulig_fl.config.scenario import Budgets, Policy, Scenario
from neulig_fl.core.errors import BadReply, ClientRefused, InputError
from neulig_fl.ledger import chain, expert_account, privacy_cost
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.records.secagg.requests import Part, SumRequest
from neulig_fl.study import runs
from neulig_fl.verification import whole_run

POOL = tiny.noised(
    {"kind": "features", "queries": ["pool"]}, clip=1.0, delta=1e-5, epsilon=4.0
)  # fmt: skip
ASKED = {
    "stage": "one", "group": "A", "kind": "features", "queries": "pool", "protection": "gaussian",
}  # fmt: skip


_RUNS = itertools.count()


def _party(scenario: Scenario, root: Path, setting: Setting | None = None) -> ClientHandler:
    party = ClientHandler(scenario, scenario.seed, "ada", root)
    party.__dict__["setting"] = setting or open_setting(scenario, scenario.seed)
    return party


def _answers(party: ClientHandler, *bodies: dict[str, Any]) -> list[bytes]:
    """The payloads that requests get, each in another run."""
    return [
        bytes(tiny.say(party, "release", {**body, "run": f"{next(_RUNS):032x}"}, b"")[1])
        for body in bodies
    ]


def _events(root: Path) -> list[str]:
    return [entry["event"] for entry in ClientStore(root).entries()]


# ---------------------------------------------------------------- one record, one noise


@pytest.mark.parametrize(
    "spelled",
    [{"fraction": 1}, {"fraction": 1.0}, {"fraction": 1e0, "queries": "pool"}],
    ids=["whole", "real", "exponent"],
)
def test_a_request_spelled_otherwise_gets_no_fresh_noise(
    spelled: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Attack: ask for `fraction: 1`, then `1.0`: the mean of both has less noise than one."""
    scenario = tiny.scenario(tmp_path, data, stages=[{"name": "one", "share": [POOL]}])
    party = _party(scenario, tmp_path / "ada")
    first, again, last = _answers(party, ASKED, {**ASKED, **spelled}, ASKED)
    assert first == again == last
    assert _events(party.root) == ["release", "repeat", "repeat"]
    assert {e["fraction"] for e in ClientStore(party.root).entries()} == {1.0}
    assert "1.0" in chain.canonical(tiny.say(party, "release", {**ASKED, **spelled}, b"")[0])


@pytest.mark.parametrize("fraction", [True, "1", "1.0", [1], None, {"value": 1}], ids=str)
def test_a_request_is_one_form_or_none(fraction: Any, data: Path, tmp_path: Path) -> None:
    """Attack: give a value another type that compares as the same: true == 1."""
    scenario = tiny.scenario(tmp_path, data, stages=[{"name": "one", "share": [POOL]}])
    party = _party(scenario, tmp_path / "ada")
    with pytest.raises(ClientRefused, match="not one that neulig-fl makes"):
        tiny.say(party, "release", {**ASKED, "fraction": fraction}, b"")
    with pytest.raises(InputError, match="its fraction is none"):
        Request.read({**ASKED, "fraction": fraction})
    assert _events(party.root) == ["refusal"]


def test_a_sums_request_has_the_same_one_form() -> None:
    """Attack: one sum spelled in two ways is two rounds with terms of their own."""
    weights = {"ada": 1, "bob": 1.0, "cyd": 1}
    request = Request("one", "A", "parameters", protection="secure-aggregation")
    body = SumRequest(request, "ab" * 16, (Part(None, weights),)).to_body()
    said = {k: v for k, v in body["request"].items() if k not in ("queries", "fraction")}
    for spelled in (said, {**said, "fraction": 1}, {**said, "queries": None, "fraction": 1.0}):
        assert SumRequest.from_body({**body, "request": spelled}).to_body() == body
        found = SumRequest.from_body({**body, "request": spelled}).to_body()
        assert chain.canonical(found) == chain.canonical(body)
    for strange in ({**said, "fraction": True}, {**said, "more": 1}, {**said, "kind": 7}, [], None):
        with pytest.raises(InputError, match="request"):
            SumRequest.from_body({**body, "request": strange})


def test_an_expert_in_two_groups_is_noised_once(data: Path, tmp_path: Path) -> None:
    """Attack: one checkpoint is the expert of groups A and B: the same images, asked twice."""
    scenario = tiny.scenario(tmp_path, data)
    state = open_setting(scenario, scenario.seed).family.encoder().state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "expert.safetensors")
    clients = tiny.said(data)["clients"]
    clients[0]["checkpoint"] = dict.fromkeys("AB", str(tmp_path / "expert.safetensors"))
    stages = [
        {"name": name, "group": group, "share": [POOL]}
        for name, group in (("one", "A"), ("two", "B"))
    ]
    experts = {"epochs": 1, "lr": 1.0e-3, "batch_size": 16, "groups": ["A", "B"]}
    changes = {"clients": clients, "stages": stages, "experts": experts}
    party = _party(tiny.scenario(tmp_path, data, **changes), tmp_path / "ada")
    bodies = [
        {**ASKED, "stage": name, "group": group} for name, group in (("one", "A"), ("two", "B"))
    ]
    first, other = _answers(party, *bodies)
    assert first == other
    _, entry = ClientStore(party.root).entries()
    assert (entry["event"], entry["stage"], entry["group"]) == ("repeat", "two", "B")


def test_a_fraction_that_takes_the_same_queries_gets_no_fresh_noise(
    data: Path, tmp_path: Path
) -> None:
    """Attack: 0.5 and 0.51 of six images are three images; every such number drew its own noise."""
    stages = [
        {"name": "one", "share": [{**POOL, "fraction": 0.5}]},
        {"name": "two", "share": [{**POOL, "fraction": 0.51}]},
    ]
    party = _party(tiny.scenario(tmp_path, data, stages=stages), tmp_path / "ada")
    bodies = [
        {**ASKED, "stage": name, "fraction": share} for name, share in (("one", 0.5), ("two", 0.51))
    ]
    first, other = _answers(party, *bodies)
    assert first == other
    assert [e["fraction"] for e in ClientStore(party.root).entries()] == [0.5, 0.51]


def test_tasks_by_other_names_get_no_fresh_noise(data: Path, tmp_path: Path) -> None:
    """Attack: the same folders under other task names, in another scenario: the same images."""
    before = tiny.scenario(tmp_path, data, stages=[{"name": "one", "share": [POOL]}])
    said = tiny.said(data)
    renamed = {f"other-{name}": options for name, options in said["tasks"].items()}
    clients = [{**client, "task": f"other-{client['task']}"} for client in said["clients"]]
    stages = [{"name": "one", "share": [POOL]}]
    after = tiny.scenario(tmp_path, data, stages=stages, tasks=renamed, clients=clients)
    (first,) = _answers(_party(before, tmp_path / "ada"), ASKED)
    (again,) = _answers(_party(after, tmp_path / "ada"), ASKED)
    assert first == again


def test_what_leaves_whole_has_no_fractions(data: Path, tmp_path: Path) -> None:
    """Attack: each fraction of a model is the whole model: a copy on the disk for each number."""
    scenario = tiny.scenario(tmp_path, data)
    party = _party(scenario, tmp_path / "ada")
    whole = asdict(Request("merging", "A", "parameters"))
    for fraction in (0.5, 0.25, 0.125):
        with pytest.raises(ClientRefused, match="parameters leaves whole or not at all"):
            tiny.say(party, "release", {**whole, "fraction": fraction}, b"")
    assert not (party.root / "releases").exists()


@pytest.mark.parametrize("kind", ["logits", "labels"])
def test_a_kept_answer_is_not_given_for_other_classes(
    kind: str, data: Path, tmp_path: Path
) -> None:
    """Without it a store that outlives a run would answer by another scenario's class names."""
    stages = [{"name": "one", "share": [{"kind": kind, "queries": ["pool"]}]}]
    said = tiny.said(data, stages=stages)
    before = tiny.scenario(tmp_path, data, stages=stages)
    tasks = {**said["tasks"]}
    tasks["second"] = {**tasks["second"], "templates": ["quite another thing than {}"]}
    after = tiny.scenario(tmp_path, data, stages=stages, tasks=tasks)
    body = {k: v for k, v in ASKED.items() if k != "protection"} | {"kind": kind}
    for scenario in (before, after):
        _answers(_party(scenario, tmp_path / "ada"), body)
    assert _events(tmp_path / "ada") == ["release", "release"]


def test_kept_answers_to_other_images_are_not_this_runs(data: Path, tmp_path: Path) -> None:
    """Attack: collect answers to ever other images, one set a run, then ask for all in one run."""
    scenario = tiny.scenario(
        tmp_path,
        data,
        queries={"pool": 6, "evaluation": 7, "travel": "value"},
        stages=[{"name": "one", "share": [{"kind": "labels", "queries": ["pool"]}]}],
    )
    party = _party(scenario, tmp_path / "ada")
    sets = [bytes([number]) * (12 * 3 * 32 * 32) for number in (0, 90)]
    asked = {k: v for k, v in ASKED.items() if k != "protection"} | {"kind": "labels"}
    for run, images in enumerate(sets):
        assert tiny.say(party, "release", {**asked, "run": f"{run:032x}"}, images)[1]
    assert tiny.say(party, "release", {**asked, "run": "f" * 32}, sets[0])[1]
    with pytest.raises(ClientRefused, match="other images than before came as queries pool"):
        tiny.say(party, "release", {**asked, "run": "f" * 32}, sets[1])
    assert _events(party.root) == ["release", "release", "repeat", "refusal"]


def test_a_request_is_never_read_twice() -> None:
    """Without it two readers of one message could take it for two requests."""
    assert dataclasses.replace(Request("one", "A", "features", "pool"), fraction=1).fraction == 1.0
    said = {"stage": "one", "group": "A", "kind": "features", "queries": "pool", "fraction": -0.0}
    assert '"fraction":0.0,' in chain.canonical(asdict(Request.read(said)))


# ---------------------------------------------------------------- delta


def _unchecked(scenario: Scenario, **noise: Any) -> Scenario:
    """A scenario as a hostile author hands it out: no check has looked at its noise."""
    stage = scenario.stages[0]
    before = stage.share[0]
    options = {**before.protection.options, **noise}
    share = before.model_copy(update={"protection": Protection("gaussian", options)})
    return scenario.model_copy(update={"stages": (stage.model_copy(update={"share": (share,)}),)})


def _with_limits(data: Path, **limits: Any) -> list[dict[str, Any]]:
    clients: list[dict[str, Any]] = tiny.said(data)["clients"]
    clients[0]["policy"] = {"budgets": limits}
    return clients


@pytest.mark.parametrize(
    ("rules", "delta", "told"),
    [
        ({}, 0.3, "limit max_delta 1e-05 (the default): the noise is for a delta of 0.3; budgets"),
        ({}, 1.1e-5, "limit max_delta 1e-05 (the default): the noise is for a delta of 1.1e-05"),
        ({"max_epsilon": 1.0}, 0.3, "limit max_delta 1e-05"),
        ({"max_epsilon": 1.0, "max_delta": 1e-7}, 1e-6, "limit max_delta 1e-07"),
        ({"max_delta": 0.9}, 0.9, "delta 0.9 is not below 1/3"),
        ({"max_delta": 0.9}, 1 / 3, "is not below 1/3: one of 3 clients' models may leave bare"),
        ({"max_delta": 0.9, "max_epsilon": 1.0}, 0.3, "at which max_epsilon is judged: delta 0.9"),
    ],
)  # fmt: skip
def test_a_delta_that_promises_nothing_is_refused(
    rules: dict[str, Any], delta: float, told: str, data: Path, tmp_path: Path
) -> None:
    """Attack: at delta 0.99 next to no noise costs epsilon 0, so no budget ever ends."""
    stages = [{"name": "one", "share": [tiny.noised(POOL, epsilon=None, noise_multiplier=0.01)]}]
    honest = tiny.scenario(tmp_path, data, stages=stages)
    clients = tuple(
        each.model_copy(update={"policy": Policy(budgets=Budgets(**rules))})
        for each in honest.clients
    )
    scenario = _unchecked(honest, delta=delta).model_copy(update={"clients": clients})
    party = _party(scenario, tmp_path / "ada")
    with pytest.raises(ClientRefused, match=re.escape(told)):
        tiny.say(party, "release", ASKED, b"")
    assert _events(party.root) == ["refusal"]


def test_a_nodes_own_delta_counts_whatever_the_scenario_says(data: Path, tmp_path: Path) -> None:
    """Attack: the scenario's author writes the client's policy there too, and allows any delta."""
    share = tiny.noised(POOL, delta=0.1)
    clients = _with_limits(data, max_delta=0.2)
    scenario = tiny.scenario(
        tmp_path, data, clients=clients, stages=[{"name": "one", "share": [share]}]
    )
    own = tmp_path / "node.yaml"
    own.write_text("budgets: {max_epsilon: 50.0}\n")
    party = _party(scenario, tmp_path / "ada")
    guarded = dataclasses.replace(party, policy_file=own)
    with pytest.raises(ClientRefused, match=r"this node's own policy: limit max_delta 1e-05"):
        tiny.say(guarded, "release", ASKED, b"")
    assert tiny.say(party, "release", ASKED, b"")[1]


@pytest.mark.parametrize(("most", "fits"), [("1.0e-5", True), ("1.0e-6", False)])
def test_a_budget_is_judged_at_the_policys_delta(
    most: str, fits: bool, data: Path, tmp_path: Path
) -> None:
    """Attack: the same noise looks cheaper at a larger delta, and the stage's author chose it."""
    share = tiny.noised(POOL, epsilon=None, noise_multiplier=4.06, delta=float(most))
    scenario = tiny.scenario(tmp_path, data, stages=[{"name": "one", "share": [share]}])
    own = tmp_path / "node.yaml"
    own.write_text(f"budgets: {{max_epsilon: 1.0, max_delta: {most}}}\n")
    party = dataclasses.replace(_party(scenario, tmp_path / "ada"), policy_file=own)
    if fits:
        assert tiny.say(party, "release", ASKED, b"")[1]
    else:
        with pytest.raises(ClientRefused, match=r"comes to 1\.\d+ at delta 1e-06"):
            tiny.say(party, "release", ASKED, b"")


def test_kept_noise_is_not_handed_out_under_a_larger_delta(data: Path, tmp_path: Path) -> None:
    """Attack: what is stored is asked for again at delta 0.9, so that its entry says epsilon 0."""
    noised = tiny.noised(POOL, epsilon=None, noise_multiplier=2.0)
    scenario = tiny.scenario(tmp_path, data, stages=[{"name": "one", "share": [noised]}])
    party = _party(scenario, tmp_path / "ada")
    first, again = _answers(party, ASKED, ASKED)
    assert first == again
    (smaller,) = _answers(_party(_unchecked(scenario, delta=1e-7), party.root), ASKED)
    assert smaller == first
    *_, entry = ClientStore(party.root).entries()
    assert (entry["event"], entry["delta"]) == ("repeat", 1e-7)
    assert entry["epsilon"] > ClientStore(party.root).entries()[0]["epsilon"]
    with pytest.raises(ClientRefused, match="limit max_delta"):
        tiny.say(_party(_unchecked(scenario, delta=0.2), party.root), "release", ASKED, b"")
    assert _events(party.root) == ["release", "repeat", "repeat", "refusal"]


@pytest.mark.parametrize("how", ["prefix", "recipe", "seed"])
def test_another_name_of_an_expert_is_no_fresh_budget(how: str, data: Path, tmp_path: Path) -> None:
    """Attack: the same weights under another prefix or recipe get fresh noise, again and again."""
    clients, changes = _with_limits(data, max_epsilon=1.0), [{}, {}]
    share = tiny.noised(POOL, epsilon=None, noise_multiplier=4.06)
    if how == "prefix":
        state = (
            open_setting(tiny.scenario(tmp_path / "look", data), 3).family.encoder().state_dict()
        )
        save_file(
            {f"visual.{k}": v.contiguous() for k, v in state.items()}, tmp_path / "m.safetensors"
        )
        clients[0] |= {"checkpoint": {"A": str(tmp_path / "m.safetensors")}}
        named = [{**clients[0], "prefix": {"A": "visual"}}, *clients[1:]]
        changes = [{"clients": clients}, {"clients": named}]
    elif how == "recipe":
        recipe = {"epochs": 1, "lr": 1e-3, "batch_size": 16}
        changes = [{"experts": {**recipe, "clip_norm": norm}} for norm in (1e6, 2e6)]
    else:
        changes = [{"seed": 3}, {"seed": 4}]
    first, second = (
        tiny.scenario(
            tmp_path / str(n), data,
            **{"clients": clients, "stages": [{"name": "one", "share": [share]}], **each},
        )
        for n, each in enumerate(changes)
    )  # fmt: skip
    assert _answers(_party(first, tmp_path / "ada"), ASKED)[0]
    with pytest.raises(
        ClientRefused, match=r"all that has been released of this client comes to 1\.\d+"
    ):
        _answers(_party(second, tmp_path / "ada"), ASKED)
    tags = [entry["expert"] for entry in ClientStore(tmp_path / "ada").entries()]
    assert tags[0] != tags[1], "they are told apart"


# ---------------------------------------------------------------- what the report says


def _collected(folder: Path, data: Path, *share: dict[str, Any]) -> dict[str, Any]:
    """What a run reports of privacy, with clients whose stores are there from earlier runs."""
    stages = [{"name": "one", "share": list(share)}]
    collector = tiny.collector(folder, data, stages=stages)
    collector.collect(collector.released.setting.scenario.stages[0])
    return privacy_cost.account(collector.receipts, ["one"])


def _cost(*epsilons: float) -> Any:
    """Epsilon of shares of one query set, each noised for its own epsilon."""
    noise = [accountant.noise_multiplier_for(each, 1e-5) for each in epsilons]
    return pytest.approx(accountant.spent([Charge("f", n) for n in noise], 1e-5).epsilon)


def test_the_report_counts_what_left_without_noise_in_an_earlier_run(
    data: Path, tmp_path: Path
) -> None:
    """Attack: the server has the bare features of yesterday; today's report says epsilon 1."""
    bare = {"kind": "features", "queries": ["pool"]}
    assert _collected(tmp_path, data, bare)["epsilon"] is None
    found = _collected(tmp_path, data, tiny.noised(POOL, epsilon=1.0))
    assert found["epsilon"] == "inf"
    assert [c["unprotected"] for c in found["clients"]] == [["features"]] * 3
    assert [c["earlier_runs"] for c in found["clients"]] == [1, 1, 1]


def test_the_report_adds_up_over_runs(data: Path, tmp_path: Path) -> None:
    """Attack: one query set a run, so that each report tells of its own share alone."""
    assert _collected(tmp_path, data, tiny.noised(POOL, epsilon=1.0))["epsilon"] == _cost(1.0)
    other = tiny.noised({**POOL, "queries": ["evaluation"]}, epsilon=1.3)
    found = _collected(tmp_path, data, other)
    assert found["epsilon"] == _cost(1.0, 1.3)
    assert found["stages"][0] == {"stage": "one", "epsilon": _cost(1.3), "so_far": _cost(1.0, 1.3)}


def test_noise_that_is_drawn_anew_is_counted_anew(data: Path, tmp_path: Path) -> None:
    """Attack: the stored bytes are lost, fresh noise leaves under the fingerprint of before."""
    _collected(tmp_path, data, POOL)
    for file in tmp_path.glob("clients/*/releases/*.bin"):
        file.unlink()
    found = _collected(tmp_path, data, POOL)
    assert found["epsilon"] == found["clients"][0]["epsilon"] == _cost(4.0, 4.0)
    entries = ClientStore(tmp_path / "clients" / "ada").entries()
    assert len({e["fingerprint"] for e in entries}) == 1


def test_a_client_cannot_sign_less_than_the_server_received(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a dishonest client's account leaves out what the server itself has of it."""
    honest = expert_account.account

    def forgetful(entries: Any, entry: Any) -> Any:
        return honest([], entry)

    monkeypatch.setattr(expert_account, "account", forgetful)
    with pytest.raises(
        BadReply, match="its signed entry accounts for less noise than has been released"
    ):
        _collected(tmp_path, data, {**POOL, "queries": ["pool", "evaluation"]})


def test_an_account_that_the_whole_ledger_does_not_bear_out_does_not_verify(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a client hides an earlier run, of which this server cannot know."""
    honest = expert_account.account
    store = ClientStore(tmp_path / "out" / "clients" / "ada", "ee" * 16)
    monkeypatch.setattr(expert_account, "account", lambda entries, entry: honest([], entry))
    party = _party(tiny.scenario(tmp_path, data), store.root)
    tiny.say(
        party, "release", {**asdict(Request("outputs", "A", "offset-sum")), "run": "ee" * 16}, b""
    )
    stages = [{"name": "one", "share": [POOL]}]
    portland = {"epochs": 2, "alignment": "none"}
    report = tiny.run(tmp_path, data, stages=stages, portland=portland)
    assert report.data["privacy"]["clients"][0]["unprotected"] == []
    monkeypatch.undo()
    (failure,) = whole_run.verify(tmp_path / "out")[0].failures
    assert "has an account that is not what the ledger comes to" in failure.what
    assert failure.file == store.ledger_file


# ---------------------------------------------------------------- over runs


def test_limits_hold_over_runs_with_stores_that_outlive_them(data: Path, tmp_path: Path) -> None:
    """Attack: start the scenario again and again: each run has a fresh budget."""
    noise = tiny.noised(POOL, epsilon=None, noise_multiplier=4.06)
    clients = _with_limits(data, max_epsilon=1.0, max_rows=20)
    said: dict[str, Any] = {"clients": clients, "on_refusal": "continue"}
    said["portland"] = {"epochs": 2, "alignment": "none"}

    def refused(out: str, queries: str, stores: Path | None) -> list[str]:
        stages = [{"name": "one", "share": [{**noise, "queries": [queries]}]}]
        path = tiny.write(tmp_path / out, data, **said, stages=stages)
        report = runs.run(path, "local", tmp_path / out / "run", stores=stores)
        return [each["reason"] for each in report.data["stages"][0]["refusals"]]

    kept = tmp_path / "stores"
    assert refused("a", "pool", kept) == refused("b", "pool", kept) == []
    (reason,) = refused("c", "evaluation", kept)
    assert (
        "policy of client 'ada': limit max_rows 20: 12 rows of this expert have been released"
        in reason
    )
    clients[0]["policy"] = {"budgets": {"max_epsilon": 1.0}}
    (reason,) = refused("d", "evaluation", kept)
    assert (
        "limit max_epsilon 1: with this record all that has been released of this client comes to 1."
        in reason
    )
    assert refused("e", "evaluation", None) == [], "a fresh store knows of nothing"
