"""Signed requests: whatever a server asks, it signs, for one client, one run and one time.

A request is signed over run, client, action, number, details and the SHA-256 of its payload, so
none can be made by a relay, shown to another client, or carried into another run. Numbers rise: a
client answers none that is not above the last one, but the last one itself, word for word, where
the process that was at it died: Flower hands the message on once more then. Each process of a
server that goes on with a run has numbers of its own, above all of the one before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neulig_fl.core.errors import BadReply
from neulig_fl.ledger.chain import canonical
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.keys import Identity, PublicIdentity, signed_by
from neulig_fl.records.transport import Answer, Ask, Transport

_PURPOSE = "request"
_KEYS = frozenset({RUN, "number", "asked", "signature"})
_MOST_NUMBER = 2**53
NUMBERS = 2**32
"""Numbers of one process of a server; the next one's begin where they end."""


@dataclass(frozen=True)
class Signed:
    """A request whose signature was right.

    Args:
        run: the run's id.
        number: of the request among those to this client in this run, from 1.
        asked: its details.
        signature: its text, which no other request has.
    """

    run: str
    number: int
    asked: dict[str, Any]
    signature: str

    @property
    def resumed(self) -> int:
        """How often the run was resumed before its server asked this, as the number has it."""
        return self.number // NUMBERS


def signed(identity: Identity, run: str, number: int, ask: Ask) -> Ask:
    """A request as it travels.

    Args:
        identity: the server's keys.
        run: the run's id.
        number: above that of the last request to this client.
        ask: what is asked, of whom.
    """
    said = {RUN: run, "number": number, "asked": ask.body}
    signature = identity.sign(_PURPOSE, _message(said, ask.client, ask.action, ask.payload))
    return replace(ask, body={**said, "signature": signature})


def run_named(body: Mapping[str, Any]) -> str | None:
    """The run that a request names, if that is a text at all; nothing of it is believed yet."""
    run = body.get(RUN)
    return run if isinstance(run, str) else None


def opened(
    body: Mapping[str, Any],
    server: PublicIdentity,
    client: str,
    action: str,
    payload: bytes | memoryview,
) -> Signed:
    """What `signed` made, checked.

    Args:
        body: of the message.
        server: the server's keys in the run that the body names.
        client: who was asked.
        action: what for.
        payload: of the message.

    Raises:
        BadReply: it is no request, or not signed by the server for this client and this action.

    Example:
        >>> own = Identity.new()
        >>> ask = signed(own, "ab" * 16, 1, Ask("ada", "close"))
        >>> opened(ask.body, own.public, "ada", "close", b"").number
        1
    """
    if set(body) != _KEYS:
        raise BadReply.public("the request is not signed")
    said = {key: body[key] for key in (RUN, "number", "asked")}
    number = said["number"]
    if type(number) is not int or not 1 <= number <= _MOST_NUMBER:
        raise BadReply.public("the request has no number")
    if not isinstance(said["asked"], dict):
        raise BadReply.public("the request holds no details")
    try:
        message = _message(said, client, action, payload)
    except (ValueError, RecursionError):
        raise BadReply.public("the request holds what is not JSON") from None
    if not signed_by(server.key, _PURPOSE, message, body["signature"]):
        raise BadReply.public(
            "the request is not signed by the server of this run, for this client"
        )
    return Signed(said[RUN], number, said["asked"], body["signature"])


def _message(
    said: Mapping[str, Any], client: str, action: str, payload: bytes | memoryview
) -> bytes:
    digest = hashlib.sha256(payload).hexdigest()
    return canonical({**said, "client": client, "action": action, "payload": digest}).encode()


@dataclass
class SignedTransport:
    """The clients of a run, who are asked with signed requests; `hello` carries the opening.

    Args:
        transport: who carries the messages.
        identity: the server's keys.
        run: the run's id.
        resumed: how often the run was resumed; at that the numbers begin.
    """

    transport: Transport
    identity: Identity = field(repr=False)
    run: str
    resumed: int = 0
    _numbers: Counter[str] = field(init=False, default_factory=Counter)

    @property
    def carrier(self) -> str:
        """Flower's id of the run."""
        return self.transport.carrier

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        """See `Transport.ask`."""
        yield from self.transport.ask([self._signed(ask) for ask in asks], timeout)

    def _signed(self, ask: Ask) -> Ask:
        if ask.action == "hello":
            return ask
        self._numbers[ask.client] += 1
        number = self.resumed * NUMBERS + self._numbers[ask.client]
        return signed(self.identity, self.run, number, ask)
