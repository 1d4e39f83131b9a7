"""The gate: nothing leaves but what the stage and the client's own policy both allow (law 7)."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl import gate, ledger, records
from neulig_fl.client_store import ClientStore, Released
from neulig_fl.errors import BadReply, ClientRefused
from neulig_fl.party import Party
from neulig_fl.records import KINDS, PER_QUERY, Dimensions, Request
from neulig_fl.scenario import QUERY_SETS, Scenario

SIZES = Dimensions(dim=2, classes=3, image_size=2, entries={"w": (2,)})
ROWS = 2


class Holdings:
    """Finite records of the right shape, and a list of what was made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def _record(self, kind: str) -> records.Arrays:
        self.made.append(kind)
        rows = ROWS if kind in PER_QUERY else 1
        return {
            name: np.ones(shape, dtype) for name, dtype, shape in records.layout(kind, rows, SIZES)
        }

    def inputs(self) -> records.Arrays:
        """As `records.Holdings`."""
        return self._record("inputs")

    def offset_sum(self) -> records.Arrays:
        """As `records.Holdings`."""
        return self._record("offset-sum")

    def features(self) -> records.Arrays:
        """As `records.Holdings`."""
        return self._record("features")

    def logits(self) -> records.Arrays:
        """As `records.Holdings`."""
        return self._record("logits")

    def parameters(self) -> records.Arrays:
        """As `records.Holdings`."""
        return self._record("parameters")


def _scenario(stages: list[dict[str, Any]], policy: dict[str, Any] | None = None) -> Scenario:
    ada = {"name": "ada", "task": "digits", "policy": policy or {}}
    bob = {"name": "bob", "task": "digits"}
    said = {"name": "gate", "clients": [ada, bob], "stages": stages}
    return Scenario.model_validate_json(json.dumps(said))


def _ask(scenario: Scenario, request: Request, store: ClientStore, holdings: Holdings) -> Released:
    return gate.release(
        scenario,
        scenario.clients[0],
        request,
        rows=ROWS if request.kind in PER_QUERY else 1,
        sizes=SIZES,
        data_hash="expert",
        holdings=holdings,
        store=store,
    )


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
    (entry,) = ledger.read(store.ledger_file)
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
    assert gate.refusal(scenario, scenario.clients[1], request) is None


def test_an_identical_request_gets_the_stored_bytes_and_is_charged_once(tmp_path: Path) -> None:
    """Without it a server could average noise away, or a client pay twice for one release."""
    stages = [STAGE, {**STAGE, "name": "again"}]
    scenario, store, holdings = _scenario(stages), ClientStore(tmp_path), Holdings()
    first = _ask(scenario, Request("one", "B", "features", "pool", 0.5), store, holdings)
    for stage in ("one", "again"):
        again = _ask(scenario, Request(stage, "B", "features", "pool", 0.5), store, holdings)
        assert again == first
    assert holdings.made == ["features"]
    assert len(ledger.read(store.ledger_file)) == 1
    assert first.payload == np.ones((ROWS, SIZES.dim), "<f4").tobytes()


def test_a_broken_record_does_not_leave_and_is_not_charged(tmp_path: Path) -> None:
    """Without it NaN would be released, and stored as the answer for ever."""
    holdings, store = Holdings(), ClientStore(tmp_path)
    holdings.features = lambda: {"features": np.full((ROWS, SIZES.dim), np.nan)}  # type: ignore[method-assign]
    with pytest.raises(BadReply, match="client 'ada', features: features holds 4 values"):
        _ask(_scenario([STAGE]), Request("one", "B", "features", "pool", 0.5), store, holdings)
    assert ledger.read(store.ledger_file) == []
    assert not (tmp_path / "releases").exists()


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
            "fraction": FRACTION,
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
POLICY = st.fixed_dictionaries(
    {"never": st.lists(KIND, max_size=2, unique=True)},
    optional={"only": st.none() | st.lists(KIND, max_size=4, unique=True)},
)
REQUEST = st.builds(
    Request,
    stage=st.sampled_from(["s0", "s0", "s1", "s2", "s9"]),
    group=st.sampled_from(["A", "B", "A", "B", "C"]),
    kind=st.sampled_from([*KINDS, "gradients"]),
    queries=st.sampled_from([*QUERY_SETS, None, "secret"]),
    fraction=FRACTION | st.sampled_from([0.0, -1.0, 1.01, float("inf"), float("nan")]),
    protection=st.sampled_from(["none", "none", "none", "sealed", ""]),
)


