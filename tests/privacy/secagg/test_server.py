"""The server takes nothing that does not fit, and needs no more memory than it says."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import sum_round
from sum_round import Keys, Round

from neulig_fl.core.errors import BadReply, NeuligError, RunError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import Phase, Server
from neulig_fl.privacy.secagg.messages import Advert, Shares
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Reveal


def test_a_forged_signature_is_a_bad_reply() -> None:
    """Without it the round would go on until every client refuses the roster."""
    made = Round(sum_round.terms(3))
    wrong = Keys(made.terms.clients)
    _, sent = secagg.advertise(made.terms, "c-000", wrong.signer("c-000"))
    with pytest.raises(BadReply, match="secure sum, client c-000: its signature is wrong; nothing"):
        made.server.add_advert("c-000", sent)
    made.until("mask")
    digest = made.terms.digest
    lie = Confirmation("c-000", wrong.signer("c-000")(b"")).to_bytes(digest)
    with pytest.raises(BadReply, match="client c-000: its signature is wrong"):
        made.server.add_confirmation("c-000", lie)
    made.confirm()
    made.reveal()
    assert np.abs(made.server.total() - made.wanted()).max() <= made.terms.quantisation


def test_another_clients_message_is_a_bad_reply() -> None:
    """Without it one client could answer for another."""
    made = Round(sum_round.terms(3))
    _, sent = secagg.advertise(made.terms, "c-001", made.keys.signer("c-001"))
    with pytest.raises(BadReply, match="client c-000: it says that it is of c-001"):
        made.server.add_advert("c-000", sent)
    with pytest.raises(BadReply, match="client mallory: it takes no part; allowed: c-000, c-001"):
        made.server.add_advert("mallory", sent)


@pytest.mark.parametrize("step", sum_round.STEPS)
def test_nothing_counts_twice_or_out_of_turn(step: str) -> None:
    """Without it a vector could be in the sum twice, or come after the masks were opened."""
    made = Round(sum_round.terms(3), drops={"c-002": step})
    take = dict(
        zip(
            sum_round.STEPS,
            ("add_advert", "add_shares", "add_masked", "add_confirmation", "add_reveal"),
            strict=True,
        )
    )
    if step != "advertise":
        made.until(sum_round.STEPS[sum_round.STEPS.index(step) - 1])
    closing = {"advertise": "roster", "share": "deliveries", "mask": "outcome"}
    closing |= {"confirm": "request", "reveal": "total"}
    server, close = made.server, closing[step]
    add = getattr(server, take[step])
    made.server.__dict__[close] = lambda: b""  # keep the step open
    getattr(made, step)()
    del made.server.__dict__[close]
    for name in ("c-000", "c-001"):
        with pytest.raises(BadReply, match=f"client {name}: it was sent twice"):
            add(name, made.sent[step][name])
    getattr(server, close)()
    with pytest.raises(RunError, match=r"c-002 sent its part of \w+ while \w+ are waited for"):
        add("c-002", made.sent[step]["c-000"])
    with pytest.raises(RunError, match=r"\w+ cannot be closed while \w+ are waited for"):
        getattr(server, close)()


def test_phases_and_who_is_expected_are_told() -> None:
    """Without it whoever carries the messages would ask clients that have gone."""
    drops = {"c-000": "advertise", "c-001": "share", "c-002": "mask", "c-003": "confirm"}
    made = Round(sum_round.terms(9, threshold=5), drops=drops)
    assert made.server.survivors == ()
    seen = [(made.server.phase, len(made.server.expected))]
    for step in sum_round.STEPS[:4]:
        getattr(made, step)()
        seen.append((made.server.phase, len(made.server.expected)))
    assert seen == list(zip(list(Phase)[:5], [9, 8, 7, 6, 6], strict=True))
    assert made.server.survivors == made.terms.clients[3:]


def test_too_few_are_an_error_that_names_the_missing() -> None:
    """Without it nobody would know which client to look after."""
    made = Round(sum_round.terms(4, threshold=3), drops=dict.fromkeys(("c-000", "c-002"), "share"))
    with pytest.raises(RunError) as caught:
        made.until("share")
    assert str(caught.value) == (
        "secure sum: 2 clients sent shares, below the threshold of 3; nothing was summed; "
        "missing: c-000, c-002; begin a new round when they can be reached"
    )
    assert made.server.phase is Phase.SHARES


def test_shares_must_be_for_all_others() -> None:
    """Without it a client's seeds could not be restored when it is too late to stop."""
    made = Round(sum_round.terms(3)).until("advertise")
    _, sent = secagg.share(made.state("c-000"), made.told["roster"])
    whole = Shares.read(sent, made.terms.digest)
    lies = (
        replace(whole, sealed=whole.sealed[:1]),
        replace(whole, sealed=(("c-000", whole.sealed[0][1]), *whole.sealed)),
    )
    for lie in lies:
        with pytest.raises(BadReply, match="not hold one share for each other client"):
            made.server.add_shares("c-000", lie.to_bytes(made.terms.digest))


