"""The server's side of secure sums: what it invites, adds, leaves out and keeps on record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_sums
from tiny_sums import CLIENTS, MEAN, STEPS, Dropping

from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import BadReply, ClientMissing, ClientRefused, NotAvailable
from neulig_fl.core.progress import Progress
from neulig_fl.ledger import chain
from neulig_fl.privacy.secagg import quantisation
from neulig_fl.records.release_plan import open_setting
from neulig_fl.records.secagg.requests import Part
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.server.collecting import Collector
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.server.secagg.rounds import Summed, SumRounds
from neulig_fl.verification import whole_run

UNEVEN = {"ada": 0.3, "bob": 0.3, "cyd": 0.2, "dan": 0.2}
ERROR = 2 * quantisation(64.0, 4)
"""Of a mean: the grid's, and as much again for float32 and for those who dropped out."""


class Spoiling(tiny.InProcess):
    """Clients of whom one's replies at one step of a sum are changed on their way."""

    client, step = "bob", "mask"
    spoil: Callable[[Answer], Answer] = staticmethod(lambda answer: answer)

    def answer(self, ask: Ask) -> Answer:
        """As `InProcess.answer`."""
        found = super().answer(ask)
        hit = ask.action == "sum" and (ask.client, ask.body["asked"]["step"]) == (
            self.client,
            self.step,
        )
        return self.spoil(found) if hit else found


class Server:
    """A collector and the sums of its first stage, on clients in this process."""

    def __init__(self, folder: Path, data: Path, **changes: Any) -> None:
        drops, after = changes.pop("drops", {}), changes.pop("after", False)
        spoil, step = changes.pop("spoil", None), changes.pop("step", "mask")
        self.scenario = tiny_sums.scenario(folder, data, **changes)
        self.root = folder
        if spoil is None:
            self.transport: Any = Dropping(self.scenario, folder, drops=drops, after=after)
        else:
            self.transport = Spoiling(self.scenario, folder)
            self.transport.spoil, self.transport.step = spoil, step
        released = ReleasedRecords(open_setting(self.scenario, self.scenario.seed))
        self.events: list[Any] = []
        self.collector = Collector(
            self.transport, released, Progress(self.events.append), identity=tiny.SERVER_KEYS
        )
        self.stage(0)

    def stage(self, index: int) -> None:
        """Go on to a stage."""
        stage = self.scenario.stages[index]
        self.releases, self.refusals = self.collector.collect(stage)
        self.sums = SumRounds(self.collector, stage, self.releases, self.refusals)

    def mean(self) -> Summed:
        """The mean of the parameters."""
        return self.sums.summed("parameters", None, [Part(None, MEAN)])

    def asked(self) -> list[tuple[str, list[str]]]:
        """Step and clients of every exchange of sums."""
        sent = [asks for asks in self.transport.asked if asks and asks[0].action == "sum"]
        return [(asks[0].body["step"], [a.client for a in asks]) for asks in sent]

    def ledger(self, name: str) -> list[dict[str, Any]]:
        """A client's own ledger."""
        return ClientStore(self.root / "clients" / name).entries()

    def plain(self, weights: dict[str, float], kind: str, queries: str | None) -> dict[str, Any]:
        """The weighted mean of the clients' own records, in float64."""
        found: dict[str, Any] = {}
        for name, weight in weights.items():
            party = tiny_sums.party(self.scenario, self.root, name, self.transport.setting)
            for key, array in tiny_sums.vector(party, kind, queries).items():
                share = weight / sum(weights.values()) * np.asarray(array, np.float64)
                found[key] = found.get(key, 0.0) + share
        return found


Make = Callable[..., Server]


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    """Servers with four clients each, whose stores are new."""
    made: list[Server] = []

    def make(**changes: Any) -> Server:
        made.append(Server(tmp_path / str(len(made)) if made else tmp_path, data, **changes))
        return made[-1]

    return make


# ---------------------------------------------------------------- honest clients


def test_parameters_are_the_weighted_mean(make: Make) -> None:
    """Without it merged models would be other than those of plain parameters."""
    server = make()
    found = server.sums.summed("parameters", None, [Part(None, MEAN), Part(None, UNEVEN)])
    assert found.experts == CLIENTS
    for values, weights in zip(found.values, (MEAN, UNEVEN), strict=True):
        plain = server.plain(weights, "parameters", None)
        assert list(values) == list(server.transport.setting.sizes.entries)
        assert max(np.abs(values[k] - plain[k]).max() for k in plain) <= ERROR
        assert all(v.dtype == np.float32 for v in values.values())
    assert found.bytes == 4 * sum(r["bytes"] for r in server.releases[:1])


