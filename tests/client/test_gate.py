"""The gate: nothing leaves but what the stage, the client's policy and the node's allow (law 7)."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tiny
import yaml
from flwr.app import Context, RecordDict
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neulig_fl.client import gate
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.server_identity import Recipient
from neulig_fl.client.store import ClientStore, Released
from neulig_fl.config import policy_files
from neulig_fl.config.policy_files import PRESETS
from neulig_fl.config.scenario import QUERY_SETS, Policy, Scenario
from neulig_fl.core.errors import BadReply, ClientRefused, RunError
from neulig_fl.ledger import chain
from neulig_fl.privacy.accountant import Charge
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records import budgets, decisions
from neulig_fl.records import kinds as record_kinds
from neulig_fl.records import policy_layers as policy
from neulig_fl.records.kinds import Dimensions, Request
from neulig_fl.records.policy_layers import Layer
from neulig_fl.records.protections import (
    Case,
    Claims,
    NoOptions,
    Protection,
    Stated,
    Way,
    none,
    sealed,
)
from neulig_fl.records.record_spec import RecordSpec
from neulig_fl.runtime.engines import local
from neulig_fl.runtime.node_config import client_config
from neulig_fl.verification import whole_run

CONFIG: dict[str, Any] = {"scenario": "s.json", "out": "out"}
SIZES = Dimensions(dim=2, classes=3, image_size=2, entries={"w": (2,)})
ROWS = 2
RUN = "c" * 32
MODEL = ("parameters", "task-vector", "trimmed-task-vector")
KINDS = record_kinds.names()
OUTPUT_KINDS = record_kinds.those(lambda kind: kind.output)
PER_QUERY = record_kinds.those(lambda kind: kind.per_query)
DIVISIBLE_KINDS = record_kinds.those(lambda kind: kind.divisible)
TELLING = {kind: (kind, *MODEL) for kind in (*MODEL, "gram", "fisher")}
"""Kinds that tell the model, and which rules keep each of them in."""


class Holdings:
    """Finite records of the right shape, and a list of what was made."""

    sizes = SIZES
    data_hash = "expert and queries"
    expert = "an expert"
    rows = ROWS
    fraction = 1.0
    asked = Request("one", "B", "features", "pool")
    images_by_task = MappingProxyType({"digits": ["one", "two"]})

    def __init__(self) -> None:
        self.made: list[str] = []

    @property
    def record_hash(self) -> str:
        """As `gate.Held`: here each group, query set and fraction is of images of its own."""
        return f"{self.data_hash} {self.asked.group} {self.asked.queries} {self.asked.fraction}"

    def fault(self) -> None:
        """As `gate.Held`."""

    def _record(self, kind: str) -> record_kinds.Arrays:
        self.made.append(kind)
        rows = ROWS if kind in PER_QUERY else 1
        return {
            name: np.ones(shape, dtype)
            for name, dtype, shape in record_kinds.layout(kind, rows, SIZES, self.fraction)
        }

    def inputs(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("inputs")

    def offset_sum(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("offset-sum")

    def features(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("features")

    def logits(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("logits")

    def parameters(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("parameters")

    def task_vector(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("task-vector")

    def trimmed_task_vector(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("trimmed-task-vector")

    def gram(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("gram")

    def fisher(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return self._record("fisher")

    def start(self) -> record_kinds.Arrays:
        """As `kinds.Holdings`."""
        return {"w": np.zeros(2, np.float32)}


def _scenario(stages: list[dict[str, Any]], policy: dict[str, Any] | None = None) -> Scenario:
    ada = {"name": "ada", "task": "digits", "policy": policy or {}}
    bob = {"name": "bob", "task": "digits"}
    said = {"name": "gate", "clients": [ada, bob], "stages": stages}
    return Scenario.model_validate_json(json.dumps(said))


def _node(rules: dict[str, Any] | None) -> tuple[Layer, ...]:
    """The layers of a node's policy, as `policy_layers.of_node` makes them of a file."""
    return () if rules is None else (Layer(policy.NODE, Policy.model_validate(rules)),)


def _ask(
    scenario: Scenario, request: Request, store: ClientStore, holdings: Holdings, **more: Any
) -> Released:
    holdings.rows = ROWS if request.kind in PER_QUERY else 1
    holdings.fraction, holdings.asked = request.fraction, request
    holdings.expert = more.pop("expert", holdings.expert)
    side = gate.Side(scenario, scenario.clients[0], store, **{"server": tiny.SERVER, **more})
    return gate.release(side, request, holdings)


STAGE = {
    "name": "one",
    "group": "B",
    "share": [
        {"kind": "offset-sum"},
        {"kind": "features", "queries": ["pool"], "fraction": 0.5},
    ],
}


