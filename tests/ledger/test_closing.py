"""The closing: what a client signs of its ledger's end, and what a server believes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny

from neulig_fl.ledger import chain
from neulig_fl.ledger.closing import closing, problem
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.transport import Answer, Ask

RUN = "ab" * 16
ADA, SERVER = Identity.new(), Identity.new()
SAID: dict[str, Any] = {
    "stages": [{"name": "one", "share": [{"kind": "offset-sum"}]}],
    "on_refusal": "continue",
}


def _entries(count: int) -> list[chain.Entry]:
    made: list[chain.Entry] = []
    for number in range(count):
        made.append(chain.extended(made, {"client": "ada", "rows": number}, ADA))
    return made


def _problem(said: object, latest: chain.Entry | None = None) -> str | None:
    return problem(said, "ada", RUN, SERVER.key, ADA.key, latest)


def test_an_honest_closing_is_believed() -> None:
    """Without it no ledger's end would ever be vouched for."""
    for count in (0, 1, 3):
        entries = _entries(count)
        said = closing(ADA, "ada", RUN, SERVER.key, entries)
        assert _problem(said) is None
        assert all(_problem(said, each) is None for each in entries)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"client": "bob"}, "says client 'bob' where 'ada' is right"),
        ({"run": "cd" * 16}, "says run 'cdcd"),
        ({"server": ADA.key}, "says server 'ed25519:"),
        ({"entries": 2}, "is not signed by its key"),
        ({"head": "ef" * 32}, "is not signed by its key"),
        ({"signature": "A" * 86}, "is not signed by its key"),
        ({"signature": None}, "is not signed by its key"),
        ({"entries": 0}, "does not say the hash"),
        ({"head": None}, "does not say the hash"),
        ({"head": "EF" * 32}, "does not say the hash"),
        ({"entries": -1}, "does not say how many"),
        ({"entries": True}, "does not say how many"),
        ({"entries": 3.0}, "does not say how many"),
        ({"entries": 10**400}, "does not say how many"),
        ({"more": 1}, "is none"),
    ],
)
def test_what_is_no_closing_is_not_believed(change: dict[str, Any], wanted: str) -> None:
    """Without it another's, an older or an edited one would pass for this client's."""
    said = closing(ADA, "ada", RUN, SERVER.key, _entries(3)) | change
    found = _problem(said)
    assert found is not None
    assert found.startswith(wanted)


@pytest.mark.parametrize("said", [None, [], "x", {}, {"client": "ada"}])
def test_what_is_nothing_of_the_kind_is_not_believed(said: object) -> None:
    """Without it a strange reply would be a traceback in the server."""
    assert _problem(said) == "is none"


def test_an_end_before_what_was_signed_is_not_believed() -> None:
    """Without it a client could cut its ledger before it says where that ends."""
    entries, other = _entries(3), _entries(2)
    other.append(chain.extended(other, {"client": "ada", "rows": 9}, ADA))
    short = closing(ADA, "ada", RUN, SERVER.key, entries[:2])
    assert _problem(short, entries[2]) == (
        "says that its ledger has 2 entries, and it signed entry 2"
    )
    forked = closing(ADA, "ada", RUN, SERVER.key, other)
    assert _problem(forked, entries[2]) == (
        "says another last entry than the one that it signed as entry 2"
    )


def test_a_server_asks_everyone_once_and_waits_for_nobody_who_was_silent(
    data: Path, tmp_path: Path
) -> None:
    """Without it a run whose client hangs would hang for as long again at its end."""
    found = tiny.collector(tmp_path, data, **SAID)
    stage = found.released.setting.scenario.stages[0]
    parties: Any = found.transport
    honest = parties.answer

    def silent(ask: Ask) -> Answer:
        if ask.client == "bob" and ask.action == "release":
            return Answer("bob", ask.action, "missing", "it rains", {}, b"")
        return honest(ask)  # type: ignore[no-any-return]

    parties.answer = silent
    found.collect(stage)
    closings = found.close()
    assert [each.client for each in parties.asked[-1]] == ["ada", "cyd"]
    assert closings["bob"] == {"reason": "it did not answer before"}
    assert [closings[name]["entries"] for name in ("ada", "cyd")] == [1, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "refused", "reason": "no"}, "refused: no"),
        ({"body": {"client": "bob"}}, "wrong reply: its closing is none"),
    ],
)
def test_a_closing_that_is_none_ends_no_run(
    change: dict[str, Any], reason: str, data: Path, tmp_path: Path
) -> None:
    """Without it the last message of a run could throw away all that it found."""

    def spoiled(answers: list[Answer]) -> list[Answer]:
        return [
            dataclasses.replace(each, **change)
            if (each.client, each.action) == ("bob", "close")
            else each
            for each in answers
        ]

    found = tiny.collector(tmp_path, data, spoiled, **SAID | {"on_refusal": "stop"})
    found.collect(found.released.setting.scenario.stages[0])
    closings = found.close()
    assert closings["bob"] == {"reason": reason}
    assert closings["ada"]["entries"] == 1