def test_features_are_the_weighted_mean_task_by_task(make: Make) -> None:
    """Without it an ensemble under a map would mix another task's answers."""
    server = make()
    parts = [Part("second", UNEVEN), Part("first", MEAN)]
    found = server.sums.summed("features", "evaluation", parts)
    for value, weights, rows in zip(
        found.values, (UNEVEN, MEAN), (slice(7, 14), slice(0, 7)), strict=True
    ):
        plain = server.plain(weights, "features", "evaluation")["features"][rows]
        assert value["features"].shape == (7, 16)
        assert np.abs(value["features"] - plain).max() <= ERROR


def test_what_a_sum_leaves_on_record(make: Make) -> None:
    """Without it the report's releases would not be those of the clients' ledgers (law 9)."""
    server = make()
    server.mean()
    facts = ("client", "kind", "queries", "protection", "rows", "bytes", "sha256")
    for name, release, receipt in zip(
        CLIENTS, server.releases, server.collector.receipts, strict=True
    ):
        entry, outcome = server.ledger(name)
        assert receipt["entry"] == entry
        assert {k: entry[k] for k in facts} == {k: release[k] for k in facts}
        assert {k: receipt[k] for k in release} == release
        assert (release["client"], release["epsilon"]) == (name, None)
        assert outcome["survivors"] == list(CLIENTS)
    assert server.refusals == []
    assert server.collector.book.verified()
    assert server.events[-1] == {"task": "sums: parameters, secure sum", "done": 20, "total": 20}


def test_masked_parameters_come_one_client_at_a_time(make: Make) -> None:
    """Without it the server would hold every client's vector at once."""
    server = make()
    server.mean()
    masks = [[name] for name in CLIENTS]
    assert [names for step, names in server.asked() if step == "mask"] == masks
    assert [names for step, names in server.asked() if step != "mask"] == [list(CLIENTS)] * 4


def test_what_was_summed_once_is_not_asked_for_again(make: Make) -> None:
    """Without it every row of a report would be charged, and add to the leverage of nothing new."""
    stages = [{"name": name, "share": tiny_sums.SHARE} for name in ("sums", "later")]
    server = make(stages=stages)
    first = server.mean()
    before = len(server.asked())
    assert server.mean() is first
    server.stage(1)
    assert server.mean() is first
    assert len(server.asked()) == before
    assert server.releases == []
    server.sums.summed("parameters", None, [Part(None, UNEVEN)])
    assert len(server.asked()) > before


def test_records_of_sums_are_not_collected(make: Make) -> None:
    """Without it the server would ask for single records, and be refused by everyone."""
    server = make()
    assert (server.releases, server.refusals) == ([], [])
    assert [asks[0].action for asks in server.transport.asked] == ["hello"]


def test_queries_by_value_travel_with_the_mask(make: Make) -> None:
    """Without it sums of outputs could not be had where the server alone has the images."""
    server = make(queries={"pool": 6, "evaluation": 7, "travel": "value"})
    found = server.sums.summed("features", "evaluation", [Part("first", MEAN)])
    sent = [asks[0] for asks in server.transport.asked if asks[0].action == "sum"]
    sizes = {a.body["step"]: len(a.payload) for a in sent}
    assert sizes == {step: 14 * 3 * 32 * 32 if step == "mask" else 0 for step in STEPS}
    assert found.values[0]["features"].shape == (7, 16)


# ---------------------------------------------------------------- clients that are gone


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_client_that_falls_silent_is_left_out(step: str, after: bool, make: Make) -> None:
    """Without it one lost client would end every sum, or be half in it."""
    server = make(drops={"cyd": step}, after=after, on_refusal="continue")
    found = server.sums.summed("parameters", None, [Part(None, UNEVEN)])
    late = step in ("confirm", "reveal")
    kept = UNEVEN if late else {n: w for n, w in UNEVEN.items() if n != "cyd"}
    assert found.experts == tuple(kept)
    plain = server.plain(kept, "parameters", None)
    assert max(np.abs(found.values[0][k] - plain[k]).max() for k in plain) <= ERROR
    assert [(r["client"], r["kind"], r["reason"]) for r in server.refusals] == [
        ("cyd", "parameters", "missing: it rains")
    ]
    assert [r["client"] for r in server.releases] == list(kept)
    released = [e for e in server.ledger("cyd") if e["event"] == "release"]
    assert len(released) == (late or (step, after) == ("mask", True))
    outcome = next(e for e in server.ledger("ada") if e["event"] == "outcome")
    assert outcome["survivors"] == list(kept)


