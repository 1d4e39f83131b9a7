"""The server's side of every exchange: what it asks, what it believes, whom it leaves out."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import (
    BadReply,
    ClientFailed,
    ClientMissing,
    ClientRefused,
    InputError,
    RunError,
)
from neulig_fl.core.progress import Progress
from neulig_fl.ledger import chain, key_store
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.release_plan import open_setting
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords

TRAIN = [
    {"kind": "inputs"},
    {"kind": "features", "queries": ["train", "evaluation"]},
]

Order = Callable[[list[Answer]], list[Answer]]
Make = Callable[..., Collector]


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    """A collector whose clients answer here; `order` may change what arrives, and when."""

    def made(order: Order = lambda answers: answers, **changes: Any) -> Collector:
        trust = changes.pop("trust", {})
        scenario = tiny.scenario(tmp_path, data, **changes)
        released = ReleasedRecords(open_setting(scenario, scenario.seed))
        notes: list[Any] = []
        found = Collector(
            tiny.InProcess(scenario, tmp_path, order),
            released,
            Progress(notes.append),
            trust,
            tiny.SERVER_KEYS,
        )
        found.notes = notes  # type: ignore[attr-defined]
        return found

    return made


def _stage(collector: Collector, index: int = 0) -> Any:
    return collector.released.setting.scenario.stages[index]


def _spoil(client: str, spoil: Callable[[Answer], Answer | None], kind: str = "features") -> Order:
    """Change one client's answers to one kind of request, by the number of bytes that it has."""

    def order(answers: list[Answer]) -> list[Answer]:
        hit = [a.client == client and (len(a.payload) > 8 or kind == "all") for a in answers]
        return [spoil(a) if h else a for a, h in zip(answers, hit, strict=True)]  # type: ignore[misc]

    return order


def _with_payload(answer: Answer, payload: bytes, **body: Any) -> Answer:
    digest = hashlib.sha256(payload).hexdigest()
    return dataclasses.replace(
        answer, payload=payload, body={**answer.body, "sha256": digest, **body}
    )


# ---------------------------------------------------------------- honest clients


@pytest.mark.parametrize("order", [lambda a: a, lambda a: a[::-1], lambda a: a[1:] + a[:1]])
def test_records_stand_in_the_scenarios_order_whatever_arrives_first(
    order: Order, make: Make
) -> None:
    """Without it the report, and Portland's inputs, would depend on the network (law 10)."""
    collector = make(order)
    releases, refusals = collector.collect(_stage(collector))
    assert [(r["kind"], r["queries"], r["client"]) for r in releases] == [
        (kind, queries, client)
        for kind, queries in (
            ("offset-sum", None),
            ("features", "pool"),
            ("features", "evaluation"),
        )
        for client in tiny.CLIENTS
    ]
    assert refusals == []
    known = collector.released
    assert known.sharing("A", "pool") == tiny.CLIENTS
    stacked = torch.cat(known.stacked("A", "pool", tiny.CLIENTS))
    assert stacked.shape == (12, 3, 16)
    assert not torch.equal(stacked[:, 0], stacked[:, 2])
    assert [e["client"] for e in collector.receipts] == [r["client"] for r in releases]


def test_a_release_says_all_that_the_report_needs(make: Make) -> None:
    """Without it the report's releases would not be those of the clients' ledgers (law 9)."""
    collector = make()
    releases, _ = collector.collect(_stage(collector))
    root = collector.transport.root  # type: ignore[attr-defined]
    for name in tiny.CLIENTS:
        entries = chain.read(root / "clients" / name / "ledger.jsonl")
        mine = [r for r in releases if r["client"] == name]
        facts = ("kind", "queries", "protection", "rows", "bytes", "sha256")
        assert [[e[f] for f in facts] for e in entries] == [[r[f] for f in facts] for r in mine]
        assert all((r["epsilon"], r["delta"], r["adjacency"]) == (None, None, None) for r in mine)
    assert chain.verify(collector.receipts)


