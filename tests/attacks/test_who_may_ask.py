"""Attacks on who may ask a client: whoever has a server's public record, old messages, or a run.

What an attacker has here: all that ever travelled, the server's public record among it, and a way
to the client. What it lacks is the server's private key.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_sums
from tiny_sums import CLIENTS, MEAN, Hand

from neulig_fl.client import address_book
from neulig_fl.client.handler import ClientHandler
from neulig_fl.client.server_identity import Servers
from neulig_fl.client.store import ClientStore
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import BadReply, ClientRefused, InputError
from neulig_fl.ledger.chain import MOST_REFUSALS, SILENT
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.requests import Part
from neulig_fl.records.signed_requests import opened, signed
from neulig_fl.records.transport import Ask

RUN, OTHER = "ab" * 16, "cd" * 16
STAGES = [
    {"name": "outputs", "share": [{"kind": "features", "queries": ["pool"]}, {"kind": "offset-sum"}]},
    {"name": "sums", "share": [{"kind": "parameters"}]},
]  # fmt: skip
OFFSET_SUM = asdict(Request("outputs", "A", "offset-sum"))


@pytest.fixture
def scenario(data: Path, tmp_path: Path) -> Scenario:
    """Three clients; outputs, then parameters."""
    return tiny.scenario(tmp_path, data, stages=STAGES)


def _party(scenario: Scenario, folder: Path, name: str = "ada", **more: Any) -> ClientHandler:
    return ClientHandler(scenario, scenario.seed, name, folder / "stores" / name, **more)


def _begun(
    party: ClientHandler, server: Identity = tiny.SERVER_KEYS, run: str = RUN
) -> ClientHandler:
    party.answer("hello", tiny.opening(party, run, server), b"")
    return party


def _ask(
    number: int = 1,
    body: dict[str, Any] = OFFSET_SUM,
    *,
    client: str = "ada",
    action: str = "release",
    run: str = RUN,
    payload: bytes = b"",
    server: Identity = tiny.SERVER_KEYS,
) -> dict[str, Any]:
    """The body of a signed request."""
    return signed(server, run, number, Ask(client, action, body, payload)).body


def _events(party: ClientHandler) -> list[str]:
    return [entry["event"] for entry in ClientStore(party.root).entries()]


# ---------------------------------------------------------------- without the server's key


def test_a_public_record_opens_no_run(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: everybody has the pinned server's public record; replaying it got parameters."""
    server, thief = Identity.new(), Identity.new()
    pinned = scenario.model_copy(update={"trust": {"server": server.key}})
    party = _party(pinned, tmp_path, server_pin=server.key)
    opening = Opening.of(pinned, RUN, "", server)
    for forged in (
        {"run": RUN, "server": server.public.record()},
        {OPENING: {**opening.signed(server), "signature": "A" * 86}},
        {OPENING: opening.signed(thief)},
        {OPENING: {**opening.signed(server), "run": OTHER}},
        {OPENING: {**opening.signed(server), "clients": ["ada", "eve"]}},
    ):
        with pytest.raises(ClientRefused):
            party.answer("hello", forged, b"")
    assert Servers(party.root).runs() == 0
    party.answer("hello", {OPENING: opening.signed(server)}, b"")
    assert Servers(party.root).runs() == 1