@pytest.mark.parametrize("step", STEPS)
def test_below_the_threshold_there_is_no_sum(step: str, make: Make) -> None:
    """Without it a sum over too few would be opened, or the run would end in a traceback."""
    server = make(drops={"cyd": step, "dan": step}, on_refusal="continue")
    with pytest.raises(NotAvailable) as caught:
        server.mean()
    text = str(caught.value)
    assert text == (
        "stage 'sums', a secure sum of parameters: 2 of 4 clients are left, below the threshold of "
        "3 (cyd: missing: it rains; and 1 more, see the refusals)"
    )
    asked = len(server.asked())
    with pytest.raises(NotAvailable, match="below the threshold"):
        server.mean()
    assert len(server.asked()) == asked, "in one stage it is not tried again"
    assert [r["client"] for r in server.refusals] == ["cyd", "dan"]


@pytest.mark.parametrize("step", STEPS)
def test_a_silent_client_ends_the_run_where_the_scenario_says_so(step: str, make: Make) -> None:
    """Without it a run that must be complete would go on without one client."""
    server = make(drops={"cyd": step})
    with pytest.raises(
        ClientMissing,
        match=r"^client 'cyd', stage 'sums', a secure sum of parameters: it rains; the scenario",
    ):
        server.mean()
    assert [r["reason"] for r in server.refusals] == ["it ended the run"]
    kept = {"mask": 2, "confirm": 4, "reveal": 4}.get(step, 0)
    assert len(server.releases) == kept, "what was received is on record"


# ---------------------------------------------------------------- clients that refuse


def test_who_must_refuse_is_not_asked(make: Make) -> None:
    """Without it the threshold would be counted from clients who can never take part."""
    policies = {"bob": {"never": ["parameters"]}}
    server = make(policies=policies, on_refusal="continue")
    assert server.mean().experts == ("ada", "cyd", "dan")
    reason = "not asked: policy of client 'bob': never parameters"
    assert server.refusals == [{"client": "bob", "kind": "parameters", "reason": reason}]
    assert all("bob" not in names for _, names in server.asked())
    with pytest.raises(NotAvailable):
        server.sums.summed("parameters", None, [Part(None, {**MEAN, "ada": 2.0})])
    assert [r["client"] for r in server.refusals].count("bob") == 1, "it is noted once"


def test_who_must_refuse_ends_the_run_where_the_scenario_says_so(make: Make) -> None:
    """Without it `on_refusal: stop` would not hold for sums."""
    server = make(policies={"bob": {"never": ["parameters"]}})
    with pytest.raises(ClientRefused, match=r"client 'bob', .*never parameters; the scenario says"):
        server.mean()


def test_a_clients_own_refusal_leaves_it_out(make: Make) -> None:
    """Without it one client's stricter limit would be everybody's failure."""
    policies = {"bob": {"budgets": {"max_leverage": 0.2}}}
    server = make(policies=policies, on_refusal="continue")
    assert server.mean().experts == ("ada", "cyd", "dan")
    (refusal,) = server.refusals
    assert refusal["reason"].startswith("refused: policy of client 'bob': leverage of client 'bob'")
    assert [e["event"] for e in server.ledger("bob")] == ["refusal"]
    stopped = make(policies=policies)
    with pytest.raises(ClientRefused, match=r"^client 'bob', stage 'sums', a secure sum of param"):
        stopped.mean()


def test_too_few_clients_are_a_reason_for_the_report(make: Make) -> None:
    """Without it a sum over two would be tried, or end the run."""
    policies = {name: {"never": ["parameters"]} for name in ("bob", "cyd")}
    server = make(policies=policies, on_refusal="continue")
    with pytest.raises(NotAvailable, match=r"a sum over 2 clients .*bob: not asked: policy of cli"):
        server.mean()
    assert server.asked() == []


def test_an_absent_client_is_not_invited(make: Make) -> None:
    """Without it every sum would wait for a client that has no expert."""
    server = make(on_refusal="continue")
    server.collector.absent["dan", "A"] = "preparing its expert of group A: no data"
    assert server.mean().experts == ("ada", "bob", "cyd")
    assert server.refusals[0]["reason"] == "preparing its expert of group A: no data"


NOT_SHARED = [
    ("logits", "evaluation", "stage 'sums' shares no secure sums of logits on evaluation queries"),
    ("features", "train", "stage 'sums' shares no secure sums of features on train queries"),
    ("offset-sum", None, "stage 'sums' shares no secure sums of offset-sum"),
]


