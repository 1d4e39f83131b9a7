"""What a server that is resumed may ask, and what nobody may ask in its name."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_sums
from tiny_sums import STEPS, Hand

from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.server_identity import Servers
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import ClientRefused
from neulig_fl.ledger import chain
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.kinds import Request
from neulig_fl.records.signed_requests import NUMBERS, signed
from neulig_fl.records.transport import Ask

RUN, TOKEN, OTHER_TOKEN = "ab" * 16, "cd" * 16, "ef" * 16
POOL = asdict(Request("outputs", "A", "features", "pool"))
SEALED = asdict(Request("outputs", "A", "features", "pool", protection="sealed"))


@pytest.fixture
def party(data: Path, tmp_path: Path) -> ClientHandler:
    """A client at which a run began."""
    share = [{"kind": "features", "queries": ["pool"], "protection": "sealed"}]
    stages = [
        {"name": "outputs", "share": share},
        {"name": "more", "share": [{"kind": "features"}]},
    ]
    scenario = tiny.scenario(tmp_path, data, stages=stages)
    found = _party(scenario, tmp_path)
    found.answer("hello", {OPENING: _first(scenario).signed(tiny.SERVER_KEYS)}, b"")
    return found


def _party(scenario: Scenario, root: Path, carrier: str = "1") -> ClientHandler:
    return ClientHandler(scenario, scenario.seed, "ada", root / "ada", carrier=carrier)


def _first(scenario: Scenario) -> Opening:
    return Opening.of(scenario, RUN, "1", tiny.SERVER_KEYS)


def _resume(party: ClientHandler, times: int = 1, token: str = TOKEN, **changes: Any) -> None:
    made = replace(_first(party.scenario), resumed=times, token=token, **changes)
    server = Identity.new() if changes.get("server") else tiny.SERVER_KEYS
    party.answer("hello", {OPENING: made.signed(server)}, b"")


def _ask(
    party: ClientHandler, number: int, asked: dict[str, Any], action: str = "release"
) -> tiny.Reply:
    ask = Ask("ada", action, asked)
    return party.answer(action, signed(tiny.SERVER_KEYS, RUN, number, ask).body, b"")


def _ledger(party: ClientHandler) -> list[chain.Entry]:
    return chain.read(party.root / "ledger.jsonl")


def test_a_lost_reply_is_given_again_to_the_resumed_server(party: ClientHandler) -> None:
    """Without it a sealed record would leave twice, and the server have a receipt of one alone."""
    first = _ask(party, 1, SEALED)
    _resume(party)
    again = _ask(party, NUMBERS + 1, SEALED)
    assert (again[0], bytes(again[1])) == (first[0], bytes(first[1]))
    assert [entry["event"] for entry in _ledger(party)] == ["release"]


@pytest.mark.parametrize("rules", ["budgets: {not_after: 2020-01-01}", "never: [features]"])
def test_what_the_owner_forbade_since_is_not_given_again(
    rules: str, party: ClientHandler, tmp_path: Path
) -> None:
    """Without it a record whose reply was lost would leave after its owner had forbidden it."""
    _ask(party, 1, SEALED)
    file = tmp_path / "node.yaml"
    file.write_text(rules + "\n", encoding="utf-8")
    strict = ClientHandler(
        party.scenario, party.seed, "ada", tmp_path / "ada", carrier="1", policy_file=file
    )
    _resume(strict)
    with pytest.raises(ClientRefused, match=r"not_after|features"):
        _ask(strict, NUMBERS + 1, SEALED)
    assert [entry["event"] for entry in _ledger(party)] == [chain.RELEASE]
    _resume(party, 2, OTHER_TOKEN)
    assert _ask(party, 2 * NUMBERS + 1, SEALED)


def test_a_refusal_is_told_again_and_entered_once(party: ClientHandler) -> None:
    """Without it a ledger would hold a refusal of which no receipt tells."""
    said = []
    for number in (1, NUMBERS + 1):
        if number > 1:
            _resume(party)
        with pytest.raises(ClientRefused) as refused:
            _ask(party, number, POOL)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert [entry["event"] for entry in _ledger(party)] == ["refusal"]


def test_only_the_last_request_and_only_word_for_word(party: ClientHandler) -> None:
    """Attack: a resumed server that reads everything again, under other names."""
    _ask(party, 1, SEALED)
    _ask(party, 2, asdict(Request("more", "A", "features", "pool")))
    before = len(_ledger(party))
    _resume(party)
    with pytest.raises(ClientRefused, match="is over: stage 'more' has begun"):
        _ask(party, NUMBERS + 1, SEALED)
    assert len(_ledger(party)) == before + 1


def test_what_was_said_before_is_over(party: ClientHandler) -> None:
    """Attack: a process that was left behind, or who recorded it, goes on beside the new one."""
    _resume(party)
    with pytest.raises(ClientRefused, match="not of the server's process that goes on here"):
        _ask(party, 1, SEALED)
    with pytest.raises(ClientRefused, match="began with another statement"):
        party.answer("hello", {OPENING: _first(party.scenario).signed(tiny.SERVER_KEYS)}, b"")
    assert _ask(party, NUMBERS + 1, SEALED)[1]


def test_numbers_of_a_later_process_need_its_statement(party: ClientHandler) -> None:
    """Attack: a high number, that shuts out every honest request of the run."""
    with pytest.raises(ClientRefused, match="not of the server's process that goes on here"):
        _ask(party, NUMBERS + 1, SEALED)
    assert _ask(party, 1, SEALED)[1]


def test_two_copies_of_a_folder_are_not_both_believed(party: ClientHandler) -> None:
    """Attack: go on with copies of one run, and so have two histories of one client."""
    _resume(party)
    for times, token in ((1, OTHER_TOKEN), (0, "")):
        with pytest.raises(ClientRefused, match="began with another statement"):
            _resume(party, times, token)
    _resume(party)  # the same once more is the same
    _resume(party, 2, OTHER_TOKEN)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 99}, "with seed 99"),
        ({"scenario": "0" * 64}, "the run is of scenario 0000"),
        ({"clients": ("ada",)}, "began with another statement"),
        ({"server": tiny.SERVER_KEYS.public}, "not signed by the key it names"),
        ({"carrier": "2"}, "the run began as Flower's '2' and comes as '1'"),
        ({"token": ""}, "malformed"),
        ({"resumed": -1}, "malformed"),
        ({"resumed": True}, "malformed"),
        ({"resumed": 2**40}, "malformed"),
    ],
)
def test_a_run_goes_on_as_what_it_was(
    party: ClientHandler, changes: dict[str, Any], told: str
) -> None:
    """Attack: resume a run as another one, with other clients, or as another server."""
    with pytest.raises(ClientRefused, match=told):
        _resume(party, **{"times": changes.pop("resumed", 1), **changes})
    assert _ask(party, 1, SEALED)[1]


def test_flowers_id_of_a_resumed_run_is_the_new_one(party: ClientHandler) -> None:
    """Without it no run on a SuperLink could be resumed; with both, it would be carried twice."""
    after = replace(party, carrier="2")
    after.answer(
        "hello",
        {
            OPENING: replace(_first(party.scenario), carrier="2", resumed=1, token=TOKEN).signed(
                tiny.SERVER_KEYS
            )
        },
        b"",
    )
    assert _ask(after, NUMBERS + 1, SEALED)[1]
    with pytest.raises(ClientRefused, match="the run began as Flower's '2' and comes as '1'"):
        _ask(party, NUMBERS + 2, SEALED)


def test_a_run_whose_end_was_signed_is_over(party: ClientHandler) -> None:
    """Attack: let clients sign the end of their ledgers, then resume and ask for more."""
    _ask(party, 1, SEALED)
    end = _ask(party, 2, {}, "close")[0]
    for number in (3, NUMBERS + 1):
        if number > NUMBERS:
            _resume(party)
        with pytest.raises(ClientRefused, match="the run is over"):
            _ask(party, number, asdict(Request("more", "A", "features", "pool")))
    assert end["entries"] == 1
    assert _ask(party, NUMBERS + 2, {}, "close")[0]["client"] == "ada", "its end can be asked again"


def test_the_bytes_that_left_last_are_erased_in_the_end(party: ClientHandler) -> None:
    """Without it what was sealed for one server would lie in the store for good."""
    _ask(party, 1, SEALED)
    assert (party.root / "sent.bin").stat().st_mode & 0o777 == 0o600
    _ask(party, 2, {}, "close")
    assert not (party.root / "sent.bin").exists()


# ---------------------------------------------------------------- secure sums


def _again(hand: Hand, step: str) -> tiny.Reply:
    """The same message of a sum, of the server that was resumed."""
    party = hand.party("ada")
    first = Opening.of(hand.scenario, hand.run, party.carrier, tiny.SERVER_KEYS)
    opening = replace(first, resumed=1, token=TOKEN).signed(tiny.SERVER_KEYS)
    party.answer("hello", {OPENING: opening}, b"")
    ask = Ask("ada", "sum", hand.body(step, "ada"))
    body = signed(tiny.SERVER_KEYS, hand.run, NUMBERS + 1, ask).body
    return hand.party("ada").answer("sum", body, b"")


@pytest.mark.parametrize("step", STEPS[1:])
def test_every_message_of_a_sum_is_answered_alike(step: str, data: Path, tmp_path: Path) -> None:
    """Without it a round that was broken off would end without a client that took part in it."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until(step)
    before = hand.store("ada").entries()
    reply, payload = _again(hand, step)
    said, sent = hand.replies[step]["ada"]
    assert (reply, bytes(payload)) == (said, bytes(sent))
    assert hand.store("ada").entries() == before


def test_a_vector_that_was_not_charged_yet_is_charged_and_no_other_leaves(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a kill between masks and ledger would lose the client, or unmask it."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until("share")

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(ClientStore, "charge", dies)
        killed.setattr(Servers, "answered", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            hand.say("ada", hand.body("mask", "ada"))
    kept = (hand.root / "clients" / "ada" / "sent.bin").read_bytes()
    before = len(hand.store("ada").entries())
    reply, payload = _again(hand, "mask")
    assert bytes(payload) == kept
    (entry,) = hand.store("ada").entries()[before:]
    assert (entry["event"], entry["sha256"]) == ("release", reply["sha256"])


def test_a_vector_whose_bytes_are_gone_stays_there(data: Path, tmp_path: Path) -> None:
    """Without it another vector could leave under masks that hid one already."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until("mask")
    (hand.root / "clients" / "ada" / "sent.bin").write_bytes(b"other")
    with pytest.raises(ClientRefused, match="is not kept here any more"):
        _again(hand, "mask")