def test_an_opening_that_was_recorded_lets_nobody_ask(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: say a server's own hello again, then ask in its run."""
    party, thief = _begun(_party(scenario, tmp_path)), Identity.new()
    _begun(party)
    for body in (
        {**OFFSET_SUM, "run": RUN},
        {"run": RUN, "number": 1, "asked": OFFSET_SUM},
        {"run": RUN, "number": 1, "asked": OFFSET_SUM, "signature": ""},
        _ask(server=thief),
    ):
        with pytest.raises(ClientRefused, match="not signed"):
            party.answer("release", body, b"")
    assert party.answer("release", _ask(), b"")[1]


@pytest.mark.parametrize("action", ["prepare", "release", "sum", "close"])
def test_nothing_is_done_for_a_request_without_a_signature(
    action: str, scenario: Scenario, tmp_path: Path, own_cache: Path
) -> None:
    """Attack: a stranger has a client train, release, sum or sign its ledger's end."""
    party = _begun(_party(scenario, tmp_path))
    for body in ({}, {"group": "A"}, {"run": RUN, "group": "A"}, {"run": OTHER}):
        with pytest.raises(ClientRefused):
            party.answer(action, body, b"")
    assert set(_events(party)) == {"refusal"}
    assert not list(own_cache.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "change",
    [
        {"client": "bob"},
        {"action": "prepare"},
        {"run": OTHER},
        {"payload": b"other images"},
        {"body": {**OFFSET_SUM, "group": "B"}},
        {"number": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_is_for_one_request_alone(
    change: dict[str, Any], scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: take the signature of one request to another client, action, run, payload, detail."""
    party = _begun(_party(scenario, tmp_path))
    right, other = _ask(), _ask(**{"number": 1, **change})
    with pytest.raises(ClientRefused, match="not signed by the server of this run"):
        party.answer("release", {**right, "signature": other["signature"]}, b"")
    assert party.answer("release", right, b"")[1]


def test_what_is_no_request_is_refused_and_nothing_breaks(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a stranger's message could end in an error that nobody noted."""
    party = _begun(_party(scenario, tmp_path))
    right = _ask()
    for name, strange in (
        ("number", True), ("number", 0), ("number", 1.0), ("number", 2**60), ("number", "1"),
        ("asked", []), ("asked", None), ("signature", None), ("signature", 7),
        ("asked", {"stage": "\ud800"}), ("run", 7), ("run", "../../x"), ("run", ""), ("more", 1),
    ):  # fmt: skip
        with pytest.raises(ClientRefused):
            party.answer("release", {**right, name: strange}, b"")
    for strange in ({}, {OPENING: None}, {OPENING: []}, {OPENING: {}}, {OPENING: 1, "more": 2}):
        if strange:
            with pytest.raises(ClientRefused):
                party.answer("hello", strange, b"")


# ---------------------------------------------------------------- again, and in other runs


def test_a_request_is_answered_once(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: send an earlier request again, in a later stage of the study."""
    party = _begun(_party(scenario, tmp_path))
    first, second = _ask(1), _ask(2, asdict(Request("outputs", "A", "features", "pool")))
    party.answer("release", first, b"")
    party.answer("release", second, b"")
    for old in (second, first, _ask(1, asdict(Request("outputs", "A", "features", "pool")))):
        with pytest.raises(ClientRefused, match="was answered before"):
            party.answer("release", old, b"")
    assert _events(party) == ["release", "release", *["refusal"] * 3]
    assert {e["run"] for e in ClientStore(party.root).entries()[2:]} == {None}, "the run is whole"


def test_an_earlier_request_that_ends_late_opens_no_later_one_again(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: while request 1 is noted as answered, have request 2 answered; then once more."""
    party = _begun(_party(scenario, tmp_path))
    second = _ask(2, asdict(Request("outputs", "A", "features", "pool")))
    asked, replies, honest = threading.Event(), [], Servers._note

    def late() -> None:
        asked.wait(60)
        replies.append(party.answer("release", second, b""))

    def note(self: Servers, run: str, said: dict[str, Any]) -> None:
        if said["done"] and said["number"] == 1:
            asked.set()  # between what is read and what is written
            other.join(1)
        honest(self, run, said)

    monkeypatch.setattr(Servers, "_note", note)
    other = threading.Thread(target=late)
    other.start()
    party.answer("release", _ask(1), b"")
    other.join(60)
    assert len(replies) == 1
    with pytest.raises(ClientRefused, match="was answered before"):
        party.answer("release", second, b"")


def test_an_earlier_request_that_ends_late_does_not_end_a_later_one(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it request 2, whose process died, would be lost because request 1 ended meanwhile."""
    party = _begun(_party(scenario, tmp_path))
    servers, (one, two) = Servers(party.root), (_read(_ask(n), party) for n in (1, 2))
    servers.count(one)
    servers.count(two)
    servers.answered(one)
    servers.count(two)  # handed on again
    servers.answered(two)
    with pytest.raises(BadReply, match="was answered before"):
        servers.count(two)


def _read(body: dict[str, Any], party: ClientHandler) -> Any:
    return opened(body, tiny.SERVER_KEYS.public, party.name, "release", b"")


def test_a_request_whose_process_died_is_answered_when_it_comes_again(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a client that ran out of memory once would be missing from the run."""
    party = _begun(_party(scenario, tmp_path))
    with monkeypatch.context() as killed:
        killed.setattr(Servers, "answered", lambda self, request: None)
        sent = party.answer("release", _ask(), b"")[1]
    assert party.answer("release", _ask(), b"")[1] == sent
    with pytest.raises(ClientRefused, match="was answered before"):
        party.answer("release", _ask(), b"")


def test_a_refused_request_that_comes_again_silences_nobody(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a carrier sends one refused request a thousand times, and the run gets no more."""
    monkeypatch.setattr("neulig_fl.ledger.chain.MOST_REFUSALS", 5)
    party = _begun(_party(scenario, tmp_path))
    refused = _ask(1, asdict(Request("outputs", "A", "logits", "pool")))
    for _ in range(9):
        with pytest.raises(ClientRefused):
            party.answer("release", refused, b"")
    assert party.answer("release", _ask(2), b"")[1]


def test_a_number_is_used_for_one_request(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: a server that signs two requests with one number, to deny the one."""
    party = _begun(_party(scenario, tmp_path))
    party.answer("release", _ask(1), b"")
    with pytest.raises(ClientRefused, match="was answered before"):
        party.answer("release", _ask(1, asdict(Request("outputs", "A", "features", "pool"))), b"")


def test_a_run_has_one_scenario_one_seed_and_one_id_of_flowers(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: ask in a known run under a scenario that shares more, or carry it elsewhere."""
    party = _begun(_party(scenario, tmp_path, carrier="17"))
    shares_more = scenario.model_copy(update={"name": "more"})
    reseeded = scenario.model_copy(update={"seed": scenario.seed + 1})
    for other, told in (
        (_party(shares_more, tmp_path, carrier="17"), "the run is of scenario"),
        (_party(reseeded, tmp_path, carrier="17"), "with seed"),
        (_party(scenario, tmp_path, carrier="18"), "the run began as Flower's '17'"),
    ):
        with pytest.raises(ClientRefused, match=told):
            other.answer("release", _ask(), b"")
        opening = Opening.of(scenario, OTHER, "17", tiny.SERVER_KEYS).signed(tiny.SERVER_KEYS)
        with pytest.raises(ClientRefused, match=told):
            other.answer("hello", {OPENING: opening}, b"")
    assert party.answer("release", _ask(), b"")[1]


def test_a_run_begins_once(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: begin a run of another server's id, so that its records are sealed to oneself."""
    party, thief = _begun(_party(scenario, tmp_path)), Identity.new()
    with pytest.raises(ClientRefused):
        _begun(party, thief)
    assert Servers(party.root).recall(RUN).server == tiny.SERVER_KEYS.public  # type: ignore[union-attr]


def test_stages_that_are_over_stay_so_in_a_run_that_is_said_again(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: say hello again under the same id, to ask for what the first stage shared."""
    party = _begun(_party(scenario, tmp_path))
    party.answer("release", _ask(1, asdict(Request("sums", "A", "parameters"))), b"")
    _begun(party)
    with pytest.raises(ClientRefused, match="is over"):
        party.answer("release", _ask(2), b"")


def test_a_hello_that_is_said_again_ends_no_sum(data: Path, tmp_path: Path) -> None:
    """Attack: replay an earlier run's hello in the middle of a sum, again and again."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path)
    earlier = [tiny.opening(hand.party(name), OTHER) for name in CLIENTS]
    for name, said in zip(CLIENTS, earlier, strict=True):
        hand.party(name).answer("hello", said, b"")
    hand.until("mask")
    for name, said in zip(CLIENTS, earlier, strict=True):
        hand.party(name).answer("hello", said, b"")
    body = hand.body("confirm", "ada")
    assert hand.say("ada", body)[0]["message"]


def test_starting_again_is_the_policys_word(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: begin ever new runs: stages from the first, other images by value."""
    own = tmp_path / "node.yaml"
    own.write_text("budgets: {max_runs: 2}\n")
    party = _party(scenario, tmp_path, policy_file=own)
    _begun(party)
    _begun(party, run=OTHER)
    _begun(party)  # one that it knows is none more
    with pytest.raises(ClientRefused, match="limit max_runs 2: 2 began here before"):
        _begun(party, run="ef" * 16)


def test_a_node_approves_scenarios_by_their_hash(scenario: Scenario, tmp_path: Path) -> None:
    """Attack: a scenario under an approved name that shares more than the one that was read."""
    own = tmp_path / "node.yaml"
    own.write_text(f"scenarios: ['{scenario.hash}']\n")
    _begun(_party(scenario, tmp_path, policy_file=own))
    more = scenario.model_copy(update={"on_refusal": "continue"})
    with pytest.raises(ClientRefused, match="is not among those that it approves"):
        _begun(_party(more, tmp_path, policy_file=own), run=OTHER)
    again = scenario.model_copy(update={"seed": 99})
    _begun(_party(again, tmp_path, policy_file=own), run=OTHER)


def test_a_scenario_that_is_no_longer_approved_gets_nothing(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: begin before the owner changes the policy, and ask afterwards."""
    own = tmp_path / "node.yaml"
    own.write_text(f"scenarios: ['{scenario.hash}']\n")
    party = _begun(_party(scenario, tmp_path, policy_file=own))
    own.write_text(f"scenarios: ['{'ab' * 32}']\n")
    with pytest.raises(ClientRefused, match="is not among those that it approves"):
        party.answer("release", _ask(), b"")


@pytest.mark.parametrize("body", [{"group": "Z"}, {"group": ["A"]}, {}, {"group": "A", "more": 1}])
def test_an_expert_is_prepared_for_a_group_of_the_scenario_alone(
    body: dict[str, Any], scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: have a client train experts for ever other groups."""
    party = _begun(_party(scenario, tmp_path))
    with pytest.raises(ClientRefused, match="not one that neulig-fl makes"):
        party.answer("prepare", _ask(1, body, action="prepare"), b"")


def test_strangers_fill_no_ledger(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: refusals are noted, up to a thousand a run; so name ever new runs."""
    monkeypatch.setattr("neulig_fl.ledger.chain.MOST_REFUSALS", 5)
    assert MOST_REFUSALS == 1000
    party = _party(scenario, tmp_path)
    for number in range(9):
        for action in ("release", "close"):
            with pytest.raises(ClientRefused):
                party.answer(action, {"run": f"{number:032x}"}, b"")
        with pytest.raises(ClientRefused):
            party.answer("hello", {OPENING: {"run": f"{number:032x}"}}, b"")
    assert len(_events(party)) == 5
    with pytest.raises(ClientRefused, match=SILENT):
        party.answer("release", {}, b"")
    _begun(party)
    assert party.answer("release", _ask(), b"")[1], "the server is answered all the same"


# ---------------------------------------------------------------- keys are kept


def test_a_client_has_one_server_for_the_life_of_its_store(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: whoever reaches a client begins a run of its own, with its own key."""
    party, stranger = _begun(_party(scenario, tmp_path)), Identity.new()
    with pytest.raises(ClientRefused, match="and in earlier runs it was another"):
        _begun(party, stranger, OTHER)
    named = scenario.model_copy(update={"trust": {"server": stranger.key}})
    with pytest.raises(ClientRefused, match="and in earlier runs it was another"):
        _begun(_party(named, tmp_path), stranger, OTHER)
    _begun(_party(scenario, tmp_path, server_pin=stranger.key), stranger, OTHER)


def test_a_server_that_handed_over_its_key_is_known_again(
    scenario: Scenario, tmp_path: Path
) -> None:
    """Without it a server that renews its keys would be a stranger."""
    old, fresh = Identity.new(), Identity.new()
    new = dataclasses.replace(fresh, hand_overs=(old.hand_over(fresh),))
    party = _begun(_party(scenario, tmp_path), old)
    _begun(party, new, OTHER)
    with pytest.raises(ClientRefused, match="was another"):
        _begun(party, fresh, "ef" * 16)


@pytest.mark.parametrize("damage", ["", "[", "{}", '{"key": 7}', "[]"])
def test_what_was_kept_of_servers_and_is_damaged_lets_nobody_in(
    damage: str, scenario: Scenario, tmp_path: Path
) -> None:
    """Attack: damage one file, and be the first server."""
    party = _begun(_party(scenario, tmp_path))
    party.answer("release", _ask(1), b"")
    folder = party.root / "servers"
    for name in (f"{RUN}.last", f"{RUN}.run", "first.json"):
        whole = (folder / name).read_text()
        (folder / name).write_text(damage)
        with pytest.raises((ClientRefused, BadReply), match="damaged"):
            party.answer("release", _ask(2), b"")
        (folder / name).write_text(whole)
    assert party.answer("release", _ask(2), b"")[1]


def test_nobody_sums_with_clients_whom_nobody_pinned(data: Path, tmp_path: Path) -> None:
    """Attack: a server makes up all the others of a sum, and gets one vector alone."""
    scenario = tiny_sums.scenario(tmp_path, data)
    hand = Hand(scenario, tmp_path)
    party = dataclasses.replace(hand.party("ada"), address_book=None)
    party.__dict__["setting"] = hand.setting
    with pytest.raises(ClientRefused, match="no key of bob is pinned here"):
        tiny.say(party, "sum", {"run": hand.run, **hand.body("advertise", "ada")})
    assert hand.say("ada", hand.body("advertise", "ada"))[0]["message"]


def test_clients_whom_a_scenario_invents_are_not_in_the_address_book(
    data: Path, tmp_path: Path
) -> None:
    """Attack: the scenario's author pins keys of its own for names of its own."""
    scenario = tiny_sums.scenario(tmp_path, data, trust={"dan": Identity.new().key})
    hand = Hand(scenario, tmp_path)
    book = tmp_path / "book.json"
    bob, cyd = (hand.store(name).identity.key for name in ("bob", "cyd"))
    for text, told in (
        (f'{{"bob": "{bob}", "cyd": "{cyd}"}}', "no key of dan is pinned here"),
        (f'{{"bob": "{cyd}"}}', "the key of bob is"),
        ("{}", "no key of bob is pinned here"),
        ('{"bob": 7}', "its address book cannot be used"),
        ("[]", "its address book cannot be used"),
        ("{", "its address book cannot be used"),
    ):
        book.write_text(text)
        party = dataclasses.replace(hand.party("ada"), address_book=book)
        party.__dict__["setting"] = hand.setting
        with pytest.raises((ClientRefused, InputError)) as caught:
            tiny.say(party, "sum", {"run": hand.run, **hand.body("advertise", "ada")})
        assert told in str(caught.value.public_reason)


def test_a_key_is_kept_also_where_the_scenario_pins_another_later(
    data: Path, tmp_path: Path
) -> None:
    """Attack: after honest sums, a scenario pins the server's own keys as the others'."""
    honest = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until("reveal")
    forged = {name: Identity.new() for name in CLIENTS[1:]}
    pins = {name: identity.key for name, identity in forged.items()}
    hand = Hand(tiny_sums.scenario(tmp_path / "2", data, trust=pins), tmp_path, run=OTHER)
    party = dataclasses.replace(hand.party("ada"), address_book=None)
    party.__dict__["setting"] = hand.setting
    said = hand.identities() | {name: i.public.record() for name, i in forged.items()}
    with pytest.raises(ClientRefused, match=r"and not the pinned one|than in an earlier sum"):
        tiny.say(party, "sum", {"run": OTHER, **hand.body("advertise", "ada", identities=said)})
    assert honest.again([Part(None, MEAN)]).until("reveal")


def test_opened_is_what_signed_made() -> None:
    """Without it a detail could be read otherwise than it was signed."""
    server, ask = Identity.new(), Ask("ada", "sum", {"step": "mask", "x": [1, 2.5, None]}, b"abc")
    found = opened(signed(server, RUN, 3, ask).body, server.public, "ada", "sum", b"abc")
    assert (found.run, found.number, found.asked) == (RUN, 3, ask.body)


def test_an_address_book_is_written_for_sums_alone(
    scenario: Scenario, data: Path, tmp_path: Path
) -> None:
    """Without it each run would make keys for clients that never sum."""
    file = tmp_path / address_book.FILE
    assert address_book.introduce(scenario, tmp_path / "stores", file) is None
    sums = tiny_sums.scenario(tmp_path, data)
    assert address_book.introduce(sums, tmp_path / "stores", file) == file
    keys = {n: ClientStore(tmp_path / "stores" / n).identity.key for n in CLIENTS}
    assert address_book.read(file) == keys
    assert file.stat().st_mode & 0o777 == 0o600
