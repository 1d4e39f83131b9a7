"""Asking clients: one answer for each, and who is still waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from neulig_fl.core.progress import Event, Progress
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.server import asking


class _Clients:
    """Clients that answer in the reverse order; what they were asked together stays on record."""

    carrier = ""

    def __init__(self) -> None:
        self.together: list[list[str]] = []

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:
        assert timeout == 7.0
        self.together.append([ask.client for ask in asks])
        for ask in reversed(asks):
            yield Answer(ask.client, ask.action, "ok", None, {}, b"")


@pytest.fixture(autouse=True)
def _every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neulig_fl.core.progress._EVERY_SECONDS", 0.0)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_who_is_waited_for_is_shown(one_by_one: bool) -> None:
    """Without it a run that waits for one client looks as if it were stuck."""
    events: list[Event] = []
    names = ["ada", "bob", "cyd", "dan", "eve"]
    bar = Progress(events.append).task("hello", len(names))
    clients = _Clients()
    asks = [Ask(name, "hello") for name in names]
    came = asking.answers(clients, asks, 7.0, bar, one_by_one=one_by_one)
    order = [answer.client for answer in came]
    assert order == (names if one_by_one else names[::-1])
    assert clients.together == ([[name] for name in names] if one_by_one else [names])
    said = [event.get("says", "") for event in events]
    left = [names[at:] if one_by_one else names[: 5 - at] for at in range(6)]
    assert said == ["", *(asking.waited_for(each) for each in left)]
    assert said[1] == "waiting for ada, bob, cyd and 2 more"
    assert events[-1] == {"task": "hello", "done": 5, "total": 5}


def test_nobody_asked_is_nothing_shown() -> None:
    """Without it a task whose clients were all left out would end twice on the screen."""
    events: list[Event] = []
    bar = Progress(events.append).task("hello", 1)
    bar.advance()
    assert list(asking.answers(_Clients(), [], 7.0, bar)) == []
    assert [event["done"] for event in events] == [0, 1]
