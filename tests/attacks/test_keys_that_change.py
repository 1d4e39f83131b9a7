"""Attacks on whom a client believes to be the server, or another client, once it has met them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_sums
from tiny_sums import CLIENTS, MEAN, Hand

from neulig_fl import recipients
from neulig_fl.client_store import ClientStore
from neulig_fl.errors import BadReply, ClientRefused
from neulig_fl.keys import Identity
from neulig_fl.records import SERVER
from neulig_fl.sum_requests import Part

RUN, OTHER = "ab" * 16, "cd" * 16


def test_a_runs_server_is_the_same_after_another_runs_hello(data: Path, tmp_path: Path) -> None:
    """Without it a hello in between gives the carrier the records sealed in a run in progress."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path)
    ada, server, carrier = hand.party("ada"), Identity.new().public, Identity.new().public
    ada.answer("hello", {"run": RUN, SERVER: server.record()}, b"")
    ada.answer("hello", {"run": OTHER, SERVER: carrier.record()}, b"")
    with pytest.raises(BadReply, match="the server said other keys before in this run"):
        ada.answer("hello", {"run": RUN, SERVER: carrier.record()}, b"")
    root = hand.store("ada").root
    assert recipients.recall(root, RUN) == server
    assert recipients.recall(root, OTHER) == carrier


def test_a_client_has_the_key_in_each_sum_that_it_had_in_the_first(
    data: Path, tmp_path: Path
) -> None:
    """Without it a server that sums honestly once can invent all others but one in the next."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until("reveal")
    again = hand.again([Part(None, MEAN)])
    forged = {
        name: (Identity.new().public.record() if name != "ada" else said)
        for name, said in hand.identities().items()
    }
    with pytest.raises(ClientRefused, match="the key of bob is another than in an earlier sum"):
        again.say("ada", again.body("advertise", "ada", identities=forged))
    again.until("reveal")


def test_a_key_that_changed_can_be_pinned(data: Path, tmp_path: Path) -> None:
    """Without it a client that had to make new keys could never sum again.

    A key that hands over to the next keeps its column in histories; one that does not is another
    client there, and only sums of other experts are not held against it.
    """
    policies = {
        name: {"limits": {"max_leverage": 0.6}} for name in CLIENTS
    }  # two keys, two vectors
    Hand(tiny_sums.scenario(tmp_path, data, policies=policies), tmp_path).until("reveal")
    for file in (tmp_path / "clients" / "bob" / "keys").iterdir():
        file.unlink()
    (tmp_path / "clients" / "bob" / "ledger.jsonl").unlink()
    key = ClientStore(tmp_path / "clients" / "bob").identity.key
    with pytest.raises(ClientRefused, match="pin it in the scenario's trust"):
        Hand(tiny_sums.scenario(tmp_path / "2", data), tmp_path).until("advertise")
    pinned = tiny_sums.scenario(tmp_path / "3", data, trust={"bob": key}, policies=policies)
    hand = Hand(pinned, tmp_path)
    assert hand.say("ada", hand.body("advertise", "ada"))[0]["message"]


def test_what_was_kept_of_others_keys_and_cannot_be_read_stops_sums(
    data: Path, tmp_path: Path
) -> None:
    """Without it who can damage one file is believed anew."""
    hand = Hand(tiny_sums.scenario(tmp_path, data), tmp_path).until("reveal")
    (hand.store("ada").root / "peers" / "keys.json").write_text("[")
    again = hand.again([Part(None, MEAN)])
    with pytest.raises(ClientRefused, match="what it kept of others' keys is damaged"):
        again.say("ada", again.body("advertise", "ada"))
