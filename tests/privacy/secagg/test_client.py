"""A client sends nothing that a server which lies, repeats itself or mixes things up could use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sum_round
from sum_round import Keys, Round

from neulig_fl.core.errors import ClientRefused, InputError, RunError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import shares
from neulig_fl.privacy.secagg.messages import Advert, Delivery, Roster, Shares
from neulig_fl.privacy.secagg.state import Step
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Request, Reveal


def _roster(made: Round) -> Roster:
    return Roster.read(made.told["roster"], made.terms.digest)


def _confirm(made: Round, client: str, survivors: str, dropped: str = "") -> bytes:
    """Ask a client to confirm an outcome; clients are named by their last digits."""
    outcome = Outcome(_named(survivors), _named(dropped)).to_bytes(made.terms.digest)
    state, sent = secagg.confirm(made.state(client), outcome, made.keys.signer(client))
    made.stored[client] = state.to_bytes()
    return sent


def _named(digits: str) -> tuple[str, ...]:
    return tuple(f"c-00{digit}" for digit in digits)


# ---------------------------------------------------------------- keys


def test_a_client_that_is_not_invited_makes_no_keys() -> None:
    """Without it a client could take part in a sum that it was not meant for."""
    with pytest.raises(InputError, match="mallory is not invited; allowed: c-000, c-001, c-002"):
        secagg.advertise(sum_round.terms(3), "mallory")


def test_a_wrong_signature_is_refused_by_every_other_client() -> None:
    """Without it the server could put its own key in a client's place and read its shares."""
    made = Round(sum_round.terms(4)).until("advertise")
    forged, _ = secagg.advertise(made.terms, "c-002")
    digest = made.terms.digest
    for signature in (b"", Keys(made.terms.clients).signer("c-002")(b"x")):
        mine = replace(Advert.read(forged.advert, digest), signature=signature)
        listed = [mine if a.client == "c-002" else a for a in _roster(made).adverts]
        lie = Roster(tuple(listed)).to_bytes(digest)
        for name in ("c-000", "c-001", "c-003"):
            with pytest.raises(ClientRefused, match="signature on the keys of c-002 is wrong"):
                secagg.share(made.state(name), lie, made.keys.verify)
        with pytest.raises(ClientRefused, match=r"its own keys are missing .* or are not its own"):
            secagg.share(made.state("c-002"), lie, made.keys.verify)


def test_keys_of_another_round_are_refused() -> None:
    """Without it keys whose masks are known could be played again."""
    made = Round(sum_round.terms(3)).until("advertise")
    other = Round(replace(made.terms, context=b"attempt 2")).until("advertise")
    with pytest.raises(ClientRefused, match=r"roster is not what it must be: .* other terms"):
        secagg.share(made.state("c-000"), other.told["roster"])
    again = Round(made.terms).until("advertise")
    with pytest.raises(ClientRefused, match="its own keys are missing"):
        secagg.share(made.state("c-000"), again.told["roster"])


def test_too_few_or_strange_clients_in_a_roster_are_refused() -> None:
    """Without it a client could be summed with nobody, or with the server's own inventions."""
    made = Round(sum_round.terms(3)).until("advertise")
    digest, listed = made.terms.digest, _roster(made).adverts
    with pytest.raises(ClientRefused, match="1 clients in the roster, below the threshold of 2"):
        secagg.share(made.state("c-000"), Roster(listed[:1]).to_bytes(digest))
    strange = replace(listed[2], client="d", sealing_key=b"s" * 32, mask_key=b"m" * 32)
    with pytest.raises(ClientRefused, match="d is in the roster and was not invited"):
        secagg.share(made.state("c-000"), Roster((*listed, strange)).to_bytes(digest))


