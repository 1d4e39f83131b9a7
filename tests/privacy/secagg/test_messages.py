"""Messages: what was written is read, and nothing else is; only this project's errors come out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import sum_round
from hypothesis import given, settings
from hypothesis import strategies as st
from sum_round import Round

from neulig_fl.core.errors import ClientRefused, RunError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import ClientState
from neulig_fl.privacy.secagg.messages import Advert, Delivery, Roster, Shares
from neulig_fl.privacy.secagg.state import Step
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Request, Reveal
from neulig_fl.privacy.secagg.wire import (
    Reader,
    body,
    head,
    in_order,
    pack_blob,
    pack_count,
    pack_name,
    pack_names,
    read_signature,
)


@cache
def _done(context: bytes = b"one") -> Round:
    """A round in which c-003 dropped out; nobody changes it."""
    return Round(sum_round.terms(4, context=context), drops={"c-003": "mask"}).until("reveal")


def _messages(made: Round) -> dict[str, tuple[Any, bytes]]:
    return {
        "advert": (Advert, made.sent["advertise"]["c-000"]),
        "roster": (Roster, made.told["roster"]),
        "shares": (Shares, made.sent["share"]["c-000"]),
        "delivery": (Delivery, made.told["deliveries"]["c-000"]),
        "outcome": (Outcome, made.told["outcome"]),
        "confirmation": (Confirmation, made.sent["confirm"]["c-000"]),
        "request": (Request, made.told["request"]),
        "reveal": (Reveal, made.sent["reveal"]["c-000"]),
    }


KINDS = list(_messages(_done()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_read_as_it_was_written(kind: str) -> None:
    """Without it one side would sign other bytes than the other one checks."""
    digest = _done().terms.digest
    made, data = _messages(_done())[kind]
    assert made.read(data, digest).to_bytes(digest) == data


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_of_its_kind_and_its_terms(kind: str) -> None:
    """Without it one message could stand for another, or for one of another round."""
    digest = _done().terms.digest
    made, data = _messages(_done())[kind]
    for other, (_, wrong) in _messages(_done()).items():
        if other != kind:
            with pytest.raises(ValueError, match="it is no such message"):
                made.read(wrong, digest)
    _, stale = _messages(_done(b"two"))[kind]
    with pytest.raises(ValueError, match="it was made under other terms"):
        made.read(stale, digest)
    assert len(data) > 38


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_refused_or_read_as_they_are(kind: str, data: st.DataObject) -> None:
    """Without it two different messages would mean the same, or a few bytes would be a traceback."""
    digest = _done().terms.digest
    made, right = _messages(_done())[kind]
    changed = _changed(right, data)
    with contextlib.suppress(ValueError):
        assert made.read(changed, digest).to_bytes(digest) == changed


def _changed(right: bytes, data: st.DataObject) -> bytes:
    """The bytes with a piece cut out, put in or replaced; or any bytes at all."""
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(right)))
        end = data.draw(st.integers(start, min(len(right), start + 8)))
        return right[:start] + data.draw(st.binary(max_size=8)) + right[end:]
    return right[: data.draw(st.sampled_from([0, 6, 38]))] + data.draw(st.binary(max_size=300))


def _steps(made: Round) -> dict[str, tuple[str, Callable[[ClientState, bytes], object]]]:
    """What a client is asked at each step: the right message's name, and the call."""
    verify = made.keys.verify
    return {
        "advertise": ("roster", lambda s, m: secagg.share(s, m, verify)),
        "share": ("delivery", lambda s, m: secagg.mask(s, m, [], 0.1)),
        "mask": ("outcome", lambda s, m: secagg.confirm(s, m)),
        "confirm": ("request", lambda s, m: secagg.reveal(s, m, verify)),
    }


@cache
def _stopped(step: str) -> tuple[Round, ClientState]:
    """A round right after a step, and the state of c-000."""
    made = Round(sum_round.terms(4), drops={"c-003": "mask"}).until(step)
    return made, made.state("c-000")