# ---------------------------------------------------------------- one rule at a time


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request("one", "B", "weights"), "kind 'weights' is not known"),
        (Request("two", "B", "offset-sum"), "the scenario has no stage 'two'"),
        (Request("one", "A", "offset-sum"), "stage 'one' is for group B, not A"),
        (Request("one", "B", "parameters"), "stage 'one' does not share parameters"),
        (
            Request("one", "B", "features", "evaluation"),
            "does not share features on queries evaluation",
        ),
        (Request("one", "B", "features"), "does not share features on queries None"),
        (Request("one", "B", "offset-sum", "pool"), "does not share offset-sum on queries pool"),
        (Request("one", "B", "features", "pool", 0.6), "a fraction of 0.5 of features, not 0.6"),
        (Request("one", "B", "features", "pool", 0.0), "a fraction of 0.5 of features, not 0.0"),
        (Request("one", "B", "offset-sum", None, 0.5), "offset-sum leaves whole or not at all"),
        (
            Request("one", "B", "features", "pool", 0.5, "sealed"),
            "with protection none, not sealed",
        ),
    ],
)
def test_what_no_stage_allows_is_refused_with_the_rule(
    request_: Request, reason: str, tmp_path: Path
) -> None:
    """Without it a server could ask for more than the scenario says, or not learn why not."""
    scenario, store, holdings = _scenario([STAGE]), ClientStore(tmp_path), Holdings()
    with pytest.raises(ClientRefused, match=reason) as caught:
        _ask(scenario, request_, store, holdings)
    assert caught.value.public_reason == str(caught.value)
    (entry,) = chain.read(store.ledger_file)
    assert (entry["event"], entry["reason"]) == ("refusal", str(caught.value))
    assert holdings.made == []


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"never": ["offset-sum"]}, "policy of client 'ada': never offset-sum"),
        ({"only": ["features", "logits"]}, "policy of client 'ada': only features, logits"),
        ({"only": []}, "policy of client 'ada': only nothing"),
        ({"never": ["offset-sum"], "only": ["offset-sum"]}, "never offset-sum"),
    ],
)
def test_a_clients_own_rule_beats_the_stage(
    policy: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Without it a scenario could take what its owner never gives."""
    scenario, request = _scenario([STAGE], policy), Request("one", "B", "offset-sum")
    with pytest.raises(ClientRefused, match=reason):
        _ask(scenario, request, ClientStore(tmp_path), Holdings())
    assert decisions.refusal(scenario, scenario.clients[1], request) is None


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"never": ["offset-sum"]}, "never offset-sum"),
        ({"only": ["features"]}, "only features"),
        ({"allow": []}, "does not allow offset-sum"),
        ({"preset": "outputs-only", "budgets": {"not_after": "2001-01-01"}}, "its time is over"),
        ({"budgets": {"max_bytes": 7}}, "limit max_bytes 7: 0 bytes .*, and this record has 8"),
    ],
)
def test_a_nodes_own_policy_beats_the_scenario(
    rules: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Without it a party could not trust a scenario that somebody else wrote."""
    store, holdings = ClientStore(tmp_path), Holdings()
    with pytest.raises(ClientRefused, match=f"^this node's own policy: .*{reason}") as caught:
        _ask(
            _scenario([STAGE]),
            Request("one", "B", "offset-sum"),
            store,
            holdings,
            node=_node(rules),
        )
    assert caught.value.public_reason == str(caught.value)
    assert [e["event"] for e in store.entries()] == ["refusal"]
    assert holdings.made == []


OVER_TRAIN = {
    "name": "one",
    "share": [
        {"kind": "inputs"},
        {"kind": "features", "queries": ["train", "pool"], "fraction": 0.5},
        {"kind": "labels", "queries": ["train"], "fraction": 0.5},
    ],
}


@pytest.mark.parametrize("fraction", [1.0, 0.9999999, 0.995, 0.8])
def test_a_fraction_that_keeps_all_is_no_trimmed_task_vector(
    fraction: float, tmp_path: Path
) -> None:
    """Attack: a fraction so near 1, or of so few numbers, that the whole model leaves as a part."""
    stages = [{"name": "one", "share": [{"kind": "trimmed-task-vector", "fraction": fraction}]}]
    asked = Request("one", "A", "trimmed-task-vector", fraction=fraction)
    with pytest.raises(ClientRefused, match=f"a fraction of {fraction} is all of it, and no"):
        _ask(_scenario(stages), asked, ClientStore(tmp_path / "ada", RUN), Holdings())


def test_queries_of_others_are_asked_in_the_shared_fraction_and_no_other(tmp_path: Path) -> None:
    """Without it a server could ask about other images with each fraction of `train`."""
    scenario, store, holdings = _scenario([OVER_TRAIN]), ClientStore(tmp_path), Holdings()
    with pytest.raises(ClientRefused, match=r"shares a fraction of 0\.5 of features, not 0\.25"):
        _ask(scenario, Request("one", "A", "features", "train", 0.25), store, holdings)
    for request in (
        Request("one", "A", "features", "train", 0.5),
        Request("one", "A", "features", "pool", 0.25),  # the server sends no images of the pool
        Request("one", "A", "inputs", "train", 0.25),  # nor of what the client itself gives
    ):
        assert _ask(scenario, request, store, holdings).payload


def test_queries_of_others_are_always_the_same(tmp_path: Path) -> None:
    """Without it a server could send ever new images as `train`, and copy the expert."""
    scenario, store, holdings = _scenario([OVER_TRAIN]), ClientStore(tmp_path), Holdings()
    assert _ask(scenario, Request("one", "A", "features", "train", 0.5), store, holdings).payload
    assert _ask(scenario, Request("one", "A", "labels", "train", 0.5), store, holdings).payload
    holdings.data_hash = "expert and other queries"
    for kind in ("features", "labels"):
        with pytest.raises(ClientRefused, match="other images than before came as queries train"):
            _ask(scenario, Request("one", "A", kind, "train", 0.5), store, holdings)
    # What is opened by reference, or the client's own, may change with the expert's data.
    assert _ask(scenario, Request("one", "A", "inputs", "train", 1.0), store, holdings).payload
    holdings.data_hash = "and others again"
    assert _ask(scenario, Request("one", "A", "inputs", "train", 1.0), store, holdings).payload
    assert holdings.made == ["features", "logits", "inputs", "inputs"]


def _understood(folder: Path, **said: Any) -> tuple[Request | None, list[chain.Entry]]:
    """What a message is understood as, and the ledger afterwards."""
    scenario, store = _scenario([STAGE]), ClientStore(folder)
    side = gate.Side(scenario, scenario.clients[0], store)
    body = {"stage": "one", "group": "B", "kind": "features", "queries": "pool", **said}
    try:
        return gate.understood(side, body), store.entries()
    except ClientRefused as refused:
        assert str(refused) == "the request is not one that neulig-fl makes"  # noqa: PT017
        return None, store.entries()


@pytest.mark.parametrize("share", [1e9, -1e9, 10**9, 0, 0.5, float("-0.0")], ids=str)
def test_a_number_within_bounds_is_for_the_rules_to_judge(share: float, tmp_path: Path) -> None:
    """Without it a mistake in a scenario would be called a strange message."""
    request = Request("one", "B", "features", "pool", share)
    assert _understood(tmp_path, fraction=share) == (request, [])


@pytest.mark.parametrize(
    "share",
    [1.1e9, -1.1e9, 10**9 + 1, 10**400, -(10**400), float("inf"), float("nan"), True, "1", None],
    ids=lambda share: str(share)[:12],
)
def test_a_number_without_bounds_is_no_request_and_not_kept(share: Any, tmp_path: Path) -> None:
    """Without it one message could fill a client's disk through its own ledger."""
    request, (entry,) = _understood(tmp_path, fraction=share)
    assert request is None
    assert (entry["event"], "fraction" in entry) == ("refusal", False)


@pytest.mark.parametrize("name", ["stage", "group", "kind", "queries", "protection"])
def test_a_name_has_sixty_characters_at_most(name: str, tmp_path: Path) -> None:
    """Without it one message could fill a client's disk, or a list be taken for a name."""
    assert record_kinds.LONGEST_NAME == 60
    request, entries = _understood(tmp_path / "fits", **{name: "x" * 60})
    assert entries == []
    assert getattr(request, name) == "x" * 60
    for strange in ("x" * 61, ["features"], 7):
        assert _understood(tmp_path / "strange", **{name: strange})[0] is None
    nothing = _understood(tmp_path / "none", **{name: None})[0]
    assert (nothing is not None) == (name == "queries")


def test_what_is_missing_or_more_is_no_request(tmp_path: Path) -> None:
    """Without it a request could carry what no rule looks at."""
    assert _understood(tmp_path / "more", secret=1)[0] is None
    scenario = _scenario([STAGE])
    side = gate.Side(scenario, scenario.clients[0], ClientStore(tmp_path))
    whole = {"stage": "one", "group": "B", "kind": "offset-sum"}
    assert gate.understood(side, whole) == Request("one", "B", "offset-sum")
    for name in whole:
        with pytest.raises(ClientRefused):
            gate.understood(side, {k: v for k, v in whole.items() if k != name})


def test_what_the_scenario_forbids_does_not_sound_out_the_node(tmp_path: Path) -> None:
    """Without it a server could learn a node's private rules by asking for anything at all."""
    node = _node({"never": ["parameters"]})
    with pytest.raises(ClientRefused, match="stage 'one' does not share parameters"):
        _ask(
            _scenario([STAGE]),
            Request("one", "B", "parameters"),
            ClientStore(tmp_path),
            Holdings(),
            node=node,
        )


def test_an_identical_request_gets_the_stored_bytes_and_is_charged_once(tmp_path: Path) -> None:
    """Without it a server could average noise away, or a client pay twice for one release."""
    stages = [STAGE, {**STAGE, "name": "again"}]
    scenario, store, holdings = _scenario(stages), ClientStore(tmp_path), Holdings()
    first = _ask(scenario, Request("one", "B", "features", "pool", 0.5), store, holdings)
    for stage in ("one", "one", "again", "again"):
        again = _ask(scenario, Request(stage, "B", "features", "pool", 0.5), store, holdings)
        assert (again.payload, again.rows) == (first.payload, first.rows)
        assert again.entry["stage"] == stage
    assert holdings.made == ["features"]
    events = [entry["event"] for entry in store.entries()]
    assert events.count("release") == 1
    assert set(events) == {"release", "repeat"}
    assert first.payload == np.ones((ROWS, SIZES.dim), "<f4").tobytes()


def test_a_broken_record_does_not_leave_and_is_not_charged(tmp_path: Path) -> None:
    """Without it NaN would be released, and stored as the answer for ever."""
    holdings, store = Holdings(), ClientStore(tmp_path)
    holdings.features = lambda: {"features": np.full((ROWS, SIZES.dim), np.nan)}  # type: ignore[method-assign]
    with pytest.raises(BadReply, match="client 'ada', features: features holds 4 values"):
        _ask(_scenario([STAGE]), Request("one", "B", "features", "pool", 0.5), store, holdings)
    assert chain.read(store.ledger_file) == []
    assert not (tmp_path / "releases").exists()


# ---------------------------------------------------------------- limits

PAIR = {
    "name": "two",
    "group": "B",
    "share": [
        {"kind": "features", "queries": ["pool", "evaluation"]},
        {"kind": "labels", "queries": ["pool"]},
    ],
}


def _rows_left(max_rows: int, asked: list[Request], folder: Path) -> list[str]:
    """The kinds and query sets that leave under a limit, one request after the other."""
    left = []
    for number, request in enumerate(asked):
        scenario = _scenario([STAGE, PAIR], {"budgets": {"max_rows": max_rows}})
        store = ClientStore(folder, run=f"{number:032x}")
        try:
            _ask(scenario, request, store, Holdings())
        except ClientRefused as refused:
            assert "policy of client 'ada': limit max_rows" in str(refused)  # noqa: PT017
        else:
            left.append(f"{request.kind} {request.queries} {request.fraction}")
    return left


def test_releases_add_up_over_kinds_fractions_stages_and_runs(tmp_path: Path) -> None:
    """Without it a limit would be one for each way of asking."""
    asked = [
        Request("one", "B", "features", "pool", 0.5),
        Request("one", "B", "features", "pool", 0.5),
        Request("two", "B", "features", "pool", 1.0),
        Request("two", "B", "labels", "pool"),
        Request("one", "B", "offset-sum"),
        Request("two", "B", "features", "evaluation"),
    ]
    free = ["features pool 0.5", "features pool 0.5"]
    sums = ["offset-sum None 1.0"]
    assert _rows_left(2 * ROWS, asked, tmp_path / "a") == [*free, "features pool 1.0", *sums]
    assert _rows_left(2 * ROWS - 1, asked, tmp_path / "b") == [*free, *sums]
    assert _rows_left(1, asked, tmp_path / "c") == sums


def test_another_experts_releases_do_not_count(tmp_path: Path) -> None:
    """Without it one expert's limit would be used up by another's answers."""
    scenario = _scenario([PAIR], {"budgets": {"max_rows": ROWS}})
    request = Request("two", "B", "features", "pool")
    for expert in ("first", "second"):
        store = ClientStore(tmp_path)
        _ask(scenario, request, store, Holdings(), expert=expert)
        labels = Request("two", "B", "labels", "pool")
        with pytest.raises(ClientRefused, match="limit max_rows 2"):
            _ask(scenario, labels, store, Holdings(), expert=expert)
        request = Request("two", "B", "features", "evaluation")
    tags = {entry["expert"] for entry in ClientStore(tmp_path).entries()}
    assert len(tags) == 2
    assert not tags & {"first", "second"}


def test_a_protection_is_told_what_leaves_and_on_which_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it noise would be of another record's size, or a record sealed to nobody."""
    cases: list[Case] = []
    ways: list[Way] = []

    def told(case: Case) -> Stated:
        cases.append(case)
        return Stated()

    def treated(arrays: record_kinds.Arrays, case: Case) -> record_kinds.Arrays:
        cases.append(case)
        return arrays

    def wrapped(payload: bytes, way: Way) -> bytes:
        ways.append(way)
        return payload

    for name, spy in (("stated", told), ("treated", treated), ("wrapped", wrapped)):
        monkeypatch.setattr(none.PROTECTION, name, spy)
    scenario, server = _scenario([PAIR]), Recipient(Identity.new().public)
    store, holdings = ClientStore(tmp_path, RUN), Holdings()
    request = Request("two", "B", "features", "pool", 0.5)
    _ask(scenario, request, store, holdings, server=server)
    stated, share = cases[0], scenario.stages[0].share[0]
    assert cases == [stated, stated]
    assert (stated.kind, stated.rows, stated.share) == ("features", ROWS, share)
    assert stated.start == holdings.start
    bound = RecordSpec(request, "ada", ROWS, SIZES).way(RUN).binding
    assert ways == [Way(bound, server.agreement)]


def test_a_sealed_record_opens_for_the_server_that_asked_alone(tmp_path: Path) -> None:
    """Without it whoever carries the message could read it, or nobody could."""
    share = {"kind": "features", "queries": ["pool"], "protection": "sealed"}
    scenario, store = _scenario([{"name": "two", "share": [share]}]), ClientStore(tmp_path, RUN)
    request, key = Request("two", "A", "features", "pool", protection="sealed"), Identity.new()
    with pytest.raises(ClientRefused, match="no server has begun this run here"):
        _ask(scenario, request, store, Holdings(), server=Recipient())
    found = _ask(scenario, request, store, Holdings(), server=Recipient(key.public))
    way = Way(RecordSpec(request, "ada", ROWS, SIZES).way(RUN).binding, key.agreement)
    plain = np.ones((ROWS, SIZES.dim), "<f4").tobytes()
    assert sealed.PROTECTION.opened(found.payload, way, key, Seen()) == plain
    assert found.entry["bytes"] == len(found.payload) == len(plain) + sealed.PROTECTION.overhead
    with pytest.raises(BadReply):
        sealed.PROTECTION.opened(found.payload, way, Identity.new(), Seen())


def test_what_a_protection_adds_counts_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a protected record could be larger than what the limit was asked about."""

    class Longer(Protection[NoOptions]):
        overhead = 16

        def wrapped(self, payload: bytes, way: Way) -> bytes:  # noqa: ARG002
            return payload + bytes(16)

    monkeypatch.setattr(none, "PROTECTION", Longer(NoOptions))
    size = record_kinds.byte_count("features", ROWS, SIZES)
    store, scenario = (
        ClientStore(tmp_path),
        _scenario([PAIR], {"budgets": {"max_bytes": size + 15}}),
    )
    with pytest.raises(ClientRefused, match=f"limit max_bytes {size + 15}"):
        _ask(scenario, Request("two", "B", "features", "pool"), store, Holdings())
    assert [e["event"] for e in store.entries()] == ["refusal"]
    assert not (tmp_path / "releases").exists()


def test_more_bytes_than_were_charged_do_not_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a protection that adds what it does not say would pass a limit unseen."""
    monkeypatch.setattr(none.PROTECTION, "wrapped", lambda payload, way: payload + bytes(1))
    store = ClientStore(tmp_path)
    with pytest.raises(RunError, match="a protected record has 17 bytes instead of 16"):
        _ask(_scenario([PAIR]), Request("two", "B", "features", "pool"), store, Holdings())
    assert store.entries() == []


@pytest.mark.parametrize(
    ("rules", "claims", "allowed"),
    [
        ({"max_epsilon": 1.0}, Claims(charge=Charge("features", 4.06), delta=1e-5), True),
        ({"max_epsilon": 1.0}, Claims(charge=Charge("features", 4.01), delta=1e-5), False),
        ({"max_epsilon": 1.0}, Claims(charge=Charge("features", 4.06), delta=2e-5), False),
        ({}, Claims(charge=Charge("features", 4.06), delta=2e-5), False),
        ({"max_epsilon": 1.0}, Claims(), False),
        ({}, Claims(leverage=0.5), True),
        ({}, Claims(leverage=0.51), False),
        ({"min_group_size": 3}, Claims(group_size=3), True),
        ({"min_group_size": 3}, Claims(group_size=2), False),
    ],
)
def test_what_a_protection_claims_is_held_against_the_limits(
    rules: dict[str, Any],
    claims: Claims,
    allowed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it a sum could single a client out, or a budget be overdrawn."""
    facts = {"epsilon": 0.5}
    monkeypatch.setattr(none.PROTECTION, "stated", lambda case: Stated(claims, facts))
    scenario, store = _scenario([PAIR], {"budgets": rules}), ClientStore(tmp_path)
    request = Request("two", "B", "features", "pool")
    if allowed:
        assert facts.items() <= _ask(scenario, request, store, Holdings()).entry.items()
    else:
        with pytest.raises(ClientRefused, match="policy of client 'ada': limit "):
            _ask(scenario, request, store, Holdings())
        assert [e["event"] for e in store.entries()] == ["refusal"]


# ---------------------------------------------------------------- stages go one way


def test_a_stage_that_is_over_is_not_answered(tmp_path: Path) -> None:
    """Without it a server could go back to the stage in which more was shared."""
    stages = [
        {"name": "all", "share": [{"kind": "parameters"}, {"kind": "features"}]},
        {"name": "outputs", "share": [{"kind": "features"}]},
    ]
    scenario, store, holdings = _scenario(stages), ClientStore(tmp_path, "1" * 32), Holdings()
    _ask(scenario, Request("all", "A", "features", "pool"), store, holdings)
    _ask(scenario, Request("outputs", "A", "features", "evaluation"), store, holdings)
    for late in (Request("all", "A", "parameters"), Request("all", "A", "features", "pool")):
        with pytest.raises(
            ClientRefused, match=r"^stage 'all' is over: stage 'outputs' has begun$"
        ):
            _ask(scenario, late, store, holdings)
    assert [e["event"] for e in store.entries()] == ["release"] * 2 + ["refusal"] * 2
    assert holdings.made == ["features"] * 2
    again = ClientStore(tmp_path, "2" * 32)
    assert _ask(scenario, Request("all", "A", "parameters"), again, holdings).payload


# ---------------------------------------------------------------- any policy, any requests

KIND = st.sampled_from(KINDS)
FRACTION = st.sampled_from([0.25, 0.5, 1.0])
SHARE = KIND.flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "kind": st.just(kind),
            "queries": st.lists(st.sampled_from(QUERY_SETS), unique=True, min_size=1, max_size=3)
            if kind in PER_QUERY
            else st.just([]),
            "fraction": FRACTION
            if kind in DIVISIBLE_KINDS
            else st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.5]),
        }
    )
)
STAGES = st.lists(
    st.fixed_dictionaries(
        {"group": st.sampled_from("AB"), "share": st.lists(SHARE, min_size=1, max_size=3)}
    ),
    min_size=1,
    max_size=3,
).map(lambda stages: [{"name": f"s{i}", **stage} for i, stage in enumerate(stages)])


def _rule(kind: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"kind": kind},
        optional={
            "queries": st.lists(st.sampled_from(QUERY_SETS), unique=True, min_size=1, max_size=3),
            "fraction": FRACTION,
            "protections": st.just(["none"]),
        },
    )


def _whole(rule: dict[str, Any]) -> str:
    """A rule with its defaults."""
    return str(sorted({"fraction": 1.0, "queries": None, "protections": None, **rule}.items()))


def _mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> Any:
    """One of two strategies, the first one far more often; `one_of` knows no weights."""
    return st.sampled_from([*range(20)]).flatmap(lambda n: other if n == 13 else usual)


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_rows": st.integers(1, 12 * ROWS),
        "max_bytes": st.integers(1, 400),
        "not_after": st.sampled_from([*["2999-01-01", "2999-01-01T00:00:00Z"] * 3, "2001-01-01"]),
    },
)


def _policies(stages: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Policies that have something to say of what these stages share, and often let it out."""
    kinds = sorted({share["kind"] for stage in stages for share in stage["share"]})
    rules = st.lists(_rule(KIND), max_size=5, unique_by=_whole)
    whole = [{"kind": kind} for kind in kinds]
    same = {_whole(rule) for rule in whole}
    some = st.lists(KIND, min_size=2, unique=True)
    return st.fixed_dictionaries(
        {"never": _mostly(st.just([]), st.lists(KIND, max_size=1))},
        optional={
            "only": st.none()
            | _mostly(some.map(lambda more: [*kinds, *(set(more) - {*kinds})]), some),
            "allow": _mostly(
                rules.map(lambda more: [*whole, *(r for r in more if _whole(r) not in same)]),
                rules.filter(bool),
            ),
            "budgets": LIMITS,
        },
    )


PRESETS_OR_NONE = _mostly(st.none(), st.sampled_from(policy_files.presets()))
REQUEST = st.builds(
    Request,
    stage=st.sampled_from(["s0", "s0", "s1", "s2", "s9"]),
    group=st.sampled_from(["A", "B", "A", "B", "C"]),
    kind=st.sampled_from([*KINDS, "gradients"]),
    queries=st.sampled_from([*QUERY_SETS, None, "secret"]),
    fraction=FRACTION | st.sampled_from([0.0, -1.0, 1.01, float("inf"), float("nan")]),
    protection=st.sampled_from(["none", "none", "none", "sealed", ""]),
)


def _shared_requests(stages: list[dict[str, Any]]) -> list[Request]:
    """Everything that the stages share, as it would be asked for."""
    return [
        Request(stage["name"], stage["group"], share["kind"], queries, share["fraction"])
        for stage in stages
        for share in stage["share"]
        for queries in (share["queries"] or [None])
    ]


def _scenes(stages: list[dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Requests in one run or the other, most for what is shared; a client's and a node's policy."""
    shared = st.sampled_from(_shared_requests(stages))
    asked = st.tuples(st.integers(0, 1), _mostly(shared, REQUEST))
    policies = _policies(stages)
    return st.tuples(
        st.just(stages),
        st.lists(asked, min_size=4, max_size=10).map(_in_order),
        st.just({}) | policies,
        st.none() | policies,
    )


def _in_order(asked: list[tuple[int, Request]]) -> list[tuple[int, Request]]:
    """Three of four in the stages' order, since what is over is refused, whatever it is."""
    at = 3 * len(asked) // 4
    return [*sorted(asked[:at], key=lambda each: each[1].stage), *asked[at:]]


SCENES = STAGES.flatmap(_scenes)


@dataclass
class Referee:
    """Law 7 once more, from the words of the YAML: what may leave, and how much has."""

    stages: list[dict[str, Any]]
    policies: list[dict[str, Any]]
    spent: dict[str, list[int]] = field(default_factory=dict)
    released: set[Request] = field(default_factory=set)
    reached: dict[int, int] = field(default_factory=dict)

    def allows(self, run: int, request: Request) -> bool:
        """Whether a request may be answered; it is counted if so."""
        names = [stage["name"] for stage in self.stages]
        if request.stage not in names:
            return False
        place = names.index(request.stage)
        late = place < self.reached.get(run, 0)
        self.reached[run] = max(place, self.reached.get(run, 0))
        if late or not self._shared(request) or not all(map(request_fits(request), self.policies)):
            return False
        if any(request.same_data(other) for other in self.released):
            return True
        rows = ROWS if request.kind in PER_QUERY else 0
        size = record_kinds.byte_count(request.kind, rows or 1, SIZES)
        spent = [
            a + b for a, b in zip(self.spent.get(request.group, [0, 0]), (rows, size), strict=True)
        ]
        for said in self.policies:
            most = said.get("budgets", {})
            if (rows and spent[0] > most.get("max_rows", 999)) or spent[1] > most.get(
                "max_bytes", 999
            ):
                return False
        self.spent[request.group] = spent
        self.released.add(request)
        return True

    def _shared(self, request: Request) -> bool:
        exact = request.queries == "train" and request.kind in OUTPUT_KINDS
        return any(
            stage["name"] == request.stage
            and stage["group"] == request.group
            and share["kind"] == request.kind
            and (request.queries in (share["queries"] or [None]))
            and request.protection == "none"
            and 0 < request.fraction <= share["fraction"]
            and (not exact or request.fraction == share["fraction"])
            and (request.fraction == 1 or request.kind in DIVISIBLE_KINDS)
            and not record_kinds.load(request.kind).keeps_all(request.fraction, SIZES)
            for stage in self.stages
            for share in stage["share"]
        )


def request_fits(request: Request) -> Callable[[dict[str, Any]], bool]:
    """Whether one policy, in the words of its YAML, lets a request pass."""

    def fits(said: dict[str, Any]) -> bool:
        only, rules = said.get("only"), said.get("allow")
        if set(TELLING.get(request.kind, (request.kind,))) & set(said.get("never", [])):
            return False
        if only is not None and request.kind not in only:
            return False
        if said.get("budgets", {}).get("not_after") == "2001-01-01":
            return False
        return rules is None or any(
            rule["kind"] == request.kind
            and request.queries in rule.get("queries", [request.queries])
            and request.fraction <= rule.get("fraction", 1.0)
            and request.protection in rule.get("protections", [request.protection])
            for rule in rules
        )

    return fits


FOUND = (
    [
        {
            "name": "s0",
            "group": "A",
            "share": [
                {"kind": "inputs", "queries": ["pool", "evaluation", "train"], "fraction": 0.25}
            ],
        },
        {
            "name": "s1",
            "group": "B",
            "share": [{"queries": [], "kind": "fisher", "fraction": 0.25}],
        },
    ],
    [
        (
            0,
            Request(
                stage="s0",
                group="A",
                kind="inputs",
                queries="pool",
                fraction=0.25,
                protection="none",
            ),
        ),
        (
            0,
            Request(
                stage="s1",
                group="B",
                kind="fisher",
                queries=None,
                fraction=0.25,
                protection="none",
            ),
        ),
    ],
    {},
    {"never": [], "budgets": {"max_bytes": 40}},
)
"""A scene that was found to fail once."""


def test_whatever_is_asked_only_what_all_three_allow_is_released() -> None:
    """Without it some sequence of requests would get what one of them forbids (law 7)."""
    told: Counter[bool] = Counter()

    @settings(deadline=None)  # each example writes a folder of signed entries
    @given(SCENES, PRESETS_OR_NONE)
    @example(scene=FOUND, preset=None)
    def holds(scene: Any, preset: str | None) -> None:
        told.update(_played(scene, preset))

    holds()
    assert told[True] >= told.total() / 2, "requests that are refused anyway prove little"


def _played(scene: Any, preset: str | None) -> list[bool]:
    """Ask for everything in a scene; whether each was granted, as the referee says it must be."""
    said, asked, own, node = scene
    scenario = _scenario(said, {**own, "preset": preset})
    given_preset = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text()) if preset else {}
    referee = Referee(said, [own, given_preset, node or {}])
    # Hundreds of small files: what they say counts here, not that they are on the disk.
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        holdings = Holdings()
        stores = [ClientStore(Path(folder), run=f"{run:032x}") for run in (0, 1)]
        granted = [
            _judge(referee, run, request, scenario, stores[run], holdings, _node(node))
            for run, request in asked
        ]
        entries = stores[0].entries()
    charged = [e for e in entries if e["event"] == "release"]
    assert len({e["fingerprint"] for e in charged}) == len(charged) == len(holdings.made)
    for policies in (own, given_preset, node or {}):
        most = policies.get("budgets", {})
        for group in "AB":
            mine = [e for e in charged if e["group"] == group]
            rows = sum(e["rows"] for e in mine if e["kind"] in budgets.counted_rows())
            assert rows <= most.get("max_rows", 999)
            assert sum(e["bytes"] for e in mine) <= most.get("max_bytes", 9999)
    return granted


def _judge(
    referee: Referee,
    run: int,
    request: Request,
    scenario: Scenario,
    store: ClientStore,
    holdings: Holdings,
    node: tuple[Layer, ...],
) -> bool:
    """One request, answered as the referee says, and what is left of it; whether it was granted."""
    before, made = len(store.entries()), len(holdings.made)
    files = len(list(store.root.rglob("*.bin")))
    if referee.allows(run, request):
        released = _ask(scenario, request, store, holdings, expert=request.group, node=node)
        assert released.entry["kind"] == request.kind
        size = record_kinds.byte_count(request.kind, released.rows, SIZES, request.fraction)
        assert len(released.payload) == size
        return True
    with pytest.raises(ClientRefused):
        _ask(scenario, request, store, holdings, expert=request.group, node=node)
    entries = store.entries()
    assert len(entries) == before + 1
    assert (entries[-1]["event"], bool(entries[-1]["reason"])) == ("refusal", True)
    assert len(holdings.made) == made
    assert len(list(store.root.rglob("*.bin"))) == files
    return False


# ---------------------------------------------------------------- a real client

HOSTILE = [
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "secret"},
    {"stage": "outputs", "group": "C", "kind": "features", "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "train"},
    {"stage": "outputs", "group": "A", "kind": "gradients", "queries": None},
    {"stage": "outputs", "group": "A", "kind": "parameters", "queries": None},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "fraction": "all"},
    {"stage": "outputs", "group": "A", "kind": ["features"], "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "secret": 1},
    {"stage": "outputs", "kind": "features"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "fraction": 10**400},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "fraction": True},
    {"stage": "outputs", "group": "A", "kind": "features" * 10**6, "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "labels", "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "run": "mine"},
]


@pytest.mark.parametrize("body", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_a_client_refuses_a_strange_request_and_notes_it(
    body: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Without it a malformed request would be answered, or leave no trace in the ledger."""
    scenario = tiny.scenario(tmp_path, data)
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    with pytest.raises(ClientRefused):
        tiny.say(party, "release", body, b"")
    (entry,) = chain.read(ClientStore(party.root).ledger_file)
    assert entry["event"] == "refusal"
    assert not (party.root / "releases").exists()


def _images(count: int) -> bytes:
    return np.zeros((count, 3, 32, 32), np.uint8).tobytes()


@pytest.mark.parametrize(
    ("travel", "count"), [("reference", 1), ("reference", 12), ("value", 13)],
    ids=["one of the server's own", "as many of the server's own", "more than the fraction"],
)  # fmt: skip
def test_a_server_cannot_ask_about_other_images_than_the_scenarios(
    travel: str, count: int, data: Path, tmp_path: Path
) -> None:
    """Without it a server could query the expert without limit, under a policy that sets one."""
    scenario = tiny.scenario(tmp_path, data, queries={"pool": 6, "evaluation": 7, "travel": travel})
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    body = asdict(Request("outputs", "A", "features", "pool"))
    with pytest.raises(ClientRefused):
        tiny.say(party, "release", body, _images(count))
    assert not (party.root / "releases").exists()


def _by_value(data: Path, folder: Path, **changes: Any) -> ClientHandler:
    share = [{"kind": "features", "queries": ["pool"]}, {"kind": "labels", "queries": ["pool"]}]
    scenario = tiny.scenario(
        folder,
        data,
        queries={"pool": 6, "evaluation": 7, "travel": "value"},
        stages=[{"name": "outputs", "share": share}, {"name": "again", "share": share}],
        **changes,
    )
    return ClientHandler(scenario, scenario.seed, "ada", folder / "ada")


def test_a_query_set_by_value_is_always_the_same(data: Path, tmp_path: Path) -> None:
    """Without it a server could send ever new images as the pool, and copy the expert."""
    party = _by_value(data, tmp_path)
    ours, others = _images(12), bytes([1]) + _images(12)[1:]
    assert tiny.say(party, "release", asdict(Request("outputs", "A", "features", "pool")), ours)[1]
    assert tiny.say(party, "release", asdict(Request("outputs", "A", "labels", "pool")), ours)[1]
    for request in (
        Request("outputs", "A", "features", "pool"),
        Request("outputs", "A", "labels", "pool"),
        Request("again", "A", "features", "pool"),
    ):
        with pytest.raises(ClientRefused, match="other images than before came as queries pool"):
            tiny.say(party, "release", asdict(request), others)
    with pytest.raises(ClientRefused, match=r"a fraction of 1.0 of features, not 0.5"):
        tiny.say(
            party, "release", asdict(Request("again", "A", "features", "pool", 0.5)), _images(6)
        )
    events = [e["event"] for e in ClientStore(party.root).entries()]
    assert events == ["release"] * 2 + ["refusal"] * 4
    assert len(list((party.root / "releases").iterdir())) == 2
    again = {**asdict(Request("outputs", "A", "features", "pool")), "run": "a" * 32}
    assert tiny.say(party, "release", again, ours)[1]
    with pytest.raises(ClientRefused, match="other images than before"):
        tiny.say(party, "release", again, others)


def test_asking_again_and_again_gets_the_same_bytes_and_then_nothing(
    data: Path, tmp_path: Path
) -> None:
    """Without it a server could average noise away, one fraction or kind after the other."""
    share = [{"kind": "features"}, {"kind": "logits"}, {"kind": "labels"}]
    clients = [
        {"name": "ada", "task": "first", "policy": {"budgets": {"max_rows": 20}}},
        {"name": "bob", "task": "second"},
    ]
    scenario = tiny.scenario(
        tmp_path, data, stages=[{"name": "outputs", "share": share}], clients=clients
    )
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    first = tiny.say(party, "release", asdict(Request("outputs", "A", "features", "pool")), b"")[1]
    for run in range(3):
        body = {**asdict(Request("outputs", "A", "features", "pool")), "run": f"{run:032x}"}
        assert tiny.say(party, "release", body, b"")[1] == first
    asked = {**asdict(Request("outputs", "A", "labels", "pool", 0.5)), "run": "b" * 32}
    assert tiny.say(party, "release", asked, b"")[0]["rows"] == 6
    for kind, fraction in (("labels", 1.0), ("features", 0.9), ("logits", 1.0)):
        with pytest.raises(
            ClientRefused, match=r"limit max_rows 20: 18 rows .*, and this record has 1"
        ):
            tiny.say(party, "release", asdict(Request("outputs", "A", kind, "pool", fraction)), b"")
    events = [e["event"] for e in ClientStore(party.root).entries()]
    assert events.count("release") == 2
    assert events.count("refusal") == 3


# ---------------------------------------------------------------- a node with a policy of its own


def _with_node_policy(
    monkeypatch: pytest.MonkeyPatch, partition: int, policy_file: str | Path
) -> None:
    """Give one node of the local engine a `policy` in its node config, as --node-config does."""
    honest = local._context

    def context(node: int, config: dict[str, Any], node_config: dict[str, Any]) -> Context:
        if node_config.get("partition-id") == partition:
            node_config = {**node_config, "policy": str(policy_file)}
        return honest(node, config, node_config)

    monkeypatch.setattr(local, "_context", context)


def test_a_node_keeps_what_the_scenario_would_give_away(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a party's own file would be read and not obeyed."""
    own = tmp_path / "private-place" / "p1.yaml"
    own.parent.mkdir()
    own.write_text("preset: outputs-only\n")
    _with_node_policy(monkeypatch, 1, own)
    report = tiny.run(
        tmp_path, data, on_refusal="continue", portland={"alignment": "none", "epochs": 2}
    )
    refused = [r for stage in report.data["stages"] for r in stage["refusals"]]
    reason = "this node's own policy, preset outputs-only: does not allow"
    assert [(r["client"], r["kind"]) for r in refused] == [
        ("bob", "offset-sum"),
        ("bob", "parameters"),
    ]
    assert all(f"{reason} {r['kind']}" in r["reason"] for r in refused)
    assert {("bob", "features")} <= {(r["client"], r["kind"]) for r in tiny.releases(report)}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.name != "flower.log":
            assert b"private-place" not in path.read_bytes(), path


@pytest.mark.parametrize(
    "content", [None, "", "allow:\n", "never: [parametres]\n", "allow: [", "preset: nothing\n"]
)
def test_a_node_whose_policy_cannot_be_read_releases_nothing(
    content: str | None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a typing mistake, or a disk that is not mounted, would open everything."""
    own = tmp_path / "private-place.yaml"
    if content is not None:
        own.write_text(content)
    _with_node_policy(monkeypatch, 1, own)
    report = tiny.run(tmp_path, data, on_refusal="continue")
    assert "bob" not in {r["client"] for r in tiny.releases(report)}
    refused = [r for stage in report.data["stages"] for r in stage["refusals"]]
    assert len(refused) == 4
    assert all("this node's own policy cannot be read" in r["reason"] for r in refused)
    assert "private-place" not in json.dumps(report.data)
    entries = ClientStore(tmp_path / "out" / "clients" / "bob").entries()
    assert [e["event"] for e in entries] == ["refusal"], "the run did not begin there"
    assert whole_run.verify(tmp_path / "out")[0].holds
    log = (tmp_path / "out" / "flower.log").read_text()
    assert "private-place.yaml" in log, "the node's owner is not told what is wrong"


@pytest.mark.parametrize("said", ["", "p1.yaml", "7", "\0"])
def test_a_node_config_that_names_no_policy_file_releases_nothing(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it an empty setting would read as none, or another folder's file as the node's."""
    monkeypatch.chdir(tmp_path)
    for name in ("p1.yaml", "7"):
        (tmp_path / name).write_text("never: [inputs]\n")
    assert policy.of_node(tmp_path / "p1.yaml")[0].rules is not None
    (layer,) = policy.of_node(Path(said))
    assert layer.rules is None
    context = Context(1, 1, {"partition-id": 0, "policy": said}, RecordDict(), CONFIG)
    assert client_config(context).policy is not None
    assert client_config(Context(1, 1, {"partition-id": 0}, RecordDict(), CONFIG)).policy is None


def test_the_question_for_the_end_of_a_ledger_brings_nothing_else(
    data: Path, tmp_path: Path
) -> None:
    """Without it a message that is read by no rule would be answered all the same."""
    scenario = tiny.scenario(tmp_path, data)
    party = ClientHandler(scenario, scenario.seed, "ada", tmp_path / "ada")
    for body, payload in (({"more": 1}, b""), ({}, b"x")):
        with pytest.raises(ClientRefused, match="not one that neulig-fl makes"):
            tiny.say(party, "close", body, payload)
    assert tiny.say(party, "close", {})[1] == b""
