"""Records to Flower messages and back; besides `engines/` the only library file that imports it.

A request or a reply is one `RecordDict`: `about` (JSON text) and, where there are bytes to carry,
`payload` (one uint8 array whose buffer is handed on as it is, without a copy).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.serverapp import Grid

from neulig_fl.core import strict_json
from neulig_fl.core.errors import (
    BadReply,
    ClientRefused,
    EngineError,
    NeuligError,
    one_line,
    plain,
)
from neulig_fl.records.transport import Answer, Ask, Status

MESSAGE_TYPES = {
    "hello": "query.hello",
    "prepare": "train.prepare",
    "release": "query.release",
    "sum": "query.sum",
    "close": "query.close",
}
"""The Flower message type that carries each action."""

REFUSED, FAILED, UNEXPECTED = 100, 101, 102
"""Codes of our own errors; their reasons are written by `answer_message` and safe to show."""

NO_REPLY = frozenset({0, 3, 4, 5, 8})
"""Flower's codes for a client process that died, a node that is gone, a message that expired."""

Respond = Callable[[Context, str, dict[str, Any], memoryview], tuple[dict[str, Any], bytes]]
"""A client's own logic: (context, action, body, payload) to (body, payload) of the reply."""

_STYPE = "neulig-fl.bytes"
_LONGEST_REASON = 400
_FIRST_SLEEP, _LONGEST_SLEEP = 0.02, 0.2
_LOGGER = logging.getLogger(__name__)


def encode(body: dict[str, Any], payload: bytes | memoryview = b"") -> RecordDict:
    """Pack details and raw bytes into what a Flower message holds.

    Args:
        body: JSON-able details; NaN and infinity are refused.
        payload: raw bytes; `bytes` are not copied.

    Raises:
        ValueError: the body holds a value that is not JSON-serialisable.

    Example:
        >>> decode(encode({"rows": 2}, b"ab"))[0]
        {'rows': 2}
    """
    text = json.dumps(body, allow_nan=False, separators=(",", ":"))
    records = RecordDict({"about": ConfigRecord({"json": text})})
    if len(payload):
        data = payload if isinstance(payload, bytes) else bytes(payload)
        array = Array(dtype="uint8", shape=(len(data),), stype=_STYPE, data=data)
        records["payload"] = ArrayRecord({"bytes": array})
    return records


def decode(records: RecordDict) -> tuple[dict[str, Any], memoryview]:
    """Unpack what `encode` packed; the payload is a read-only view, not a copy.

    Raises:
        BadReply: the records are not what `encode` makes.

    Example:
        >>> bytes(decode(encode({}, b"ab"))[1])
        b'ab'
    """
    try:
        body = strict_json.parsed(str(records.config_records["about"]["json"]))
        arrays = records.array_records
        array = arrays["payload"]["bytes"] if arrays else None
    except (KeyError, ValueError) as error:
        raise BadReply("the message does not hold the records of neulig-fl") from error
    if not isinstance(body, dict):
        raise BadReply(f"the message's body must be a mapping, got {type(body).__name__}")
    if array is None:
        return body, memoryview(b"")
    if array.stype != _STYPE or array.shape != (len(array.data),):
        raise BadReply(
            f"the message's payload must be {_STYPE} of {len(array.data)} bytes, "
            f"got {array.stype} of shape {array.shape}"
        )
    return body, memoryview(array.data)