def _revealed(made: Round, name: str) -> Reveal:
    request, verify = made.told["request"], made.keys.verify
    return Reveal.read(secagg.reveal(made.state(name), request, verify)[1], made.terms.digest)


def test_reveals_must_hold_the_right_kinds() -> None:
    """Without it both kinds of share of one client could meet at the server."""
    made = Round(sum_round.terms(4), drops={"c-003": "mask"}).until("confirm")
    right = _revealed(made, "c-000")
    kinds = [kind for _, kind, _ in right.shares]
    assert kinds == [SELF, SELF, SELF, MASK]
    flipped = tuple((n, 1 - k, s) for n, k, s in right.shares)
    both = (*right.shares[:1], (*right.shares[0][:1], MASK, bytes(16)), *right.shares[1:])
    for lie in (flipped, right.shares[:3], right.shares[1:], both):
        data = replace(right, shares=lie).to_bytes(made.terms.digest)
        with pytest.raises(BadReply, match=r"one share of the right kind|holds a name twice"):
            made.server.add_reveal("c-000", data)


@pytest.mark.parametrize("owner", ["c-000", "c-003"])
def test_a_wrong_share_is_found(owner: str) -> None:
    """Without it noise would be taken for a sum."""
    made = Round(sum_round.terms(4), drops={"c-003": "mask"}).until("confirm")
    for name in ("c-000", "c-001", "c-002"):
        right = _revealed(made, name)
        bad = tuple((n, k, bytes(16) if n == owner else s) for n, k, s in right.shares)
        sent = replace(right, shares=bad if name == "c-001" else right.shares)
        made.server.add_reveal(name, sent.to_bytes(made.terms.digest))
    with pytest.raises(BadReply, match=f"the shares of {owner} do not restore its seed") as caught:
        made.server.total()
    assert caught.value.public_reason == f"the shares of {owner} do not restore its seed"


def test_a_changed_vector_is_found() -> None:
    """Without it a client that does not mask as it should would turn the sum into noise unseen."""
    made = Round(sum_round.terms(3, entries=64)).until("share")
    for name in made.terms.clients:
        sent = made.masked(name)
        made.server.add_masked(name, bytes(256) if name == "c-001" else sent)
    made.told["outcome"] = made.server.outcome()
    made.confirm()
    made.reveal()
    with pytest.raises(BadReply, match=r"^secure sum: .* masks did not cancel") as caught:
        made.server.total()
    assert "no sum within the clip" in str(caught.value.public_reason)


def test_a_vector_of_another_size_is_a_bad_reply() -> None:
    """Without it a huge or short payload would be added to part of the sum."""
    made = Round(sum_round.terms(3)).until("share")
    sent = made.masked("c-000")
    for lie in (b"", sent[:-4], sent[:-1], sent + b"\0", sent * 2):
        with pytest.raises(BadReply, match=f"client c-000: {len(lie)} bytes instead of 40"):
            made.server.add_masked("c-000", lie)
    assert made.server.phase is Phase.VECTORS
    with pytest.raises(RunError, match="0 clients sent vectors"):
        made.server.outcome()