def test_parameters_are_asked_for_one_client_at_a_time(make: Make) -> None:
    """Without it the server would hold every expert twice."""
    collector = make()
    collector.collect(_stage(collector, 1))
    hello, *asked = collector.transport.asked  # type: ignore[attr-defined]
    assert [[a.client for a in asks] for asks in asked] == [[n] for n in tiny.CLIENTS]
    assert [a.client for a in hello] == list(tiny.CLIENTS)
    assert collector.released.giving("A", "parameters") == tiny.CLIENTS


def test_prepare_says_who_trained(make: Make, own_cache: Path) -> None:
    """Without it a second run could not say that it trained nothing."""
    collector = make()
    assert collector.prepare("A") == dict.fromkeys(tiny.CLIENTS, True)
    assert collector.prepare("A") == dict.fromkeys(tiny.CLIENTS, False)


def test_training_inputs_come_back_to_every_expert(make: Make) -> None:
    """Without it the paper's supervised protocol would ask each expert about its own data alone."""
    collector = make(portland={"queries": "train"}, stages=[{"name": "s", "share": TRAIN}])
    releases, _ = collector.collect(_stage(collector))
    rows = {(r["kind"], r["queries"]): r["rows"] for r in releases}
    assert rows == {
        ("inputs", "train"): 5,
        ("features", "train"): 15,
        ("features", "evaluation"): 14,
    }
    questions = collector.released.questions("A", "train")
    assert [q.task for q in questions] == ["first", "second", "first"]
    sent = collector.transport.asked[2][0].payload  # type: ignore[attr-defined]
    assert sent == np.concatenate([q.images for q in questions]).tobytes()


# ---------------------------------------------------------------- clients that are wrong