@pytest.mark.parametrize("order", ["unsorted", "twice"])
def test_a_roster_has_one_form_only(order: str) -> None:
    """Without it two clients could hold the same keys to be different rosters, or a key twice."""
    made = Round(sum_round.terms(3)).until("advertise")
    first, second, third = _roster(made).adverts
    copy = replace(third, client="c-0025")
    listed = (second, first, third) if order == "unsorted" else (first, second, third, copy)
    with pytest.raises(ClientRefused, match=r"unsorted or holds a name twice|keys are the same"):
        secagg.share(made.state("c-000"), Roster(listed).to_bytes(made.terms.digest))


def test_a_key_of_low_order_is_refused() -> None:
    """Without it the secret of a pair would be zero, which everyone knows."""
    made = Round(sum_round.terms(3)).until("advertise")
    digest, (first, second, third) = made.terms.digest, _roster(made).adverts
    weak = Roster((first, second, replace(third, sealing_key=bytes(32)))).to_bytes(digest)
    with pytest.raises(ClientRefused, match="the key of c-002 is not what it must be"):
        secagg.share(made.state("c-000"), weak)
    weak = Roster((first, second, replace(third, mask_key=bytes(32)))).to_bytes(digest)
    state, _ = secagg.share(made.state("c-000"), weak)
    way = shares.Way(digest, Roster.read(weak, digest).digest(digest), "c-002", "c-000")
    sealed = shares.seal(bytes(32), made.state("c-002").sealing_key, first.sealing_key, way)
    delivery = Delivery("c-000", (("c-002", sealed),)).to_bytes(digest)
    with pytest.raises(ClientRefused, match="a key for masks is not what it must be"):
        secagg.mask(state, delivery, [], 0.1)


# ---------------------------------------------------------------- shares and vectors


@pytest.mark.parametrize("wrong", ["tampered", "swapped", "replayed", "another's", "own"])
def test_wrong_shares_are_refused(wrong: str) -> None:
    """Without it a client would keep, and later reveal, what others never shared with it."""
    made = Round(sum_round.terms(4)).until("share")
    digest = made.terms.digest
    delivery = Delivery.read(made.told["deliveries"]["c-000"], digest)
    one, two, three = (sealed for _, sealed in delivery.sealed)
    before = Round(made.terms).until("share").told["deliveries"]["c-000"]
    mixes = {
        "tampered": [("c-001", one[:-1] + bytes([one[-1] ^ 1])), ("c-002", two)],
        "swapped": [("c-001", two), ("c-002", one)],
        "replayed": list(Delivery.read(before, digest).sealed),
        "own": [("c-000", one), ("c-001", one), ("c-002", two), ("c-003", three)],
    }
    told = Delivery("c-000", tuple(mixes.get(wrong, []))).to_bytes(digest)
    told = made.told["deliveries"]["c-001"] if wrong == "another's" else told
    says = {"another's": "it is for c-001", "own": "it holds a share of c-000, who has none to"}
    with pytest.raises(ClientRefused, match=says.get(wrong, "share of c-001 cannot be opened: ch")):
        secagg.mask(made.state("c-000"), told, [made.weighted("c-000")], 1 / 4)


def test_too_few_shares_are_refused() -> None:
    """Without it a vector would go out under the masks of too few others."""
    made = Round(sum_round.terms(4)).until("share")
    few = Delivery.read(made.told["deliveries"]["c-000"], made.terms.digest).sealed[:1]
    told = Delivery("c-000", few).to_bytes(made.terms.digest)
    with pytest.raises(ClientRefused, match="2 clients sent shares, below the threshold of 3"):
        secagg.mask(made.state("c-000"), told, [made.weighted("c-000")], 1 / 4)


