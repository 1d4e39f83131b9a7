"""Seeds and shares: any threshold of shares restores a seed, one fewer do not; nothing is opened by others."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.privacy.secagg import shares
from neulig_fl.privacy.secagg.shares import Way

TERMS, ROSTER = bytes(range(32)), bytes(range(32, 64))
WAY = Way(TERMS, ROSTER, "ada", "bob")


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 7), st.data())
def test_any_threshold_of_shares_restores_a_seed(count: int, data: st.DataObject) -> None:
    """Without it a round would hang on who exactly survives."""
    threshold = data.draw(st.integers(count // 2 + 1, count))
    seed = shares.new_seed()
    made = dict(enumerate(shares.split(seed, threshold, count), 1))
    for places in itertools.combinations(made, threshold):
        assert shares.combine({place: made[place] for place in places}) == seed
    for places in itertools.combinations(made, threshold - 1):
        assert shares.combine({place: made[place] for place in places}) != seed


def test_both_halves_of_a_pair_find_the_same_mask() -> None:
    """Without it masks would not cancel; with the same one in two rounds they would say too much."""
    one, two = shares.new_key(), shares.new_key()
    first = shares.pair_mask(one, shares.public_key(two), TERMS, ROSTER)
    assert first == shares.pair_mask(two, shares.public_key(one), TERMS, ROSTER)
    others = [
        shares.pair_mask(one, shares.public_key(two), ROSTER, ROSTER),
        shares.pair_mask(one, shares.public_key(two), TERMS, TERMS),
        shares.pair_mask(one, shares.public_key(shares.new_key()), TERMS, ROSTER),
    ]
    assert len({first, *others}) == 4


def test_keys_of_a_seed_serve_one_purpose_each() -> None:
    """Without it what is public of one key could give another one away."""
    seed = shares.new_seed()
    made = {
        make(seed, terms)
        for make in (shares.mask_key, shares.self_mask, shares.self_check)
        for terms in (TERMS, ROSTER)
    }
    assert len(made) == 6
    assert {len(key) for key in made} == {32}


def test_only_the_recipient_opens_what_is_sealed_and_only_as_it_was() -> None:
    """Without it shares could be read, changed, swapped or played again."""
    ada, bob, eve = (shares.new_key() for _ in range(3))
    pair = bytes(range(32))
    sealed = shares.seal(pair, ada, shares.public_key(bob), WAY)
    assert len(sealed) == shares.SEALED_BYTES
    assert shares.unseal(sealed, bob, shares.public_key(ada), WAY) == pair
    assert sealed != shares.seal(pair, ada, shares.public_key(bob), WAY)
    ways = [
        replace(WAY, terms=ROSTER), replace(WAY, roster=TERMS), replace(WAY, sender="eve"),
        replace(WAY, recipient="eve"), replace(WAY, sender="bob", recipient="ada"),
    ]  # fmt: skip
    attempts = [(sealed, bob, ada, way) for way in ways]
    attempts += [(sealed, eve, ada, WAY), (sealed, bob, eve, WAY)]
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        attempts.append((bytes(changed), bob, ada, WAY))
    for data, private, other, way in attempts:
        with pytest.raises(ValueError, match="changed, swapped, replayed or made in another round"):
            shares.unseal(data, private, shares.public_key(other), way)