WRONG: dict[str, tuple[Callable[[Answer], Answer], str]] = {
    "too few rows": (lambda a: _with_payload(a, a.payload[64:], rows=11), "11 rows instead of 12"),  # type: ignore[arg-type]
    "no rows": (lambda a: dataclasses.replace(a, body={}), "None rows instead of 12"),
    "rows in words": (
        lambda a: _with_payload(a, bytes(a.payload), rows="twelve"),
        "'twelve' rows instead of 12",
    ),
    "rows of another kind": (
        lambda a: _with_payload(a, bytes(a.payload), rows=[12]),
        r"\[12\] rows",
    ),
    "too short": (lambda a: _with_payload(a, bytes(a.payload[4:])), "764 bytes instead of 768"),
    "too long": (lambda a: _with_payload(a, bytes(a.payload) + b"x"), "769 bytes instead of 768"),
    "empty": (lambda a: _with_payload(a, b""), "0 bytes instead of 768"),
    "NaN": (
        lambda a: _with_payload(a, np.full(192, np.nan, "<f4").tobytes()),
        "features holds 192 values that are not finite",
    ),
    "infinite": (
        lambda a: _with_payload(a, np.full(192, np.inf, "<f4").tobytes()),
        "192 values that are not finite",
    ),
    "another payload": (
        lambda a: dataclasses.replace(a, payload=bytes(768)),
        "SHA-256 is not the one in the receipt",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_reply_is_one_clear_error(how: str, make: Make) -> None:
    """Without it one client's mistake would be everybody's figure, or a traceback."""
    spoil, problem = WRONG[how]
    collector = make(_spoil("bob", spoil))
    with pytest.raises(BadReply, match=problem) as caught:
        collector.collect(_stage(collector))
    text = str(caught.value)
    assert text.startswith("client 'bob', stage 'outputs', features on pool queries: ")
    assert text.count("client 'bob'") == 1
    assert "`on_refusal: stop`" in text
    assert "\n" not in text


@pytest.mark.parametrize("how", ["rows in words", "too short", "NaN"])
def test_a_wrong_reply_is_left_out_when_the_scenario_goes_on(how: str, make: Make) -> None:
    """Without it a wrong record would be used, or the other clients' lost."""
    spoil, _ = WRONG[how]
    collector = make(_spoil("bob", spoil), on_refusal="continue")
    releases, refusals = collector.collect(_stage(collector))
    assert "bob" in [r["client"] for r in refusals]
    assert all(r["reason"].startswith("wrong reply: ") for r in refusals)
    assert [r["client"] for r in releases if r["queries"] == "pool"] == ["ada", "cyd"]
    assert collector.released.sharing("A", "pool") == ("ada", "cyd")
    assert any("client bob, " in str(note) for note in collector.notes)  # type: ignore[attr-defined]
    assert [e["client"] for e in collector.receipts if e.get("reason")] == [
        r["client"] for r in refusals
    ]


STATUS = [("failed", ClientFailed), ("refused", ClientRefused), ("missing", ClientMissing)]


@pytest.mark.parametrize(("status", "error"), STATUS)
def test_no_answer_ends_the_run_with_who_what_and_where(
    status: Any, error: type[RunError], make: Make
) -> None:
    """Without it the user would not know whom to ask."""
    lost = lambda a: Answer(a.client, a.action, status, "because of rain", {}, b"")  # noqa: E731
    collector = make(_spoil("bob", lost))
    with pytest.raises(
        error,
        match=r"^client 'bob', stage 'outputs', features on pool queries: because of rain; the",
    ):
        collector.collect(_stage(collector))
    going_on = make(_spoil("bob", lost), on_refusal="continue")
    _, refusals = going_on.collect(_stage(going_on))
    assert {(r["client"], r["kind"], r["reason"]) for r in refusals} == {
        ("bob", "features", f"{status}: because of rain")
    }


@pytest.mark.parametrize(("status", "error"), STATUS)
def test_a_client_without_an_expert_is_not_asked_again(
    status: Any, error: type[RunError], make: Make
) -> None:
    """Without it the server would wait for a client that already said that it cannot."""

    def order(answers: list[Answer]) -> list[Answer]:
        return [
            Answer(a.client, a.action, status, "no data", {}, b"")
            if a.client == "bob" and a.action == "prepare"
            else a
            for a in answers
        ]

    stopped = make(order)
    with pytest.raises(
        error, match=r"^client 'bob', preparing its expert of group A: no data; the scenario"
    ):
        stopped.prepare("A")
    collector = make(order, on_refusal="continue")
    assert list(collector.prepare("A")) == ["ada", "cyd"]
    _, refusals = collector.collect(_stage(collector))
    asked = [a.client for asks in collector.transport.asked[2:] for a in asks]  # type: ignore[attr-defined]
    assert asked
    assert "bob" not in asked
    assert [r["client"] for r in refusals] == ["bob"] * 3
    assert "preparing its expert of group A: no data" in refusals[0]["reason"]


def test_a_clients_policy_is_its_own_refusal(make: Make) -> None:
    """Without it a client's own rule would look like a broken client."""
    clients = [
        {"name": "ada", "task": "first"},
        {"name": "bob", "task": "second", "policy": {"never": ["offset-sum"]}},
        {"name": "cyd", "task": "first"},
    ]
    collector = make(clients=clients, on_refusal="continue")
    _, refusals = collector.collect(_stage(collector))
    assert refusals == [
        {
            "client": "bob",
            "kind": "offset-sum",
            "reason": "refused: policy of client 'bob': never offset-sum",
        }
    ]


@pytest.mark.parametrize(("kind", "name"), [("labels", "labels"), ("top-k", "classes")])
@pytest.mark.parametrize("wrong", [-1, 5])
def test_answers_that_name_no_class_are_refused(
    kind: str, name: str, wrong: int, make: Make
) -> None:
    """Without it whatever counts classes later would count those of nobody."""

    def spoil(answer: Answer) -> Answer:
        if answer.action != "release":
            return answer
        payload = np.frombuffer(answer.payload, "<i4").copy()
        payload[0] = wrong
        return _with_payload(answer, payload.tobytes())

    share = [{"kind": kind, "queries": ["pool"]}]
    collector = make(_spoil("ada", spoil), stages=[{"name": "s", "share": share}])
    with pytest.raises(BadReply, match=f"1 {name} are not among the 5 classes of all tasks"):
        collector.collect(_stage(collector))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 1, 2, 0, 0], "1 labels are not among the 2 classes of 'first'"),
        ([-1, -1, 0, 0, 1], "2 labels"),
    ],
)
def test_labels_that_the_task_does_not_have_are_refused(
    labels: list[int], problem: str, make: Make
) -> None:
    """Without it a wrong label would crash Portland's training, or train another task's class."""

    def spoil(answer: Answer) -> Answer:
        if len(answer.payload) != 5 * (3 * 32 * 32 + 8):
            return answer
        images = bytes(answer.payload)[: 5 * 3 * 32 * 32]
        return _with_payload(answer, images + np.array(labels, "<i8").tobytes())

    collector = make(
        _spoil("ada", spoil), portland={"queries": "train"}, stages=[{"name": "s", "share": TRAIN}]
    )
    with pytest.raises(
        BadReply, match=f"^client 'ada', stage 's', inputs on train queries: {problem}"
    ):
        collector.collect(_stage(collector))