class FlowerTransport:
    """The clients behind a Flower grid, as `neulig_fl.records.transport.Transport`.

    Making one waits for the nodes and asks each for its client's name: Flower's node ids are
    random and say nothing about who is behind them.

    Args:
        grid: what a ServerApp's main gets.
        clients: the names of the scenario's clients, in its order.
        hello_timeout: seconds to wait for the nodes, and again for their answers.
        log: takes one line of progress at a time.

    Raises:
        EngineError: two nodes say that they are the same client.
    """

    def __init__(
        self,
        grid: Grid,
        clients: Sequence[str],
        hello_timeout: float,
        log: Callable[[str], None] = _LOGGER.info,
    ) -> None:
        self._grid = grid
        self._clients = tuple(clients)
        self._log = log
        self._strays: list[str] = []
        self.carrier = str(grid.run.run_id)
        self.greetings: dict[str, dict[str, Any]] = {}
        """What each client that is there said to the first hello, by name."""
        self._nodes = self._meet(hello_timeout)

    @property
    def absent(self) -> tuple[str, ...]:
        """The clients that no node answered for, in the scenario's order."""
        return tuple(name for name in self._clients if name not in self._nodes)

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        """See `Transport.ask`. The wait starts anew with each answer that comes in.

        A node may run its clients one after the other, so a client is given up only when nothing
        at all has come for `timeout` seconds.

        Raises:
            EngineError: an action is unknown or a client is not one of the scenario's.
        """
        self._check(asks)
        present = [ask for ask in asks if ask.client in self._nodes]
        messages = [(ask, self._nodes[ask.client]) for ask in present]
        yield from self._exchange(messages, timeout)
        for ask in asks:
            if ask.client not in self._nodes:
                yield _without_content(ask, "missing", self._absence(ask.client))

    def _check(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            if ask.action not in MESSAGE_TYPES:
                allowed = ", ".join(MESSAGE_TYPES)
                raise EngineError(f"no action is called {ask.action!r}; allowed: {allowed}")
            if ask.client not in self._clients:
                raise EngineError(f"no client is called {ask.client!r} in this run")

    def _absence(self, client: str) -> str:
        said = f" ({'; '.join(self._strays)})" if self._strays else ""
        return f"no node answered hello as client {client}{said}"

    def _meet(self, timeout: float) -> dict[str, int]:
        nodes = _wait_for_nodes(self._grid, len(self._clients), timeout)
        self._log(f"{len(nodes)} of {len(self._clients)} nodes are there")
        asks = [(Ask(f"node {i + 1}", "hello"), node) for i, node in enumerate(nodes)]
        found: dict[str, int] = {}
        by_label = {ask.client: node for ask, node in asks}
        for answer in self._exchange(asks, timeout):
            name = answer.body.get("client")
            if answer.status != "ok":
                self._strays.append(f"{answer.client}: {answer.reason}")
            elif name not in self._clients:
                self._strays.append(f"{answer.client} is not a client of this scenario")
            elif name in found:
                raise EngineError(
                    f"two nodes say that they are client {name}; give every node its own "
                    "partition-id, then run again"
                )
            else:
                found[name] = by_label[answer.client]
                self.greetings[name] = answer.body
        return {name: found[name] for name in self._clients if name in found}

    def _exchange(self, asks: Iterable[tuple[Ask, int]], timeout: float) -> Iterator[Answer]:
        asks = list(asks)
        lifetime = timeout * max(1, len(asks)) + 5.0
        pending: dict[str, Ask] = {}
        unsent = []
        for ask, node in asks:
            message_id = self._push(ask, node, lifetime)
            if message_id is None:
                unsent.append(ask)
            else:
                pending[message_id] = ask
        yield from self._collect(pending, timeout)
        for ask in pending.values():
            key = ask.action if ask.action in ("hello", "prepare") else "answer"
            reason = (
                f"client {ask.client} did not answer {ask.action} within {timeout:g} s "
                f"(timeouts.{key} gives it longer)"
            )
            yield _without_content(ask, "missing", reason)
        for ask in unsent:
            reason = f"Flower could not send {ask.action} to client {ask.client}"
            yield _without_content(ask, "missing", reason)

    def _push(self, ask: Ask, node: int, lifetime: float) -> str | None:
        content = encode(ask.body, ask.payload)
        message = Message(content, node, MESSAGE_TYPES[ask.action], ttl=lifetime)
        # One at a time: Flower leaves a message that it cannot send out of the ids it returns.
        ids = list(self._grid.push_messages([message]))
        return str(ids[0]) if ids else None

    def _collect(self, pending: dict[str, Ask], timeout: float) -> Iterator[Answer]:
        """Yield what arrives and take it out of `pending`."""
        deadline, sleep = time.monotonic() + timeout, _FIRST_SLEEP
        while pending:
            replies = list(self._grid.pull_messages(list(pending)))
            if replies:
                yield from _matched(pending, replies)
                deadline, sleep = time.monotonic() + timeout, _FIRST_SLEEP
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(sleep, left))
            sleep = min(sleep * 1.5, _LONGEST_SLEEP)