@pytest.mark.parametrize(("kind", "queries", "reason"), NOT_SHARED)
def test_what_no_stage_shares_is_a_reason_for_the_report(
    kind: str, queries: str | None, reason: str, make: Make
) -> None:
    """Without it clients would be asked for what they are sure to refuse."""
    server = make()
    with pytest.raises(NotAvailable, match=reason):
        server.sums.summed(kind, queries, [Part(None, MEAN)])
    assert server.asked() == []


def test_terms_that_cannot_be_are_a_reason_for_the_report(make: Make) -> None:
    """Without it a threshold for another number of clients would be a traceback."""
    policies = {"bob": {"never": ["parameters"]}}
    server = make(secure_aggregation={"threshold": 4}, policies=policies, on_refusal="continue")
    with pytest.raises(NotAvailable, match="threshold is 4; allowed: more than half of 3 clients"):
        server.mean()
    with pytest.raises(NotAvailable, match="task 'third' is not one that features are of"):
        server.sums.summed("features", "pool", [Part("third", MEAN)])


def test_near_diagonal_maps_are_refused_by_every_client(make: Make) -> None:
    """Without it a map over the tasks would give every client's parameters away."""
    rows = [{n: 0.94 if n == own else 0.02 for n in CLIENTS} for own in CLIENTS]
    server = make(on_refusal="continue")
    with pytest.raises(NotAvailable, match=r"leverage of client 'ada' .* above max_leverage 0\.5"):
        server.sums.summed("parameters", None, [Part(None, row) for row in rows])
    assert server.releases == []
    assert [e["event"] for name in CLIENTS for e in server.ledger(name)] == ["refusal"] * 4
    assert server.mean().experts == CLIENTS, "what was refused does not count"


# ---------------------------------------------------------------- clients that are wrong


def _payload(answer: Answer, payload: bytes) -> Answer:
    body = {**answer.body, "sha256": hashlib.sha256(payload).hexdigest()}
    return dataclasses.replace(answer, payload=payload, body=body)


def _body(answer: Answer, **changes: Any) -> Answer:
    return dataclasses.replace(answer, body={**answer.body, **changes})


WRONG: dict[str, tuple[str, Callable[[Answer], Answer], str]] = {
    "truncated": ("mask", lambda a: _payload(a, bytes(a.payload[:-4])), "63932 bytes instead of"),
    "empty": ("mask", lambda a: _payload(a, b""), "0 bytes instead of 63936"),
    "too long": ("mask", lambda a: _payload(a, bytes(a.payload) + bytes(4)), "63940 bytes instead"),
    "another vector": (
        "mask", lambda a: dataclasses.replace(a, payload=bytes(len(a.payload))),
        "SHA-256 is not the one in the receipt",
    ),
    "another vector and its hash": (
        "mask", lambda a: _payload(a, bytes(len(a.payload))), "its signed entry says sha256",
    ),
    "no entry": ("mask", lambda a: _body(a, entry=None), "it sent no signed entry"),
    "two rows": ("mask", lambda a: _body(a, rows=2), "2 rows instead of 1"),
    "rows in words": ("mask", lambda a: _body(a, rows="one"), "'one' rows instead of 1"),
    "no keys": ("advertise", lambda a: _body(a, message=None), "it holds no message"),
    "keys in words": ("advertise", lambda a: _body(a, message="zz"), "it holds no message"),
    "half of the keys": (
        "advertise", lambda a: _body(a, message=a.body["message"][:80]), "it ends after 40 bytes",
    ),
    "shares of nobody": (
        "share", lambda a: _body(a, message=a.body["message"] + "00"), "1 bytes follow its end",
    ),
    "an unsigned word": (
        "confirm", lambda a: _body(a, message=a.body["message"][:-2] + "00"), "signature is wrong",
    ),
    "no shares": ("reveal", lambda a: _body(a, message=""), "in the middle of a field"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_reply_leaves_its_client_out(how: str, make: Make) -> None:
    """Without it one wrong message would spoil the sum, or end the run with a traceback."""
    step, spoil, problem = WRONG[how]
    server = make(spoil=spoil, step=step, on_refusal="continue")
    found = server.mean()
    kept = {n: w for n, w in MEAN.items() if n != "bob" or step in ("confirm", "reveal")}
    assert found.experts == tuple(kept)
    plain = server.plain(kept, "parameters", None)
    assert max(np.abs(found.values[0][k] - plain[k]).max() for k in plain) <= ERROR
    (refusal,) = server.refusals
    assert refusal["reason"].startswith("wrong reply: stage 'sums', a secure sum of parameters: ")
    assert problem in refusal["reason"]
    stopped = make(spoil=spoil, step=step)
    with pytest.raises(
        BadReply, match=r"^client 'bob', stage 'sums', a secure sum of parameters: "
    ):
        stopped.mean()


def _resigned(root: Path, answer: Answer, **changes: Any) -> Answer:
    """An answer whose entry the client itself signed with other words."""
    entry = {**answer.body["entry"], **changes}
    identity = ClientStore(root / "clients" / answer.client).identity
    digest = chain.entry_hash(entry)
    entry |= {"hash": digest, "signature": identity.sign(chain.PURPOSE, digest.encode())}
    return _body(answer, entry=entry)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"round": "cd" * 16}, "says round 'cdcd"),
        ({"sums": []}, "says sums []; allowed: a list of sums"),
        ({"protection": "none"}, "is of no sum, and says round"),
        ({"event": "outcome"}, "is of a 'outcome', not of a release"),
    ],
)
def test_an_entry_that_says_something_else_leaves_its_client_out(
    changes: dict[str, Any], problem: str, make: Make, tmp_path: Path
) -> None:
    """Without it the receipts would not prove under which weights a vector was summed."""
    server = make(spoil=lambda a: _resigned(tmp_path, a, **changes), on_refusal="continue")
    assert server.mean().experts == ("ada", "cyd", "dan")
    (refusal,) = server.refusals
    assert refusal["client"] == "bob"
    assert problem in refusal["reason"]


