"""Requests as a server signs them for each client, and as a client reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from neulig_fl.core.errors import BadReply
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.signed_requests import SignedTransport, opened, run_named, signed
from neulig_fl.records.transport import Answer, Ask

RUN = "ab" * 16
SERVER = Identity.new()


@dataclass
class Wire:
    """The edge of the machine: what was sent, and nothing comes back."""

    carrier: str = "17"
    sent: list[Ask] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        """As `Transport.ask`."""
        self.sent += asks
        self.timeouts.append(timeout)
        yield from ()


def test_each_client_has_numbers_of_its_own() -> None:
    """Without it a client would see how often others were asked, or refuse what is next."""
    wire = Wire()
    parties = SignedTransport(wire, SERVER, RUN)
    asks = [Ask("ada", "hello", {"opening": 1}), Ask("ada", "close", {"x": 1}), Ask("bob", "close")]
    assert list(parties.ask([*asks, asks[1]], 9.0)) == []
    assert parties.carrier == "17"
    assert wire.timeouts == [9.0]
    assert wire.sent[0] == asks[0], "hello carries the opening, which is signed by itself"
    numbers = [
        opened(ask.body, SERVER.public, ask.client, ask.action, ask.payload).number
        for ask in wire.sent[1:]
    ]
    assert numbers == [1, 1, 2]
    found = opened(wire.sent[1].body, SERVER.public, "ada", "close", b"")
    assert (found.run, found.asked) == (RUN, {"x": 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"number": 0}, "the request has no number"),
        ({"number": True}, "the request has no number"),
        ({"number": 2**53 + 1}, "the request has no number"),
        ({"asked": []}, "the request holds no details"),
        ({"asked": {"x": float("nan")}}, "the request holds what is not JSON"),
        ({"asked": {"y": 1}}, "the request is not signed by the server of this run"),
        ({"extra": 1}, "the request is not signed"),
    ],
)
def test_what_was_changed_is_not_read(change: dict[str, object], reason: str) -> None:
    """Without it a relay could put other details under a server's signature."""
    ask = signed(SERVER, RUN, 1, Ask("ada", "close", {"x": 1}))
    with pytest.raises(BadReply, match=reason) as error:
        opened({**ask.body, **change}, SERVER.public, "ada", "close", b"")
    assert error.value.public_reason


def test_the_largest_number_is_one() -> None:
    """Without it a run of many requests would end before it has to."""
    for number in (1, 2**53):
        ask = signed(SERVER, RUN, number, Ask("ada", "close"))
        assert opened(ask.body, SERVER.public, "ada", "close", b"").number == number


def test_a_signature_is_for_requests_alone() -> None:
    """Without it what a server signed for another purpose would pass for a request."""
    ask = signed(SERVER, RUN, 1, Ask("ada", "close"))
    other = replace(ask, body={**ask.body, "signature": SERVER.sign("opening", b"x")})
    with pytest.raises(BadReply, match="not signed by the server"):
        opened(other.body, SERVER.public, "ada", "close", b"")


def test_a_run_is_named_by_a_text() -> None:
    """Without it a request that names a list would crash the client before it is refused."""
    assert run_named({"run": RUN}) == RUN
    assert run_named({"run": ["x"]}) is None
    assert run_named({}) is None