def _allowed(said: list[dict[str, Any]], policy: dict[str, Any], request: Request) -> bool:
    """The effective policy once more, from the words of the scenario."""
    only = policy.get("only")
    if request.kind in policy["never"] or (only is not None and request.kind not in only):
        return False
    return any(
        stage["name"] == request.stage
        and stage["group"] == request.group
        and share["kind"] == request.kind
        and (
            request.queries in share["queries"]
            or (request.queries is None and not share["queries"])
        )
        and request.protection == "none"
        and 0 < request.fraction <= share["fraction"]
        for stage in said
        for share in stage["share"]
    )


@given(STAGES, POLICY, st.lists(REQUEST, min_size=1, max_size=8))
def test_whatever_is_asked_only_the_effective_policy_is_released(
    said: list[dict[str, Any]], policy: dict[str, Any], requests: list[Request]
) -> None:
    """Without it some sequence of requests would get what nobody allowed (law 7)."""
    scenario = _scenario(said, policy)
    # Hundreds of small files: what they say counts here, not that they are on the disk.
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        store, holdings = ClientStore(Path(folder)), Holdings()
        for request in requests:
            before = len(ledger.read(store.ledger_file))
            made, files = len(holdings.made), len(list(store.root.rglob("*.bin")))
            if _allowed(said, policy, request):
                released = _ask(scenario, request, store, holdings)
                assert released.entry["kind"] == request.kind
                assert len(released.payload) == records.byte_count(
                    request.kind, released.rows, SIZES
                )
                continue
            with pytest.raises(ClientRefused):
                _ask(scenario, request, store, holdings)
            entries = ledger.read(store.ledger_file)
            assert len(entries) == before + 1
            assert entries[-1]["event"] == "refusal"
            assert entries[-1]["reason"]
            assert len(holdings.made) == made
            assert len(list(store.root.rglob("*.bin"))) == files
        entries = ledger.read(store.ledger_file)
        assert ledger.verify(entries)
        charged = [e for e in entries if e["event"] == "release"]
        assert len({e["fingerprint"] for e in charged}) == len(charged) == len(holdings.made)
        assert all(e["kind"] not in policy["never"] for e in charged)


# ---------------------------------------------------------------- a real client

HOSTILE = [
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "secret"},
    {"stage": "outputs", "group": "C", "kind": "features", "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "train"},
    {"stage": "outputs", "group": "A", "kind": "gradients", "queries": None},
    {"stage": "outputs", "group": "A", "kind": "parameters", "queries": None},
    {
        "stage": "outputs",
        "group": "A",
        "kind": "features",
        "queries": "pool",
        "fraction": float("nan"),
    },
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "fraction": "all"},
    {"stage": "outputs", "group": "A", "kind": ["features"], "queries": "pool"},
    {"stage": "outputs", "group": "A", "kind": "features", "queries": "pool", "secret": 1},
    {"stage": "outputs", "kind": "features"},
]


@pytest.mark.parametrize("body", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_a_client_refuses_a_strange_request_and_notes_it(
    body: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    """Without it a malformed request would be answered, or leave no trace in the ledger."""
    scenario = tiny.scenario(tmp_path, data)
    party = Party(scenario, scenario.seed, "ada", tmp_path / "ada")
    with pytest.raises(ClientRefused):
        party.answer("release", body, b"")
    (entry,) = ledger.read(ClientStore(party.root).ledger_file)
    assert entry["event"] == "refusal"
    assert not (party.root / "releases").exists()


def _pictures(count: int) -> bytes:
    return np.zeros((count, 3, 32, 32), np.uint8).tobytes()


@pytest.mark.parametrize(
    ("travel", "count"), [("reference", 1), ("reference", 12), ("value", 13)],
    ids=["one of the server's own", "as many of the server's own", "more than the fraction"],
)  # fmt: skip
def test_a_server_cannot_ask_about_other_pictures_than_the_scenarios(
    travel: str, count: int, data: Path, tmp_path: Path
) -> None:
    """Without it a server could query the expert without limit, under a policy that sets one."""
    scenario = tiny.scenario(tmp_path, data, queries={"pool": 6, "evaluation": 7, "travel": travel})
    party = Party(scenario, scenario.seed, "ada", tmp_path / "ada")
    body = asdict(Request("outputs", "A", "features", "pool"))
    with pytest.raises(ClientRefused):
        party.answer("release", body, _pictures(count))
    assert not (party.root / "releases").exists()