def _matched(pending: dict[str, Ask], replies: list[Message]) -> Iterator[Answer]:
    """Match replies to what was asked, letting go of each before the next: they may be large."""
    while replies:
        reply = replies.pop()
        ask = pending.pop(reply.metadata.reply_to_message_id, None)
        if ask is not None:
            answer = _answer(ask, reply)
            del reply
            yield answer


def _wait_for_nodes(grid: Grid, wanted: int, timeout: float) -> list[int]:
    """List the nodes that are there, once there are enough or the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        nodes = sorted(grid.get_node_ids())
        if len(nodes) >= wanted or time.monotonic() >= deadline:
            return nodes
        time.sleep(_LONGEST_SLEEP / 2)


def _without_content(ask: Ask, status: Status, reason: str) -> Answer:
    return Answer(ask.client, ask.action, status, reason, {}, b"")


def _answer(ask: Ask, reply: Message) -> Answer:
    if reply.has_error():
        return _error_answer(ask, reply.error)
    try:
        body, payload = decode(reply.content)
    except BadReply as error:
        return _without_content(ask, "failed", f"client {ask.client}: {error}")
    return Answer(ask.client, ask.action, "ok", None, body, payload)


def _error_answer(ask: Ask, error: Error) -> Answer:
    """Flower's own reasons may hold tracebacks and paths, so only our own are shown."""
    if error.code == REFUSED:
        return _without_content(ask, "refused", one_line(error.reason))
    if REFUSED < error.code < REFUSED + 100:
        return _without_content(ask, "failed", one_line(error.reason))
    if error.code in NO_REPLY:
        reason = f"client {ask.client} was gone before it answered {ask.action}"
        return _without_content(ask, "missing", f"{reason} (Flower's code {error.code})")
    reason = f"client {ask.client} failed on {ask.action} outside neulig-fl"
    return _without_content(ask, "failed", f"{reason} (Flower's code {error.code}; see its log)")


def answer_message(message: Message, context: Context, respond: Respond) -> Message:
    """Answer one message on the client; whatever goes wrong becomes a Flower error.

    Only `public_reason` of our own errors leaves the client, or the error's class name: a message
    or a traceback may hold paths and values. The whole of it goes to the client's own log.

    Args:
        message: the request.
        context: the node's context, handed on to `respond`.
        respond: what the client does with the request.

    Returns:
        The reply: the encoded result, or an error of code 100 (refused), 101 (one of ours) or 102
        (anything else).
    """
    action = message.metadata.message_type.partition(".")[2]
    try:
        body, payload = decode(message.content)
        reply = Message(encode(*respond(context, action, body, payload)), reply_to=message)
    except ClientRefused as refusal:
        _LOGGER.info("refused %s: %s", action, refusal)
        reply = _error(message, REFUSED, refusal.public_reason or type(refusal).__name__)
    except NeuligError as error:
        _LOGGER.exception("could not answer %s", action)
        reply = _error(message, FAILED, error.public_reason or type(error).__name__)
    except Exception as error:
        _LOGGER.exception("could not answer %s", action)
        reply = _error(message, UNEXPECTED, f"unexpected {type(error).__name__}")
    return reply


def at_client(name: str) -> str:
    """What follows an error in a log that several clients write to: whose it is.

    Example:
        >>> at_client("north")
        "at client 'north'"
    """
    return f"at client {name!r}"


def _error(message: Message, code: int, reason: str) -> Message:
    """An error that can be sent: a reason may hold what the server asked, which need be no text."""
    reason = plain(reason, _LONGEST_REASON)
    return Message(Error(code=code, reason=reason), reply_to=message)