def test_answers_about_training_inputs_must_be_as_many_as_the_inputs(make: Make) -> None:
    """Without it a reply of another length would be matched to the wrong images."""

    def spoil(answer: Answer) -> Answer:
        if answer.body.get("rows") != 15:
            return answer
        return _with_payload(answer, bytes(answer.payload[64:]), rows=14)

    collector = make(
        _spoil("ada", spoil), portland={"queries": "train"}, stages=[{"name": "s", "share": TRAIN}]
    )
    with pytest.raises(BadReply, match="features on train queries: 14 rows instead of 15"):
        collector.collect(_stage(collector))


def test_without_any_inputs_nobody_is_asked_about_them(make: Make) -> None:
    """Without it every client would answer about images that their owners did not give."""
    clients = [
        {"name": name, "task": task, "policy": {"never": ["inputs"]}}
        for name, task in zip(tiny.CLIENTS, ("first", "second", "first"), strict=True)
    ]
    collector = make(
        portland={"queries": "train"}, stages=[{"name": "s", "share": TRAIN}], clients=clients,
        on_refusal="continue",
    )  # fmt: skip
    releases, refusals = collector.collect(_stage(collector))
    assert {r["queries"] for r in releases} == {"evaluation"}
    assert [r["reason"] for r in refusals[3:]] == ["no client released its training inputs"] * 3


def test_what_was_received_is_on_record_even_when_the_run_ends(make: Make) -> None:
    """Without it a run that fails would hide what the clients had already given away."""
    collector = make(_spoil("bob", lambda a: dataclasses.replace(a, payload=bytes(768))))
    with pytest.raises(BadReply):
        collector.collect(_stage(collector))
    kept = [(e["client"], e["kind"]) for e in collector.receipts]
    assert kept[:3] == [(name, "offset-sum") for name in tiny.CLIENTS]
    assert ("ada", "features") in kept
    assert ("bob", "features") in [
        (e["client"], e["kind"]) for e in collector.receipts if "reason" in e
    ]


# ---------------------------------------------------------------- fractions


def _features(fraction: float, kind: str = "features") -> dict[str, Any]:
    return {"kind": kind, "queries": ["pool", "evaluation"], "fraction": fraction}


