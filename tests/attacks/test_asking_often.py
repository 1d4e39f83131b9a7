"""Attacks by asking again and again: what each refused request costs, and what it can stop."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from neulig_fl.client import gate
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused, RunError
from neulig_fl.ledger import chain
from neulig_fl.ledger.chain import Entry
from neulig_fl.records.kinds import Arrays, Dimensions, Request
from neulig_fl.verification import reconciliation

RUN, OTHER = "ab" * 16, "cd" * 16
ALLOWED = Request("one", "A", "offset-sum")
FORBIDDEN = Request("one", "A", "parameters")


class Holdings:
    """An expert's offset sum; nothing else is made."""

    sizes = Dimensions(dim=2, classes=3, image_size=2, entries={"w": (2,)})
    data_hash, record_hash, expert, rows = "queries", "a record", "an expert", 1

    def fault(self) -> None:
        """As `gate.Held`."""

    def offset_sum(self) -> Arrays:
        """As `kinds.Holdings`."""
        return {"sum": np.ones(1)}

    def __getattr__(self, kind: str) -> Any:
        return lambda: pytest.fail(f"{kind} was made")

    def start(self) -> Arrays:
        """As `kinds.Holdings`."""
        return {}


@pytest.fixture
def scenario() -> Scenario:
    """Shares offset sums and nothing else."""
    clients = [{"name": "ada", "task": "digits"}, {"name": "bob", "task": "digits"}]
    stages = [{"name": "one", "share": [{"kind": "offset-sum"}]}]
    said = {"name": "often", "clients": clients, "stages": stages}
    return Scenario.model_validate_json(json.dumps(said))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """As many refusals of a run as are entered, here."""
    monkeypatch.setattr(chain, "MOST_REFUSALS", 5)
    return 5


def _side(scenario: Scenario, root: Path, run: str = RUN) -> gate.Side:
    return gate.Side(scenario, scenario.clients[0], ClientStore(root, run), server=tiny.SERVER)


def _ask(side: gate.Side, request: Request = ALLOWED) -> Entry:
    return gate.release(side, request, Holdings()).entry  # type: ignore[arg-type]


def _refused(side: gate.Side, times: int) -> list[str]:
    """Reasons of so many refusals, half of them of what is no request at all."""
    reasons = []
    for number in range(times):
        with pytest.raises(ClientRefused) as caught:
            gate.understood(side, {"kind": number}) if number % 2 else _ask(side, FORBIDDEN)
        reasons.append(str(caught.value.public_reason))
    return reasons


# ---------------------------------------------------------------- what a refusal costs


def test_no_line_of_a_ledger_is_checked_again_for_each_refusal(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a server that asks a thousand times makes each answer ten times as slow."""
    checked, real = [], chain._entry
    monkeypatch.setattr(chain, "_entry", lambda line: [checked.append(line), real(line)][1])
    for _ in range(40):  # each message may reach another object, and so another store
        _refused(_side(scenario, tmp_path / "ada"), 1)
    assert len(ClientStore(tmp_path / "ada").entries()) == 40
    assert len(checked) <= 2 * 40


def test_only_the_end_of_a_ledger_is_read_to_write_to_it(tmp_path: Path) -> None:
    """Without it each entry would be as slow as the ledger is long."""
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"x" * 200_000 + b"\n" + b"y" * 100)
    with path.open("rb") as file:
        assert chain._end_of_lines(file) == 200_001
        file.seek(0)
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert chain._end_of_lines(file) == 0
    path.write_bytes(b"z" * 70_000)
    with path.open("rb") as file:
        assert chain._end_of_lines(file) == 0


def _enter(root: Path, reason: str) -> None:
    ClientStore(root, RUN).note_refusal({"client": "ada"}, reason)


def test_what_another_process_enters_counts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it two processes of one client would fork its ledger, and both be over a limit."""
    root = tmp_path / "ada"
    for number in range(3):
        _enter(root, f"own {number}")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(chain, "_checked", {})  # what another process knows of it
            _enter(root, "theirs")
        found = ClientStore(root).entries()
        assert [e["reason"] for e in found[-2:]] == [f"own {number}", "theirs"]
    assert chain.verify(ClientStore(root).entries())


@pytest.mark.parametrize(
    "what", ["a byte", "a byte, at the same time", "an entry left out", "its file"]
)
def test_a_ledger_that_was_changed_is_checked_anew(what: str, tmp_path: Path) -> None:
    """Without it what was checked once would be believed of any file that took its place."""
    root = tmp_path / "ada"
    for number in range(4):
        _enter(root, f"never {number}")
    file = ClientStore(root).ledger_file
    found, content = file.stat(), file.read_bytes()
    if what == "an entry left out":
        lines = content.splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:1] + lines[2:]))
    elif what == "its file":
        beside = tmp_path / "beside"
        beside.write_bytes(content.replace(b"never 1", b"never 9"))
        os.utime(beside, ns=(found.st_atime_ns, found.st_mtime_ns))
        beside.replace(file)
    else:
        file.write_bytes(content.replace(b"never 1", b"never 9"))
        if what == "a byte, at the same time":
            os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(RunError, match="entry 1 "):
            ClientStore(root).entries()
        with pytest.raises(RunError, match="entry 1 "):
            _enter(root, "more")


def test_a_ledger_that_is_put_back_as_it_was_is_read_as_it_is(tmp_path: Path) -> None:
    """Without it a client would answer from its memory, and write behind what is not there."""
    root = tmp_path / "ada"
    for number in range(4):
        _enter(root, f"never {number}")
    file = ClientStore(root).ledger_file
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]))
    assert len(ClientStore(root).entries()) == 2
    _enter(root, "more")
    assert [e["index"] for e in chain.read(file)] == [0, 1, 2]
    file.unlink()
    assert ClientStore(root).entries() == []


