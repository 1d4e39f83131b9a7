"""Records to Flower messages and back, and the clients behind a Flower grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.errors import BadReply, CheckpointError, ClientRefused, EngineError, InputError
from neulig_fl.records.transport import Ask
from neulig_fl.runtime.engines._local_grid import LocalGrid, server_identity
from neulig_fl.runtime.flower_messages import FlowerTransport, answer_message, decode, encode
from neulig_fl.runtime.node_config import client_config, server_config

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip
FOREVER = 1e6
"""A timeout that no test could wait for."""


@given(st.dictionaries(st.text(), JSON), st.binary())
def test_what_is_encoded_is_decoded(body: dict[str, Any], payload: bytes) -> None:
    """Without it details or bytes of a record would arrive changed."""
    decoded, view = decode(encode(body, payload))
    assert decoded == body
    assert bytes(view) == payload


def test_a_payload_is_not_copied() -> None:
    """Without it every copy of a large expert would cost its size again."""
    payload = b"expert" * 100
    assert decode(encode({}, payload))[1].obj is payload


def test_a_body_with_nan_is_refused() -> None:
    """Without it one side would write JSON that no other reader accepts."""
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"loss": float("nan")})


@pytest.mark.parametrize(
    "records",
    [
        RecordDict(),
        RecordDict({"about": ConfigRecord({"text": "{}"})}),
        RecordDict({"about": ConfigRecord({"json": "{"})}),
        RecordDict({"about": ConfigRecord({"json": "[]"})}),
        RecordDict({"about": ConfigRecord({"json": "{}"}), "payload": ArrayRecord()}),
        RecordDict(
            {
                "about": ConfigRecord({"json": "{}"}),
                "payload": ArrayRecord({"bytes": Array("uint8", (9,), "neulig-fl.bytes", b"abc")}),
            }
        ),
    ],
    ids=["empty", "no json", "broken json", "no mapping", "no array", "wrong size"],
)
def test_foreign_records_are_a_bad_reply(records: RecordDict) -> None:
    """Without it a malformed reply would end the server with a KeyError."""
    with pytest.raises(BadReply, match="the message"):
        decode(records)


# ---------------------------------------------------------------- the client's side


@pytest.fixture
def identity() -> Iterator[None]:
    """Let the test make messages as a server."""
    with server_identity():
        yield


def _context(node: int = 2, **node_config: Any) -> Context:
    return Context(1, node, node_config, RecordDict(), {"scenario": "s.json", "out": "out"})


def _request(action: str = "query.release") -> Message:
    return Message(encode({"kind": "features"}, b"ab"), 2, action)


@pytest.mark.usefixtures("identity")
def test_a_request_reaches_the_client_and_its_reply_comes_back() -> None:
    """Without it a client would answer something else than what it was asked."""

    def respond(
        context: Context, action: str, body: dict[str, Any], payload: memoryview
    ) -> tuple[dict[str, Any], bytes]:
        return {"node": context.node_id, "action": action, **body}, bytes(payload) * 2

    reply = answer_message(_request("train.prepare"), _context(), respond)
    assert decode(reply.content) == (
        {"node": 2, "action": "prepare", "kind": "features"},
        memoryview(b"abab"),
    )


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (ClientRefused("/secret/policy.yaml", public_reason="never parameters"), 100, "never p"),
        (ClientRefused("/secret/policy.yaml"), 100, "ClientRefused"),
        (CheckpointError("/secret/a.pt is truncated"), 101, "CheckpointError"),
        (CheckpointError("/secret", public_reason="wrong keys"), 101, "wrong keys"),
        (TypeError("/secret"), 102, "unexpected TypeError"),
    ],
)
def test_only_a_public_reason_leaves_the_client(
    raised: Exception, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it a client's error would disclose paths, or end its process."""

    def respond(*_: Any) -> tuple[dict[str, Any], bytes]:
        raise raised

    with caplog.at_level(logging.INFO, "neulig_fl"):
        reply = answer_message(_request(), _context(), respond)
    assert reply.error.code == code
    assert reason in str(reply.error.reason)
    assert "/secret" not in str(reply.error.reason)
    assert "/secret" in caplog.text


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("result", [({"x": float("inf")}, b""), ({}, 3), None])
def test_a_reply_that_cannot_be_sent_is_an_error_of_the_client(result: Any) -> None:
    """Without it a mistake in a client's reply would reach Flower as an exception."""
    reply = answer_message(_request(), _context(), lambda *_: result)
    assert reply.error.code == 102