@pytest.mark.parametrize("step", ["advertise", "share", "mask", "confirm"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_server_sends_a_client_answers_or_refuses(
    step: str, data: st.DataObject
) -> None:
    """Without it a server could stop a client's process, or make it answer what nobody wrote."""
    made, state = _stopped(step)
    kind, ask = _steps(made)[step]
    right = made.told["deliveries"]["c-000"] if kind == "delivery" else made.told[kind]
    ask(state, right)
    changed = _changed(right, data)
    if changed == right:
        return
    with pytest.raises(ClientRefused) as caught:
        ask(state, changed)
    assert caught.value.public_reason


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_state_is_a_run_error(data: st.DataObject) -> None:
    """Without it a client could go on from half a state, or end in a traceback."""
    right = _done().stored["c-000"]
    changed = _changed(right, data)
    if changed == right:
        return
    problem = "its stored state of a secure sum is damaged"
    with pytest.raises(RunError, match=f"{problem}; leave the") as caught:
        ClientState.from_bytes(changed)
    assert caught.value.public_reason == problem


@pytest.mark.parametrize("step", ["advertise", "share", "mask", "confirm"])
def test_a_state_is_read_as_it_was_stored(step: str) -> None:
    """Without it the next message, which may reach a new process, would be refused."""
    made, state = _stopped(step)
    assert state.to_bytes() == made.stored["c-000"]
    again = ClientState.from_bytes(state.to_bytes())
    assert again == state
    assert again.terms.digest == state.terms.digest


def test_what_lies_on_the_wire() -> None:
    """Without it two versions that read themselves alone would not read one another."""
    assert (SELF, MASK) == (0, 1)
    assert [(step.name, int(step)) for step in Step] == [
        ("ADVERTISED", 1),
        ("SHARED", 2),
        ("MASKED", 3),
        ("CONFIRMED", 4),
        ("REVEALED", 5),
    ]
    assert pack_count(0x0102) == b"\1\2"
    assert pack_name("\u00fc") == b"\2\xc3\xbc"
    assert pack_names(("a", "bc")) == b"\0\2\1a\2bc"
    assert pack_blob(b"ab") == b"\0\0\0\2ab"
    assert head(b"k", b"terms") == b"NLSS1kterms"
    reader = Reader(b"\1\2\2\xc3\xbc\0\2\1a\2bc\0\0\0\2ab")
    read = (reader.count(), reader.name(), reader.names(), reader.blob(), reader.end())
    assert read == (0x0102, "\u00fc", ("a", "bc"), b"ab", None)


@pytest.mark.parametrize(
    ("data", "read", "says"),
    [
        (b"", Reader.count, "it ends after 0 bytes, in the middle of a field"),
        (b"\0", Reader.count, "it ends after 1 bytes, in the middle of a field"),
        (b"\2a", Reader.name, "it ends after 2 bytes"),
        (b"\0\0\0\2a", Reader.blob, "it ends after 5 bytes"),
        (b"\0", Reader.name, "a name in it is empty"),
        (b"\1\xff", Reader.name, "a name in it is not UTF-8"),
        (b"\0\2\1b\1a", Reader.names, "a list of names in it is unsorted or holds a name twice"),
        (b"\0\2\1a\1a", Reader.names, "a list of names in it is unsorted or holds a name twice"),
        (b"ab", Reader.end, "2 bytes follow its end"),
        (
            pack_blob(bytes(1025)),
            read_signature,
            "a signature in it has 1025 bytes, over 1024",
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    data: bytes, read: Callable[[Reader], object], says: str
) -> None:
    """Without it whoever writes another client could not find the mistake."""
    with pytest.raises(ValueError, match=f"^{says}"):
        read(Reader(data))
    assert read_signature(Reader(pack_blob(bytes(1024)))) == bytes(1024)


def test_a_head_is_of_one_kind_one_version_and_some_terms() -> None:
    """Without it a message could be read as another one, or as one of another version."""
    terms = bytes(range(32))
    assert body(head(b"k", terms) + b"x", b"k", terms).take(1) == b"x"
    for wrong in (head(b"j", terms), b"NLSS2k" + terms, b"nlss1k" + terms):
        with pytest.raises(ValueError, match=r"^it is no such message$"):
            body(wrong, b"k", terms)
    with pytest.raises(ValueError, match=r"^it was made under other terms"):
        body(head(b"k", bytes(32)), b"k", terms)


@given(st.lists(st.text(min_size=1, max_size=40), max_size=6, unique=True))
def test_names_of_any_script_survive(found: list[str]) -> None:
    """Without it a client whose name is not ASCII could not take part."""
    clean = sorted(n for n in found if 0 < len(n.encode(errors="ignore")) < 256 and _utf8(n))
    assert Reader(pack_names(clean)).names() == tuple(clean)
    assert in_order(clean) == tuple(clean)


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