# ---------------------------------------------------------------- how often a run can ask


def test_a_run_that_was_refused_often_gets_nothing_more(
    scenario: Scenario, few: int, tmp_path: Path
) -> None:
    """Without it a server fills a client's disk with refusals, and looks for a gap for ever."""
    side = _side(scenario, tmp_path / "ada")
    before = _ask(side)
    reasons = _refused(side, few + 4)
    assert chain.SILENT not in reasons[:few]
    assert set(reasons[few:]) == {chain.SILENT}
    size = side.store.ledger_file.stat().st_size
    for request in (ALLOWED, FORBIDDEN):
        with pytest.raises(ClientRefused, match="nothing of it is answered any more"):
            _ask(_side(scenario, tmp_path / "ada"), request)
    assert side.store.ledger_file.stat().st_size == size
    entries = side.store.entries()
    assert [e["event"] for e in entries] == ["release", *["refusal"] * few]
    assert entries[0] == before


def test_a_run_that_was_refused_often_has_no_expert_trained(
    scenario: Scenario, few: int, tmp_path: Path
) -> None:
    """Without it a server that gets no record any more could still keep a client busy training."""
    side = _side(scenario, tmp_path / "ada")
    assert gate.admit_preparing(side, {"group": "A"}) == "A"
    _refused(side, few)
    with pytest.raises(ClientRefused, match="nothing of it is answered any more"):
        gate.admit_preparing(side, {"group": "A"})
    assert len(side.store.entries()) == few


def test_the_end_of_a_ledger_is_told_also_to_a_run_that_was_refused_often(
    scenario: Scenario, few: int, tmp_path: Path
) -> None:
    """Without it nobody could check that the refusals which silenced a client are in its ledger."""
    side = _side(scenario, tmp_path / "ada")
    _refused(side, few)
    assert gate.admit_closing(side, {}, b"") == tiny.SERVER.identity
    with pytest.raises(ClientRefused, match="any more"):
        gate.admit_closing(side, {"stage": "one"}, b"")


def test_no_run_can_silence_a_client_for_another(
    scenario: Scenario, few: int, tmp_path: Path
) -> None:
    """Without it whoever may start one run shuts a client out of everybody's."""
    _refused(_side(scenario, tmp_path / "ada"), few + 1)
    other = _side(scenario, tmp_path / "ada", OTHER)
    assert _ask(other)["event"] == "release"
    assert _refused(other, few)[-1] != chain.SILENT
    with pytest.raises(ClientRefused, match="any more"):
        _ask(_side(scenario, tmp_path / "ada"))


def test_releases_that_are_granted_do_not_count_as_asking_often(
    scenario: Scenario, few: int, tmp_path: Path
) -> None:
    """Without it an honest run of many stages would be cut off."""
    side = _side(scenario, tmp_path / "ada")
    for _ in range(3 * few):
        _ask(side)
    assert {e["event"] for e in side.store.entries()} == {"release"}


@pytest.mark.parametrize("entered", [5, 4])
def test_a_client_that_fell_silent_is_believed_only_with_the_refusals(
    entered: int, few: int
) -> None:
    """Without it a run that asked too often would not verify, or any refusal could be invented."""
    entry = {"event": "refusal", "client": "ada", "run": RUN, "reason": "no"}
    own = [{**entry, "index": i} for i in range(entered)]
    receipts: list[dict[str, Any]] = [
        {"client": "ada", "reason": f"refused: {reason}"}
        for reason in [*["no"] * entered, *[chain.SILENT] * 3]
    ]
    found = reconciliation.disagreement("ada", own, receipts, RUN)
    assert (found is None) == (entered == few)


def test_a_refusal_quotes_no_more_than_fits(scenario: Scenario, tmp_path: Path) -> None:
    """Without it one request could put a megabyte into the ledger, or a cursor into a terminal."""
    side = _side(scenario, tmp_path / "ada")
    with pytest.raises(ClientRefused) as caught:
        gate.refuse(side, "\x1b[2J" + "\ud800" + "x" * 10_000, ALLOWED)
    reason = str(caught.value.public_reason)
    assert reason.isprintable()
    assert len(reason) < 400
    assert side.store.entries()[-1]["reason"] == reason
    assert side.store.ledger_file.stat().st_size < 2_000


@pytest.mark.parametrize("field", ["stage", "group", "kind", "queries", "protection"])
def test_half_a_character_never_enters_a_ledger(
    field: str, scenario: Scenario, tmp_path: Path
) -> None:
    """Without it one request makes a ledger that its owner cannot read, and silences it for ever."""
    side = _side(scenario, tmp_path / "ada")
    with pytest.raises(ClientRefused, match="not one that neulig-fl makes"):
        gate.understood(side, {**asdict(ALLOWED), field: "\ud800"})
    assert _ask(_side(scenario, tmp_path / "ada"))["event"] == "release"


def test_what_could_not_be_read_again_is_not_entered(tmp_path: Path) -> None:
    """Without it an entry that gets past every check would still cut its owner off."""
    _enter(tmp_path / "ada", "no")
    file = ClientStore(tmp_path / "ada").ledger_file
    deep: Any = 0
    for _ in range(60):
        deep = [deep]
    for fact in ({"x": "\ud800"}, {"x": deep}, {"x": 10**200}):
        with pytest.raises(RunError, match="could not be read again"):
            chain.append(file, fact)
    assert len(chain.read(file)) == 1