def test_a_vector_is_made_and_summed_within_its_memory() -> None:
    """Without it 350 MB of parameters would need several times as much on either side."""
    chunk = 2**18
    agreed = sum_round.terms(3, entries=40 * chunk, chunk_entries=chunk)  # 40 MiB a client
    vector = np.full(agreed.entries, 0.25, np.float32)
    size, rest = vector.nbytes, 8 * 4 * chunk
    data = dict.fromkeys(agreed.clients, vector)
    made = Round(agreed, data, dict.fromkeys(agreed.clients, 1.0)).until("share")

    tracemalloc.start()
    _, chunks = secagg.mask(
        made.state("c-000"), made.told["deliveries"]["c-000"], [vector], weight=1.0
    )
    assert sum(len(each) for each in chunks) == size
    assert tracemalloc.get_traced_memory()[1] < rest  # beside the vector
    whole = bytearray(size)
    _, chunks = secagg.mask(
        made.state("c-001"), made.told["deliveries"]["c-001"], [vector], weight=1.0, into=whole
    )
    assert sum(len(each) for each in chunks) == size
    tracemalloc.reset_peak()
    made.server.add_masked("c-001", whole)
    assert tracemalloc.get_traced_memory()[1] < size + rest  # the payload
    tracemalloc.stop()


def test_an_opened_sum_needs_no_second_one() -> None:
    """Without it the server would hold the sum twice, or in float64, before it has the first entry."""
    chunk = 2**16
    agreed = sum_round.terms(3, entries=100 * chunk, chunk_entries=chunk)
    made = Round(agreed, dict.fromkeys(agreed.clients, np.zeros(agreed.entries, np.float32)))
    made.until("reveal")
    tracemalloc.start()
    total = sum(float(np.abs(each).max()) for each in made.server.chunks())
    assert tracemalloc.get_traced_memory()[1] < 10 * 4 * chunk
    tracemalloc.stop()
    assert total == 0.0


@pytest.mark.parametrize("step", [s for s in sum_round.STEPS if s != "mask"])
def test_malformed_bytes_are_bad_replies(step: str) -> None:
    """Without it a client could stop the server with a few bytes."""
    names = ("add_advert", "add_shares", "add_masked", "add_confirmation", "add_reveal")
    add = dict(zip(sum_round.STEPS, names, strict=True))[step]
    made = Round(sum_round.terms(3))
    if step != "advertise":
        made.until(sum_round.STEPS[sum_round.STEPS.index(step) - 1])
    right = Round(made.terms).until(step).sent[step]["c-000"]
    made.server = _unsigned(made)
    for cut in range(len(right)):
        with pytest.raises(BadReply, match="secure sum, client c-000: "):
            getattr(made.server, add)("c-000", right[:cut])
    with pytest.raises(BadReply, match="3 bytes follow its end"):
        getattr(made.server, add)("c-000", right + b"abc")
    for _ in range(100):
        with pytest.raises(NeuligError):
            getattr(made.server, add)("c-000", os.urandom(len(right)))


def _unsigned(made: Round) -> Server:
    """The same server without a look at signatures, so that only the form is refused."""
    made.server._verify = None
    return made.server


def test_an_advert_survives_its_bytes() -> None:
    """Without it the test of malformed bytes could refuse everything."""
    made = Round(sum_round.terms(3))
    _, sent = secagg.advertise(made.terms, "c-000", made.keys.signer("c-000"))
    advert = Advert.read(sent, made.terms.digest)
    assert advert.to_bytes(made.terms.digest) == sent
    made.server.add_advert("c-000", sent)
    assert Outcome(("a",), ()).survivors == ("a",)