@pytest.mark.parametrize("travel", ["reference", "value"])
def test_fractions_may_differ_between_kinds_groups_and_stages(travel: str, make: Make) -> None:
    """Without it outputs of half of the queries would be matched to all of them."""
    collector = make(
        queries={"pool": 6, "evaluation": 7, "travel": travel},
        experts={"epochs": 1, "batch_size": 16, "groups": ["A", "B"]},
        stages=[
            {"name": "half", "share": [_features(0.5), _features(1.0, "logits")]},
            {"name": "whole", "share": [_features(1.0)]},
            {"name": "other", "group": "B", "share": [_features(0.3)]},
        ],
    )
    known = collector.released
    for index, (group, rows) in enumerate([("A", [3, 3]), ("A", [6, 6]), ("B", [2, 2])]):
        collector.collect(_stage(collector, index))
        assert [len(q.labels) for q in known.questions(group, "pool")] == rows
        assert [len(part) for part in known.stacked(group, "pool", tiny.CLIENTS)] == rows


def test_an_ask_carries_only_what_its_kind_needs(make: Make) -> None:
    """Without it queries by value would travel with requests that have none."""
    collector = make(queries={"pool": 6, "evaluation": 7, "travel": "value"})
    for index in (0, 1):
        collector.collect(_stage(collector, index))
    asked: list[Ask] = [asks[0] for asks in collector.transport.asked[1:]]  # type: ignore[attr-defined]
    found = {(a.body["kind"], a.body["queries"]): len(a.payload) for a in asked}
    assert found == {
        ("offset-sum", None): 0,
        ("features", "pool"): 12 * 3 * 32 * 32,
        ("features", "evaluation"): 14 * 3 * 32 * 32,
        ("parameters", None): 0,
    }


# ---------------------------------------------------------------- signed receipts


def test_the_servers_receipts_hold_what_every_client_signed(make: Make, tmp_path: Path) -> None:
    """Without it a client could deny what it gave, or a server invent it."""
    collector = make()
    releases, _ = collector.collect(_stage(collector))
    for receipt, release in zip(collector.receipts, releases, strict=True):
        entry, store = receipt["entry"], ClientStore(tmp_path / "clients" / release["client"])
        assert entry in store.entries()
        assert chain.signature_problem(entry, store.identity.key) is None
        assert entry["run"] == collector.book.run
        assert {k: receipt[k] for k in release} == release
    assert collector.book.verified()
    trust = collector.book.trust()
    assert list(trust) == list(tiny.CLIENTS)
    assert not any(each["pinned"] for each in trust.values())


def _resigned(answer: Answer, root: Path, **changes: Any) -> Answer:
    """An answer whose entry the client itself signed with other words."""
    entry = {**answer.body["entry"], **changes}
    identity = ClientStore(root / "clients" / answer.client).identity
    digest = chain.entry_hash(entry)
    entry |= {"hash": digest, "signature": identity.sign(chain.PURPOSE, digest.encode())}
    return dataclasses.replace(answer, body={**answer.body, "entry": entry})


def _with_entry(answer: Answer, entry: Any) -> Answer:
    return dataclasses.replace(answer, body={**answer.body, "entry": entry})