def test_configs_are_read() -> None:
    """Without it server and clients would look for the scenario in the wrong place."""
    context = _context(**{"partition-id": 3, "store": "/private/north"})
    assert str(server_config(context).scenario) == "s.json"
    config = client_config(context)
    assert (config.partition, str(config.store("north"))) == (3, "/private/north")
    many = client_config(_context(**{"partition-id": 3, "stores": "/private"}))
    assert str(many.store("north")) == "/private/north"
    plain = client_config(_context(**{"partition-id": 0}))
    assert (plain.place, plain.keys, plain.policy, plain.address_book) == (None,) * 4
    own = {"partition-id": 0, "keys": "/private/keys", "policy": "/private/p0.yaml"}
    config = client_config(_context(**own))
    assert (str(config.keys), str(config.policy)) == ("/private/keys", "/private/p0.yaml")


@pytest.mark.parametrize("said", [{}, {"store": ""}, {"store": "north"}, {"store": 7}])
def test_whoever_starts_a_run_does_not_choose_a_store(said: dict[str, Any]) -> None:
    """Without it a submitter has a client forget what it released, by naming a new folder."""
    context = _context(**{"partition-id": 0, **said})
    context.run_config = {"scenario": "s.json", "stores": "/new", "out": "/new", "store": "/new"}
    with pytest.raises(InputError, match="the node config's store must be an absolute path, got"):
        client_config(context).store("north")


