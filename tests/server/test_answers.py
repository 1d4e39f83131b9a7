"""Answers that a server keeps while its run is unfinished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neulig_fl.core.errors import InputError
from neulig_fl.records.transport import Answer, Ask, Status
from neulig_fl.server import answers
from neulig_fl.server.answers import Answers, KeptTransport


@dataclass
class _Clients:
    """Clients who answer everything with one status; `asked` has who was asked."""

    status: Status = "ok"
    asked: list[str] = field(default_factory=list)
    carrier: str = ""

    def ask(self, asks: Sequence[Ask], timeout: float) -> Iterator[Answer]:  # noqa: ARG002
        for ask in asks:
            self.asked.append(ask.client)
            body = {"n": len(self.asked)} if self.status == "ok" else {}
            yield Answer(ask.client, ask.action, self.status, None, body, b"bytes")


def _asks(action: str = "release", **body: object) -> list[Ask]:
    return [Ask(name, action, dict(body)) for name in ("ada", "bob")]


def _said(transport: KeptTransport, asks: list[Ask]) -> list[tuple[str, object, bytes]]:
    return [(a.client, a.body, bytes(a.payload)) for a in transport.ask(asks, 1.0)]


def test_who_answered_is_not_asked_again(tmp_path: Path) -> None:
    """Without it a client would be asked twice, or another process would be told otherwise."""
    clients = _Clients()
    first = _said(KeptTransport(clients, Answers(tmp_path)), _asks(kind="features"))
    later = KeptTransport(clients, Answers(tmp_path))
    assert _said(later, _asks(kind="features")) == first
    assert clients.asked == ["ada", "bob"]
    assert _said(later, _asks(kind="logits")) != first
    assert len(clients.asked) == 4


def test_hello_and_close_are_asked_of_every_process(tmp_path: Path) -> None:
    """Without it no client would know of a resumed server, nor sign the end of its ledger."""
    clients = _Clients()
    for action in ("hello", "close"):
        for _ in range(2):
            _said(KeptTransport(clients, Answers(tmp_path), complete=True), _asks(action))
    assert len(clients.asked) == 8
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_what_the_end_of_the_run_loses_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    """Without it a run that goes on without missing clients would lose those that Ctrl-C ended."""
    monkeypatch.setattr(answers, "_GRACE", 0.0)
    transport = KeptTransport(_Clients(status), Answers(tmp_path), lambda: True)
    with pytest.raises(InterruptedError):
        _said(transport, _asks())
    assert not list(tmp_path.iterdir())
    wanted = KeptTransport(_Clients(status), Answers(tmp_path), lambda: False)
    assert len(_said(wanted, _asks())) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_finished_stage_asks_nobody(tmp_path: Path) -> None:
    """Without it a lost file would have a finished stage asked again, and other results."""
    clients = _Clients()
    with pytest.raises(InputError, match="the answer of client ada in a finished stage"):
        _said(KeptTransport(clients, Answers(tmp_path), complete=True), _asks())
    assert clients.asked == []


def test_messages_of_a_sum_are_erased_and_no_others(tmp_path: Path) -> None:
    """Without it masked vectors would fill the disk; with more, a stage would be asked again."""
    kept = Answers(tmp_path)
    transport = KeptTransport(_Clients(), kept)
    _said(transport, _asks("release"))
    assert set(kept.hashes) == {"000001.answer", "000002.answer"}
    _said(transport, _asks("sum", step="mask"))
    assert set(kept.hashes) == {"000001.answer", "000002.answer"}, "no stage relies on them"
    kept.forget_sums()
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept.hashes)
    assert Answers(tmp_path).find(_asks("sum", step="mask")[0]) is None


def test_an_answer_may_be_nested_as_deep_as_is_read(tmp_path: Path) -> None:
    """Without it one client's reply would make a run that is killed impossible to resume."""
    deep: object = []
    for _ in range(47):
        deep = [deep]
    ask = Ask("ada", "release")
    kept = Answers(tmp_path)
    kept.keep(ask, Answer("ada", "release", "ok", None, {"x": deep}, b""))
    found = Answers(tmp_path).find(ask)
    assert found is not None
    assert found.body == {"x": deep}