LIES: dict[str, tuple[Any, str]] = {
    "another client's name": ({"client": "ada"}, "says client 'ada' where 'bob' is right"),
    "another run": ({"run": "cd" * 16}, "says run 'cdcd"),
    "another stage": ({"stage": "merging"}, "says stage 'merging' where 'outputs' is right"),
    "another group": ({"group": "B"}, "says group 'B' where 'A' is right"),
    "another kind": ({"kind": "logits"}, "says kind 'logits'"),
    "another query set": ({"queries": "evaluation"}, "says queries 'evaluation'"),
    "another protection": ({"protection": "sealed"}, "says protection 'sealed'"),
    "a smaller fraction": ({"fraction": 0.5}, "says fraction '0.5' where '1.0' is right"),
    "fewer rows": ({"rows": 11}, "says rows '11' where '12' is right"),
    "rows of another type": ({"rows": 12.0}, "says rows 12.0; allowed: a whole number"),
    "fewer bytes": ({"bytes": 767}, "says bytes '767' where '768' is right"),
    "another hash": ({"sha256": "ef" * 32}, "says sha256 'efef"),
    "a refusal": ({"event": "refusal"}, "is of a 'refusal', not of a release"),
    "an epsilon in words": ({"epsilon": "small"}, "says epsilon 'small'; allowed: a number from 0"),
    "a negative epsilon": ({"epsilon": -1.0}, "says epsilon -1.0; allowed: a number from 0"),
    "an epsilon without noise": ({"epsilon": 0.5}, "claims epsilon 0.5, and no noise"),
    "a delta above 1": ({"delta": 2}, "says delta 2; allowed: a number above 0 and below 1"),
    "a list for an expert": ({"expert": [1]}, "says expert [1]; allowed: 32 hexadecimal digits"),
    "no expert": ({"expert": None}, "says expert None; allowed: 32 hexadecimal digits"),
    "sums of no sum": ({"sums": None}, "is of no sum, and says sums"),
    "no time": ({"time": None}, "says time None; allowed: seconds since 1970"),
    "a negative index": ({"index": -1}, "says index -1; allowed: a whole number from 0"),
    "true for an index": ({"index": True}, "says index True; allowed: a whole number from 0"),
    "an index of before": ({"index": 0}, "has the index 0, and the one before it 0: its ledger"),
    "no link to the last one": ({"previous": "ef" * 32}, "does not follow from the one before"),
    "a very long word": ({"note": "x" * 70_000}, "characters long; at most 65536 are read"),
    "another key's name": ({"key": "ed25519:" + "A" * 43}, "is signed with another key"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_signed_entry_that_says_something_else_is_a_wrong_reply(
    lie: str, make: Make, tmp_path: Path
) -> None:
    """Without it the receipts would not prove what the report says."""
    changes, problem = LIES[lie]
    collector = make(_spoil("bob", lambda a: _resigned(a, tmp_path, **changes)))
    with pytest.raises(BadReply, match="client 'bob', stage 'outputs', features on pool") as caught:
        collector.collect(_stage(collector))
    assert "its signed entry " in str(caught.value)
    assert problem in str(caught.value)
    assert collector.released.sharing("A", "pool") == ("ada",), "nothing of it was used"
    assert ("bob", "features") not in [
        (e["client"], e["kind"]) for e in collector.receipts if "entry" in e
    ]


def _forged(answer: Answer) -> Answer:
    mark = answer.body["entry"]["signature"]
    other = "B" if mark[0] == "A" else "A"
    return _with_entry(answer, {**answer.body["entry"], "signature": other + mark[1:]})


UNSIGNED: dict[str, tuple[Callable[[Answer], Answer], str]] = {
    "none": (
        lambda a: dataclasses.replace(a, body={k: v for k, v in a.body.items() if k != "entry"}),
        "it sent no signed entry of its ledger",
    ),
    "a list": (lambda a: _with_entry(a, []), "it sent no signed entry of its ledger"),
    "empty": (lambda a: _with_entry(a, {}), "its signed entry was changed"),
    "forged": (_forged, "its signed entry has a signature that is not its owner's"),
    "changed": (
        lambda a: _with_entry(a, {**a.body["entry"], "time": 1.0}),
        "its signed entry was changed: its hash is not that of what it says",
    ),
    "infinite": (
        lambda a: _with_entry(a, {**a.body["entry"], "time": float("inf")}),
        "its signed entry is not JSON-serialisable",
    ),
}


@pytest.mark.parametrize("how", UNSIGNED)
def test_an_entry_that_its_client_did_not_sign_is_a_wrong_reply(how: str, make: Make) -> None:
    """Without it whoever carries the messages could write receipts."""
    spoil, problem = UNSIGNED[how]
    collector = make(_spoil("bob", spoil))
    with pytest.raises(BadReply, match=problem):
        collector.collect(_stage(collector))


def test_an_earlier_entry_is_not_taken_for_a_new_one(make: Make) -> None:
    """Without it one signed entry could stand for two releases."""
    kept: list[Any] = []

    def replay(answer: Answer) -> Answer:
        kept.append(answer.body["entry"])
        return _with_entry(answer, kept[0])

    collector = make(_spoil("bob", replay))
    with pytest.raises(BadReply, match="evaluation queries: its signed entry says queries 'pool'"):
        collector.collect(_stage(collector))


def _greet(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Order:
    """Change what bob says when he is greeted."""
    return lambda answers: [
        dataclasses.replace(a, body=change(a.body))
        if a.client == "bob" and a.action == "hello"
        else a
        for a in answers
    ]


GREETINGS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "no keys": (lambda b: {**b, "identity": None}, "it did not say its keys"),
    "another name": (lambda b: {**b, "client": "ada"}, "it says hello as client 'ada'"),
    "no signature": (
        lambda b: {k: v for k, v in b.items() if k != "signature"},
        "its client hello is not signed by its key for this run",
    ),
    "another's keys": (
        lambda b: {**b, "identity": Identity.new().public.record()},
        "its client hello is not signed by its key for this run",
    ),
    "another's agreement key": (
        lambda b: {**b, "identity": {**b["identity"], "agreement": Identity.new().agreement}},
        "not an Ed25519 key and an X25519 key that the first one signed",
    ),
    "infinite": (lambda b: {**b, "version": float("inf")}, "is not JSON-serialisable"),
}


@pytest.mark.parametrize("how", GREETINGS)
def test_a_wrong_greeting_is_told_before_anything_is_asked(how: str, make: Make) -> None:
    """Without it the server would believe whoever answers in a client's name."""
    change, problem = GREETINGS[how]
    collector = make(_greet(change))
    with pytest.raises(BadReply, match=f"^client 'bob', saying hello: .*{problem}"):
        collector.prepare("A")
    going_on = make(_greet(change), on_refusal="continue")
    assert list(going_on.prepare("A")) == ["ada", "cyd"]
    _, refusals = going_on.collect(_stage(going_on))
    assert {r["client"] for r in refusals} == {"bob"}
    assert all("saying hello" in r["reason"] for r in refusals)


def test_a_client_that_was_silent_at_first_has_no_key_to_believe(make: Make) -> None:
    """Without it the first release would bring its own key along."""
    lost = lambda answers: [  # noqa: E731
        dataclasses.replace(a, status="missing", body={}) if a.action == "hello" else a
        for a in answers
    ]
    collector = make(lost)
    with pytest.raises(BadReply, match="it never said hello, so its key is not known"):
        collector.collect(_stage(collector))


def test_a_pinned_key_is_the_only_one_that_is_believed(make: Make, tmp_path: Path) -> None:
    """Without it trust on first use would be all that there is."""
    key = ClientStore(tmp_path / "clients" / "bob").identity.key
    collector = make(trust={"bob": key})
    collector.prepare("A")
    assert {n: t["pinned"] for n, t in collector.book.trust().items()} == {
        "ada": False, "bob": True, "cyd": False
    }  # fmt: skip
    other = Identity.new().key
    wrong = make(trust={"bob": other})
    with pytest.raises(BadReply, match=f"saying hello: its key is {key} and not the pinned one"):
        wrong.prepare("A")
    with pytest.raises(InputError, match="the key pinned for client 'bob' is 'north'; allowed"):
        make(trust={"bob": "north"})


def test_a_pinned_key_that_handed_over_is_believed(make: Make, tmp_path: Path) -> None:
    """Without it every partner would have to change its scenario before a key can be rotated."""
    store = ClientStore(tmp_path / "clients" / "bob")
    old = store.identity.key
    new = key_store.rotate(store.root / "keys").key
    collector = make(trust={"bob": old})
    collector.collect(_stage(collector))
    assert collector.book.trust()["bob"]["key"] == new != old
    assert collector.book.verified()