def test_clients_with_different_contexts_never_sum() -> None:
    """Without it two clients could be made to answer different questions into one sum."""
    agreed = sum_round.terms(3)
    states, sent = {}, {}
    for name in agreed.clients:
        own = replace(agreed, context=b"other weights") if name == "c-002" else agreed
        states[name], sent[name] = secagg.advertise(own, name)
    server = secagg.Server(agreed)
    server.add_advert("c-000", sent["c-000"])
    with pytest.raises(RunError, match="client c-002: it was made under other terms"):
        server.add_advert("c-002", sent["c-002"])
    # A server that hides it, by writing the digest that each one wants into the others' keys.
    listed = {n: Advert.read(sent[n], states[n].terms.digest) for n in agreed.clients}
    for name, state in states.items():
        digest = state.terms.digest
        roster = Roster(tuple(listed.values())).to_bytes(digest)
        states[name], sent[name] = secagg.share(state, roster)
    boxes = {n: dict(_sealed(sent[n], states[n].terms.digest)) for n in agreed.clients}
    for name in ("c-000", "c-002"):
        others = tuple((n, boxes[n][name]) for n in agreed.clients if n != name)
        told = Delivery(name, others).to_bytes(states[name].terms.digest)
        with pytest.raises(ClientRefused, match=r"share of c-00. cannot be opened: changed"):
            secagg.mask(states[name], told, [np.zeros(10)], 0.0)


def _sealed(sent: bytes, digest: bytes) -> tuple[tuple[str, bytes], ...]:
    return Shares.read(sent, digest).sealed


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (np.nan, "an entry that is not finite"),
        (np.inf, "an entry that is not finite"),
        (-np.inf, "an entry that is not finite"),
        (0.2501, "an entry beyond clip x"),
        (-7777.0, "an entry beyond clip x"),
    ],
)
@pytest.mark.parametrize("place", [0, 9])
def test_entries_that_cannot_be_summed_stop_the_client(entry: float, says: str, place: int) -> None:
    """Without it a wrapped or made-up number would stand in everyone's sum."""
    made = Round(sum_round.terms(4)).until("share")
    vector = np.zeros(10, np.float32)
    vector[place] = entry
    _, chunks = secagg.mask(
        made.state("c-000"), made.told["deliveries"]["c-000"], [vector], weight=0.25
    )
    with pytest.raises(RunError, match=says) as caught:
        list(chunks)
    assert "7777" not in str(caught.value)
    assert says in str(caught.value.public_reason)


@pytest.mark.parametrize("entries", [0, 3, 4, 9, 11, 20])
def test_a_vector_of_another_length_is_never_whole(entries: int) -> None:
    """Without it a client with another model would shift everyone's entries."""
    made = Round(sum_round.terms(3)).until("share")
    got = []
    _, chunks = secagg.mask(
        made.state("c-000"), made.told["deliveries"]["c-000"], [np.zeros(entries)], 0.1
    )
    with pytest.raises(RunError, match=r"has (more|fewer) entries than the 10 agreed") as caught:
        got.extend(chunks)
    assert "entries than the 10 agreed on" in str(caught.value.public_reason)
    assert sum(len(chunk) for chunk in got) < 40


def test_a_payload_can_be_made_in_place() -> None:
    """Without it a whole payload would need a copy of every chunk, or come out in another order."""
    made = Round(sum_round.terms(3)).until("share")
    state, told = made.state("c-000"), made.told["deliveries"]["c-000"]
    pieces = [made.weighted("c-000")]
    payload = bytearray(40)
    _, chunks = secagg.mask(state, told, pieces, 1 / 3, payload)
    assert [len(chunk) for chunk in chunks] == [16, 16, 8]
    assert bytes(payload) == b"".join(secagg.mask(state, told, pieces, 1 / 3)[1])
    for wrong in (bytearray(36), bytearray(41), memoryview(bytes(40))):
        with pytest.raises(InputError, match=r"into holds \d\d bytes; allowed: 40, writable"):
            secagg.mask(state, told, pieces, 1 / 3, wrong)


@pytest.mark.parametrize("weight", [1.01, -2.0, np.nan, np.inf])
def test_a_weight_beyond_the_headroom_is_refused(weight: float) -> None:
    """Without it a server could choose weights under which a sum wraps around."""
    made = Round(sum_round.terms(3)).until("share")
    told = made.told["deliveries"]["c-000"]
    _, chunks = secagg.mask(made.state("c-000"), told, [np.zeros(10)], weight)
    with pytest.raises(ClientRefused, match=r"a weight beyond the headroom of 1.0 was asked for"):
        list(chunks)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex64])