def test_a_nodes_environment_says_what_flower_has_no_word_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it the clients of a simulation, whose node configs Flower makes, have no store."""
    monkeypatch.setenv("NEULIG_NODE_STORES", "/private")
    monkeypatch.setenv("NEULIG_NODE_ADDRESS_BOOK", "/private/book.json")
    config = client_config(_context(**{"partition-id": 3}))
    assert str(config.store("north")) == "/private/north"
    assert str(config.address_book) == "/private/book.json"
    own = client_config(_context(**{"partition-id": 3, "stores": "/other"}))
    assert str(own.store("north")) == "/other/north"


def test_a_config_that_misses_something_says_what() -> None:
    """Without it a node that was set up wrongly would fail in a way that nobody understands."""
    with pytest.raises(InputError, match="partition-id must be an integer from 0, got None"):
        client_config(_context())
    with pytest.raises(InputError, match="partition-id must be an integer from 0, got -1"):
        client_config(_context(**{"partition-id": -1}))
    context = _context()
    context.run_config = {"scenario": ""}
    with pytest.raises(InputError, match="scenario must be a path, got ''; set it with"):
        server_config(context)


# ---------------------------------------------------------------- the server's side

Handler = Callable[[str, dict[str, Any]], Any]


def _echo(name: str, body: dict[str, Any]) -> Any:
    return body


def _client_app(handler: Handler) -> ClientApp:
    """Make a client app that says hello and hands everything else to `handler(name, body)`."""
    app = ClientApp()

    def name(context: Context) -> str:
        return f"c{context.node_config['partition-id']}"

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return Message(encode({"client": name(context)}), reply_to=message)

    @app.query("release")
    def release(message: Message, context: Context) -> Message:
        result = handler(name(context), decode(message.content)[0])
        if isinstance(result, Error):
            return Message(result, reply_to=message)
        return result and Message(encode(result, b"xyz"), reply_to=message)

    return app


def _grid(handler: Handler, count: int = 3) -> LocalGrid:
    contexts = [_context(2 + i, **{"partition-id": i}) for i in range(count)]
    return LocalGrid(_client_app(handler), contexts)


def _parties(handler: Handler, clients: int = 3) -> FlowerTransport:
    return FlowerTransport(_grid(handler), [f"c{i}" for i in range(clients)], 1.0)


def _asks(count: int = 3) -> list[Ask]:
    return [Ask(f"c{i}", "release", {"number": i}) for i in range(count)]


@pytest.mark.usefixtures("identity")
def test_every_client_is_asked_what_is_meant_for_it() -> None:
    """Without it a client's answer would be taken for another's."""
    parties = _parties(lambda name, body: {"me": name, **body})
    answers = {a.client: a for a in parties.ask(_asks(), FOREVER)}
    assert {n: (a.status, a.body) for n, a in answers.items()} == {
        f"c{i}": ("ok", {"me": f"c{i}", "number": i}) for i in range(3)
    }
    assert bytes(answers["c0"].payload) == b"xyz"
    assert parties.greetings["c1"] == {"client": "c1"}
    assert parties.absent == ()


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Error(100, "not\nthat\x1b[0m"), "refused", "not that [0m"),
        (Error(100, None), "refused", "no reason given"),
        (Error(101, "CheckpointError"), "failed", "CheckpointError"),
        (Error(2, "Traceback /secret/x.py"), "failed", "c1 failed on release outside neulig-fl"),
        (Error(0, "ActorDiedError /secret"), "missing", "c1 was gone before it answered release"),
        (Error(3, "expired"), "missing", "c1 was gone before it answered release"),
        (None, "missing", "c1 was gone before it answered release"),
    ],
)
def test_an_error_is_a_status_and_one_safe_line(
    error: Error | None, status: str, reason: str
) -> None:
    """Without it a refusal would look like a failure, or a traceback would end up in a report."""
    parties = _parties(lambda name, body: error if name == "c1" else body)
    answers = {a.client: a for a in parties.ask(_asks(), FOREVER)}
    assert [answers[name].status for name in ("c0", "c1", "c2")] == ["ok", status, "ok"]
    assert reason in str(answers["c1"].reason)
    assert "/secret" not in str(answers["c1"].reason)
    assert "\n" not in str(answers["c1"].reason)


@pytest.mark.usefixtures("identity")
def test_a_client_without_a_node_is_missing_and_comes_last() -> None:
    """Without it the server would wait for, or forget, a client that never came."""
    parties = _parties(_echo, clients=4)
    answers = list(parties.ask([Ask("c3", "release"), *_asks()], FOREVER))
    assert parties.absent == ("c3",)
    assert [a.client for a in answers][-1] == "c3"
    assert answers[-1].reason == "no node answered hello as client c3"


@pytest.mark.usefixtures("identity")
def test_silence_ends_at_the_timeout() -> None:
    """Without it a client that never answers would hold up the run for ever."""

    class Silent(LocalGrid):
        silent = False

        def pull_messages(self, message_ids: Any) -> list[Message]:
            return [] if self.silent else super().pull_messages(message_ids)

    grid = Silent(_client_app(_echo), [_context(2, **{"partition-id": 0})])
    parties = FlowerTransport(grid, ["c0"], 1.0)
    grid.silent = True
    (answer,) = parties.ask([Ask("c0", "release")], 0.05)
    assert (answer.status, answer.reason) == (
        "missing",
        "client c0 did not answer release within 0.05 s (timeouts.answer gives it longer)",
    )


@pytest.mark.usefixtures("identity")
def test_two_nodes_that_are_one_client_are_an_error() -> None:
    """Without it one client could answer in place of another."""
    contexts = [_context(2 + i, **{"partition-id": 0}) for i in range(2)]
    grid = LocalGrid(_client_app(_echo), contexts)
    with pytest.raises(EngineError, match="two nodes say that they are client c0"):
        FlowerTransport(grid, ["c0", "c1"], 1.0)


@pytest.mark.usefixtures("identity")
def test_why_a_node_could_not_say_hello_is_told() -> None:
    """Without it a client that fails at once would only be "not there"."""
    app = ClientApp()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return Message(Error(102, "unexpected ImportError"), reply_to=message)

    parties = FlowerTransport(LocalGrid(app, [_context()]), ["c0"], 1.0)
    (answer,) = parties.ask([Ask("c0", "release")], 1.0)
    assert str(answer.reason).endswith("as client c0 (node 1: unexpected ImportError)")


@pytest.mark.usefixtures("identity")
def test_a_reply_that_is_not_ours_is_a_failure() -> None:
    """Without it a client with another version would end the server with a KeyError."""
    app = _client_app(_echo)

    @app.train("prepare")
    def prepare(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    parties = FlowerTransport(LocalGrid(app, [_context(2, **{"partition-id": 0})]), ["c0"], 1.0)
    (answer,) = parties.ask([Ask("c0", "prepare")], 1.0)
    assert answer.status == "failed"
    assert "client c0: the message does not hold the records" in str(answer.reason)


@pytest.mark.usefixtures("identity")
def test_unknown_actions_and_clients_are_refused() -> None:
    """Without it a typo in a stage would look like a missing client."""
    parties = _parties(_echo)
    with pytest.raises(EngineError, match="no action is called 'relase'; allowed: hello, prepare"):
        next(parties.ask([Ask("c0", "relase")], 1.0))
    with pytest.raises(EngineError, match="no client is called 'north'"):
        next(parties.ask([Ask("north", "release")], 1.0))