def _masked_otherwise(root: Path) -> Callable[[Answer], Answer]:
    """The client itself vouches for a vector that it did not mask."""

    def spoil(answer: Answer) -> Answer:
        payload = np.random.default_rng(1).integers(0, 2**32, 15984, np.uint32).tobytes()
        digest = hashlib.sha256(payload).hexdigest()
        return _resigned(root, _payload(answer, payload), sha256=digest)

    return spoil


def test_masks_that_do_not_cancel_are_seen(make: Make, tmp_path: Path) -> None:
    """Without it noise would be reported as a merged model."""
    server = make(spoil=_masked_otherwise(tmp_path), on_refusal="continue")
    with pytest.raises(NotAvailable, match="holds an entry that no sum within the clip can have"):
        server.mean()
    assert len(server.releases) == 4
    stopped = make(spoil=_masked_otherwise(tmp_path / "1"))
    with pytest.raises(
        BadReply, match=r"^stage 'sums', a secure sum of parameters: secure sum: the"
    ):
        stopped.mean()


# ---------------------------------------------------------------- a whole run


@pytest.fixture
def ran(data: Path, tmp_path: Path) -> Path:
    """The folder of a run through real messages: a merge of sums, and a client that refuses."""
    policies = [{}, {"budgets": {"max_leverage": 0.1}}, {}, {}]
    clients = [
        {"name": name, "task": task, "policy": policy}
        for name, task, policy in zip(CLIENTS, tiny_sums.TASKS, policies, strict=True)
    ]
    stages = [{"name": "sums", "share": tiny_sums.SHARE, "run": ["merge"]}]
    report = tiny.run(tmp_path, data, clients=clients, stages=stages, on_refusal="continue")
    rows = {r["method"]: r["status"] for s in report.data["stages"] for r in s["results"]}
    assert rows["simple-average"] == "ok"
    return tmp_path / "out"


def test_a_run_of_sums_verifies(ran: Path) -> None:
    """Without it releases within sums would be called forged, or outcomes missed."""
    (found,) = whole_run.verify(ran)
    assert found.failures == ()
    report = json.loads((ran / "report.json").read_text())
    (stage,) = report["stages"]
    assert {r["protection"] for r in stage["releases"]} == {"secure-aggregation"}
    assert {r["client"] for r in stage["refusals"]} == {"bob"}
    lines = (ran / "clients" / "ada" / "ledger.jsonl").read_text().splitlines()
    own = [json.loads(line) for line in lines]
    assert [e["event"] for e in own] == ["release", "outcome"] * (len(own) // 2)
    assert len(own) >= 4


def test_an_outcome_that_is_changed_is_found(ran: Path) -> None:
    """Without it a client could deny whose vectors it summed its own with."""
    file = ran / "clients" / "ada" / "ledger.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace('"cyd",', ""), *lines[2:]]) + "\n")
    (found,) = whole_run.verify(ran)
    assert "was changed" in str(found.failures[0])
    file.write_text("\n".join(lines[:1] + lines[2:]) + "\n")
    (found,) = whole_run.verify(ran)
    assert not found.holds