def test_other_numbers_than_floats_are_refused(dtype: type) -> None:
    """Without it a step counter, or a half's rounding, would be summed as if it were a weight."""
    made = Round(sum_round.terms(3)).until("share")
    told = made.told["deliveries"]["c-000"]
    _, chunks = secagg.mask(made.state("c-000"), told, [np.zeros(10, dtype)], 0.1)
    with pytest.raises(RunError, match=r"its vector is \w+; allowed: float32, float64"):
        list(chunks)


def test_a_second_vector_never_goes_out_under_the_same_masks() -> None:
    """Without it the difference of two masked vectors would be that of the vectors."""
    made = Round(sum_round.terms(3)).until("mask")
    after = made.state("c-000")
    assert (after.mask_seed, after.self_seed, after.sealing_key) == (b"", b"", b"")
    with pytest.raises(ClientRefused, match="it has masked and answers this once shared"):
        secagg.mask(after, made.told["deliveries"]["c-000"], [np.zeros(10)], 0.1)


# ---------------------------------------------------------------- who survived


@pytest.mark.parametrize(
    ("survivors", "dropped", "says"),
    [
        ("0123", "3", "c-003 is called a survivor and dropped at once"),
        ("012", "", "survivors and dropped are not those whose shares it was given"),
        ("01234", "", "survivors and dropped are not those whose shares it was given"),
        ("123", "0", "it is not among the survivors itself"),
        ("01", "23", "2 clients survived, below the threshold of 3"),
    ],
)
def test_a_lie_about_survivors_is_refused(survivors: str, dropped: str, says: str) -> None:
    """Without it the server could learn both seeds of a client, or the sum of too few."""
    made = Round(sum_round.terms(4)).until("mask")
    with pytest.raises(ClientRefused, match=says):
        _confirm(made, "c-000", survivors, dropped)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (("0123", ""), ("012", "3"), "c-003 is called dropped, and it has confirmed c-003 as a"),
        (("012", "3"), ("0123", ""), "c-003 is called a survivor, and it has confirmed c-003 as"),
        (("012", "3"), ("013", "2"), "c-002 is called dropped, and it has confirmed c-002"),
    ],
)
def test_a_client_confirms_one_outcome_ever(
    first: tuple[str, str], second: tuple[str, str], says: str
) -> None:
    """Without it it would reveal one seed of a client today, and the other one tomorrow."""
    made = Round(sum_round.terms(4)).until("mask")
    sent = _confirm(made, "c-000", *first)
    assert _confirm(made, "c-000", *first) == sent
    with pytest.raises(ClientRefused, match=says):
        _confirm(made, "c-000", *second)


def test_no_transcript_holds_both_kinds_of_share_of_one_client() -> None:
    """Without it the server could take all masks off one client's vector."""
    made = Round(sum_round.terms(5), drops={"c-004": "mask"})
    made.until("confirm")
    lie = Outcome(_named("0123"), _named("4")), Outcome(_named("01234"), ())
    for name in _named("0123"):
        for outcome in lie:
            words = tuple(_word(made, n, outcome) for n in outcome.survivors)
            request = Request(outcome, words).to_bytes(made.terms.digest)
            try:
                secagg.reveal(made.state(name), request, made.keys.verify)
                assert outcome is lie[0]
            except ClientRefused as error:
                assert "c-004 is called a survivor" in str(error)  # noqa: PT017
                assert outcome is lie[1]
    made.reveal()
    kinds = {}
    for sent in made.sent["reveal"].values():
        for owner, kind, _ in Reveal.read(sent, made.terms.digest).shares:
            kinds.setdefault(owner, set()).add(kind)
    assert kinds == {**{n: {SELF} for n in _named("0123")}, "c-004": {MASK}}


