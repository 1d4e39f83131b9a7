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

from neulig_fl import ledger
from neulig_fl.collect import Collector
from neulig_fl.errors import BadReply, ClientFailed, ClientMissing, ClientRefused, RunError
from neulig_fl.knowledge import Knowledge
from neulig_fl.parties import Answer, Ask
from neulig_fl.plan import open_setting
from neulig_fl.progress import Progress

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
        scenario = tiny.scenario(tmp_path, data, **changes)
        knowledge = Knowledge(open_setting(scenario, scenario.seed))
        notes: list[Any] = []
        found = Collector(
            tiny.InProcess(scenario, tmp_path, order), knowledge, Progress(notes.append)
        )
        found.notes = notes  # type: ignore[attr-defined]
        return found

    return made


def _stage(collector: Collector, index: int = 0) -> Any:
    return collector.knowledge.setting.scenario.stages[index]


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
    known = collector.knowledge
    assert known.sharing("A", "pool") == tiny.CLIENTS
    stacked = torch.cat(known.stacked("A", "pool", tiny.CLIENTS))
    assert stacked.shape == (12, 3, 16)
    assert not torch.equal(stacked[:, 0], stacked[:, 2])
    assert [e["client"] for e in collector.receipts] == [r["client"] for r in releases]


def test_a_release_says_all_that_the_report_needs(make: Make) -> None:
    """Without it the report's releases would not be those of the clients' ledgers (law 9)."""
    collector = make()
    releases, _ = collector.collect(_stage(collector))
    root = collector.parties.root  # type: ignore[attr-defined]
    for name in tiny.CLIENTS:
        entries = ledger.read(root / "clients" / name / "ledger.jsonl")
        mine = [r for r in releases if r["client"] == name]
        facts = ("kind", "queries", "protection", "rows", "bytes", "sha256")
        assert [[e[f] for f in facts] for e in entries] == [[r[f] for f in facts] for r in mine]
        assert all((r["epsilon"], r["delta"], r["adjacency"]) == (None, None, None) for r in mine)
    assert ledger.verify(collector.receipts)


def test_parameters_are_asked_for_one_client_at_a_time(make: Make) -> None:
    """Without it the server would hold every expert twice."""
    collector = make()
    collector.collect(_stage(collector, 1))
    assert [[a.client for a in asks] for asks in collector.parties.asked] == [
        [n] for n in tiny.CLIENTS
    ]  # type: ignore[attr-defined]
    assert collector.knowledge.with_parameters("A") == tiny.CLIENTS


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
    questions = collector.knowledge.questions("A", "train")
    assert [q.task for q in questions] == ["first", "second", "first"]
    sent = collector.parties.asked[1][0].payload  # type: ignore[attr-defined]
    assert sent == np.concatenate([q.pictures for q in questions]).tobytes()


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
    assert collector.knowledge.sharing("A", "pool") == ("ada", "cyd")
    assert any("going on without client bob" in str(note) for note in collector.notes)  # type: ignore[attr-defined]
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
    asked = [a.client for asks in collector.parties.asked[1:] for a in asks]  # type: ignore[attr-defined]
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
        pictures = bytes(answer.payload)[: 5 * 3 * 32 * 32]
        return _with_payload(answer, pictures + np.array(labels, "<i8").tobytes())

    collector = make(
        _spoil("ada", spoil), portland={"queries": "train"}, stages=[{"name": "s", "share": TRAIN}]
    )
    with pytest.raises(
        BadReply, match=f"^client 'ada', stage 's', inputs on train queries: {problem}"
    ):
        collector.collect(_stage(collector))


def test_answers_about_training_inputs_must_be_as_many_as_the_inputs(make: Make) -> None:
    """Without it a reply of another length would be matched to the wrong pictures."""

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
    """Without it every client would answer about pictures that their owners did not give."""
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
    known = collector.knowledge
    for index, (group, rows) in enumerate([("A", [3, 3]), ("A", [6, 6]), ("B", [2, 2])]):
        collector.collect(_stage(collector, index))
        assert [len(q.labels) for q in known.questions(group, "pool")] == rows
        assert [len(part) for part in known.stacked(group, "pool", tiny.CLIENTS)] == rows


def test_an_ask_carries_only_what_its_kind_needs(make: Make) -> None:
    """Without it queries by value would travel with requests that have none."""
    collector = make(queries={"pool": 6, "evaluation": 7, "travel": "value"})
    for index in (0, 1):
        collector.collect(_stage(collector, index))
    asked: list[Ask] = [asks[0] for asks in collector.parties.asked]  # type: ignore[attr-defined]
    found = {(a.body["kind"], a.body["queries"]): len(a.payload) for a in asked}
    assert found == {
        ("offset-sum", None): 0,
        ("features", "pool"): 12 * 3 * 32 * 32,
        ("features", "evaluation"): 14 * 3 * 32 * 32,
        ("parameters", None): 0,
    }
