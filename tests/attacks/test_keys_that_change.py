"""Attacks on whom a client believes to be the server, or another client, once it has met them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_sums
from tiny_sums import CLIENTS, MEAN, Hand

from neulig_fl.client import address_book
from neulig_fl.core.errors import ClientRefused
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.secagg.requests import Part

RUN, OTHER = "ab" * 16, "cd" * 16


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
    with pytest.raises(ClientRefused, match=r"the key of bob is .* and not the pinned one"):
        again.say("ada", again.body("advertise", "ada", identities=forged))
    again.until("reveal")


def test_a_key_that_changed_is_the_address_books_word(data: Path, tmp_path: Path) -> None:
    """Without it a client that had to make new keys could never sum again.

    A key that hands over to the next keeps its column in histories; one that does not is another
    client there, and only sums of other experts are not held against it.
    """
    policies = {
        name: {"budgets": {"max_leverage": 0.6}} for name in CLIENTS
    }  # two keys, two vectors
    Hand(tiny_sums.scenario(tmp_path, data, policies=policies), tmp_path).until("reveal")
    for file in (tmp_path / "clients" / "bob" / "keys").iterdir():
        file.unlink()
    (tmp_path / "clients" / "bob" / "ledger.jsonl").unlink()
    with pytest.raises(ClientRefused, match=r"the key of bob is .* and not the pinned one"):
        Hand(tiny_sums.scenario(tmp_path / "2", data), tmp_path, run=OTHER).until("advertise")
    (tmp_path / address_book.FILE).unlink()
    known = tiny_sums.scenario(tmp_path / "3", data, policies=policies)
    hand = Hand(known, tmp_path, run="ef" * 16)
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