def _word(made: Round, name: str, outcome: Outcome) -> Confirmation:
    digest = made.terms.digest
    signed = outcome.signed(digest, _roster(made).digest(digest))
    return Confirmation(name, made.keys.signer(name)(signed))


def _ask(made: Round, words: list[Confirmation], outcome: Outcome | None = None) -> None:
    named = outcome or Outcome.read(made.told["outcome"], made.terms.digest)
    request = Request(named, tuple(words)).to_bytes(made.terms.digest)
    secagg.reveal(made.state("c-000"), request, made.keys.verify)


def test_too_few_or_wrong_confirmations_are_refused() -> None:
    """Without it the server could tell each client another outcome and hear both kinds of share."""
    made = Round(sum_round.terms(4), drops={"c-003": "mask"}).until("confirm")
    named = Outcome.read(made.told["outcome"], made.terms.digest)
    right = [_word(made, name, named) for name in named.survivors]
    _ask(made, right)
    with pytest.raises(ClientRefused, match="2 clients confirmed the outcome, below the threshold"):
        _ask(made, right[:2])
    with pytest.raises(ClientRefused, match="unsorted or holds a name twice"):
        _ask(made, [right[0], right[1], right[1]])
    other = _word(made, "c-002", Outcome(_named("0123"), ()))
    for lie in (other, Confirmation("c-002", b""), replace(right[1], client="c-002")):
        with pytest.raises(ClientRefused, match="signature of c-002 under the outcome is wrong"):
            _ask(made, [*right[:2], lie])
    with pytest.raises(ClientRefused, match="c-003 confirms the outcome and is no survivor"):
        _ask(made, [*right, _word(made, "c-003", named)])
    with pytest.raises(ClientRefused, match="c-002 is called dropped, and it has confirmed"):
        _ask(made, right, Outcome(_named("01"), _named("23")))


def test_confirmations_are_of_one_roster() -> None:
    """Without it a client with other keys could vouch for an outcome of another round."""
    made = Round(sum_round.terms(3)).until("confirm")
    named = Outcome.read(made.told["outcome"], made.terms.digest)
    signed = named.signed(made.terms.digest, bytes(32))
    words = [Confirmation(n, made.keys.signer(n)(signed)) for n in named.survivors]
    with pytest.raises(ClientRefused, match="signature of c-000 under the outcome is wrong"):
        _ask(made, words)


def test_nothing_is_answered_out_of_turn() -> None:
    """Without it a server could skip the check that all survivors agree."""
    made = Round(sum_round.terms(3)).until("advertise")
    fresh = made.state("c-000")
    with pytest.raises(ClientRefused, match="it has advertised and answers this once shared"):
        secagg.mask(fresh, b"", [], 1.0)
    with pytest.raises(ClientRefused, match="answers this once masked or confirmed"):
        secagg.confirm(fresh, b"")
    made.share()
    with pytest.raises(ClientRefused, match="it has shared and answers this once advertised"):
        secagg.share(made.state("c-000"), made.told["roster"])
    made.mask()
    with pytest.raises(ClientRefused, match="it has masked and answers this once confirmed"):
        secagg.reveal(made.state("c-000"), b"")


def test_shares_are_revealed_once_and_erased() -> None:
    """Without it thieves of a few clients' disks could take both masks off a recorded vector."""
    made = Round(sum_round.terms(3)).until("confirm")
    held = {name: made.state(name).held for name in made.terms.clients}
    made.reveal()
    for name in made.terms.clients:
        state = made.state(name)
        assert (state.step, state.held) == (Step.REVEALED, ())
        assert not any(
            pair[at : at + 16] in made.stored[name] for _, pair in held[name] for at in (0, 16)
        )
        with pytest.raises(ClientRefused, match="it has revealed and answers this once confirmed"):
            secagg.reveal(state, made.told["request"], made.keys.verify)
