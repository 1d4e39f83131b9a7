"""A Flower grid in this process: the real apps, messages copied as a wire would, no network."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast
from uuid import uuid4

from flwr.app import Array, ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID, SERVER_NODE, TASK_ID = 1, 1, 1
_RAISED, _GONE = 2, 5
"""Flower's codes: the client app raised; the node is not available."""
_LOGGER = logging.getLogger(__name__)

Around = Callable[[], AbstractContextManager[None]]


class LocalGrid(Grid):
    """Runs client apps in this process: one message at a time, when its reply is pulled.

    Running a client only then keeps one client's payload in memory, not everybody's. A handler
    that returns nothing is answered for with Flower's "node unavailable", because nothing can
    come any more; Flower itself would leave the server waiting.

    Args:
        client_app: what every client runs.
        contexts: one context for each client; its `node_id` is the node's.
        around: wraps each run of a client.
    """

    def __init__(
        self, client_app: ClientApp, contexts: Sequence[Context], around: Around = nullcontext
    ) -> None:
        self._client_app = client_app
        self._contexts = {context.node_id: context for context in contexts}
        self._around = around
        self._waiting: OrderedDict[str, Message] = OrderedDict()
        self._run = Run.create_empty(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Take over another run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The description of this run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message (Flower's old way; new code uses `Message`)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """List the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages; the ids of those whose node exists, as Flower does it."""
        ids = []
        for message in messages:
            if message.metadata.dst_node_id not in self._contexts:
                continue
            sent = _sent(message)
            self._waiting[sent.metadata.message_id] = sent
            ids.append(sent.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Run the client of the first of these messages that waits; its reply, or nothing."""
        wanted = frozenset(message_ids)
        for message_id in self._waiting:
            if message_id in wanted:
                return [self._reply(self._waiting.pop(message_id))]
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages and pull every reply; no client is started once the time is over."""
        ids = self.push_messages(messages)
        end = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while len(replies) < len(ids) and (end is None or time.monotonic() < end):
            replies += self.pull_messages(ids)
        return replies

    def _reply(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        try:
            with self._around():
                # Flower's types do not say so, but a handler may return nothing.
                reply = cast("Message | None", self._client_app(message, context))
            if reply is not None:
                return _sent(reply)
            error = Error(_GONE, "the client app returned no message")
        except Exception as failure:
            _LOGGER.exception("a client app raised")
            error = Error(_RAISED, f"{type(failure).__name__}: {failure}")
        return _sent(Message(error, reply_to=message))


def _sent(message: Message) -> Message:
    """Copy the message as the other side gets it, with an id.

    All but the arrays' buffers goes through protobuf, so what a wire cannot carry fails here too.
    The buffers are `bytes`, which nobody can change, so both sides may share them.
    """
    buffers = _buffers(message)
    copy = message_from_proto(message_to_proto(_without_buffers(message)))
    copy.metadata.__dict__["_message_id"] = str(uuid4())
    for (record, name), data in buffers.items():
        copy.content.array_records[record][name].data = data
    return copy


def _buffers(message: Message) -> dict[tuple[str, str], bytes]:
    if not message.has_content():
        return {}
    found = {}
    for key, record in message.content.array_records.items():
        for name, array in record.items():
            if not isinstance(array.data, bytes):
                raise TypeError(f"an array's data must be bytes, got {type(array.data).__name__}")
            found[key, name] = array.data
    return found


def _without_buffers(message: Message) -> Message:
    if not message.has_content():
        return message
    light = RecordDict()
    for key, record in message.content.items():
        light[key] = _hollow(record) if isinstance(record, ArrayRecord) else record
    hollow = Message(RecordDict(), reply_to=message)
    hollow.__dict__.update(message.__dict__, _content=light)
    return hollow


def _hollow(record: ArrayRecord) -> ArrayRecord:
    """Keep the names, shapes and types and leave the data out."""
    return ArrayRecord({k: Array(a.dtype, a.shape, a.stype, b"") for k, a in record.items()})


@contextmanager
def server_identity() -> Iterator[None]:
    """Let this process make messages as a server; Flower keeps who one is in class attributes."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    TaskIdentity.task_id, TaskIdentity.run_id = TASK_ID, RUN_ID
    TaskIdentity.node_id = SERVER_NODE
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)
