"""Law 8, first half: the sum is the plain sum, whoever drops out, or there is none at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sum_round
from hypothesis import given, settings
from hypothesis import strategies as st
from sum_round import STEPS, Round

from neulig_fl.core.errors import BadReply, RunError
from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import quantisation
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.running_sum import RunningSum


@st.composite
def _rounds(draw: Any, clients: st.SearchStrategy[int]) -> Round:
    """Rounds in which as many drop out as the threshold lets go, at any steps."""
    count = draw(clients)
    agreed = sum_round.terms(
        count,
        entries=draw(st.integers(1, 40)),
        threshold=draw(st.integers(count // 2 + 1, count)),
        clip=draw(st.sampled_from([1e-3, 0.7, 1.0, 300.0])),
        chunk_entries=draw(st.sampled_from([1, 7, 40, 64])),
    )
    most = count - agreed.threshold
    gone = draw(st.lists(st.sampled_from(agreed.clients), max_size=most, unique=True))
    drops = {name: draw(st.sampled_from(STEPS)) for name in gone}
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    seed = draw(st.integers(0, 2**32 - 1))
    data = {name: v.astype(dtype) for name, v in sum_round.vectors(agreed, seed).items()}
    drawn = np.random.default_rng(seed).dirichlet(np.ones(count))
    weights = dict(zip(agreed.clients, drawn.tolist(), strict=True))
    return Round(agreed, data, weights, drops)


def _holds(made: Round) -> None:
    total = made.total()
    gone = {name for name, step in made.drops.items() if step in STEPS[:3]}
    assert made.server.survivors == tuple(n for n in made.terms.clients if n not in gone)
    bound = quantisation(made.terms.clip, len(made.server.survivors))
    slack = 1e-12 * made.terms.clip  # of adding up float64 in `wanted`
    assert np.abs(total - made.wanted()).max() <= bound + slack


@settings(max_examples=40, deadline=None)
@given(_rounds(st.sampled_from([3, 5])))
def test_the_sum_is_the_plain_sum_to_quantisation(made: Round) -> None:
    """Without it what is merged would not be what the clients have."""
    _holds(made)


@settings(max_examples=4, deadline=None)
@given(_rounds(st.just(20)))
def test_the_sum_is_right_for_twenty_clients(made: Round) -> None:
    """Without it it could hold for a handful of clients only."""
    _holds(made)


@pytest.mark.slow
def test_the_sum_is_right_for_a_hundred_clients() -> None:
    """Without it a large federation, half of which leaves, could get another sum."""
    agreed = sum_round.terms(100, entries=9, threshold=51)
    gone = np.random.default_rng(0).permutation(agreed.clients)[:49]
    drops = {str(name): STEPS[i % 5] for i, name in enumerate(gone)}
    _holds(Round(agreed, drops=drops))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [3, 5])
def test_below_the_threshold_there_is_no_sum(count: int, step: str) -> None:
    """Without it a sum of few vectors, or of one, would come out."""
    agreed = sum_round.terms(count)
    gone = agreed.clients[: count - agreed.threshold + 1]
    made = Round(agreed, drops=dict.fromkeys(gone, step))
    with pytest.raises(RunError, match=f"below the threshold of {agreed.threshold}; nothing was"):
        made.total()


@pytest.mark.parametrize("step", ["share", "mask", "confirm"])
def test_too_few_are_too_few_over_several_steps(step: str) -> None:
    """Without it only those who leave at one step would be counted."""
    agreed = sum_round.terms(5)
    made = Round(agreed, drops={"c-000": "advertise", "c-001": step})
    with pytest.raises(RunError, match=r"3 clients sent \w+, below the threshold of 4"):
        made.total()


def test_weights_need_not_be_convex() -> None:
    """Without it a negative weight, or a sum over 1, would wrap around."""
    agreed = sum_round.terms(3, headroom=3.5)
    weights = {"c-000": 1.5, "c-001": -1.25, "c-002": 0.75}
    made = Round(agreed, weights=weights)
    total = made.total()
    assert np.abs(total - made.wanted()).max() <= quantisation(1.0, 3, headroom=3.5)
    assert np.abs(total).max() > 1.0


def test_the_largest_sum_that_can_be_is_right() -> None:
    """Without it the scale could leave no room for rounding, or for the last bit."""
    for clip in (1.0, 0.75, 1.0000001):
        agreed = sum_round.terms(3, clip=clip)
        for sign in (1, -1):
            data = dict.fromkeys(agreed.clients, np.full(10, sign * clip))
            made = Round(agreed, data, {"c-000": 0.1, "c-001": 0.2, "c-002": 0.7})
            assert np.abs(made.total() - sign * clip).max() <= quantisation(clip, 3) + 1e-12


def test_the_masks_of_a_dropped_client_are_recovered() -> None:
    """Without it one client that leaves after the shares would spoil the sum of all others."""
    made = Round(sum_round.terms(5, entries=64), drops={"c-002": "mask"})
    assert np.abs(made.total() - made.wanted()).max() <= made.terms.quantisation


def test_without_the_dropped_clients_masks_there_is_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the test above could pass although a dropped client left no masks behind."""
    made = Round(sum_round.terms(5, entries=64), drops={"c-002": "mask"}).until("reveal")
    opened = RunningSum.opened

    def four_of_eight(self: RunningSum, left: list[Mask]) -> Any:
        assert len(left) == 8  # 4 self-masks, 4 masks with the dropped one
        return opened(self, left[:4])

    monkeypatch.setattr(RunningSum, "opened", four_of_eight)
    with pytest.raises(BadReply, match="masks did not cancel"):
        made.server.total()


def test_the_sum_comes_in_chunks_and_whole() -> None:
    """Without it a server with memory for one chunk could not use it, or would get another sum."""
    whole = Round(sum_round.terms(3, chunk_entries=4))
    chunks = list(whole.until("reveal").server.chunks())
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert np.abs(np.concatenate(chunks) - whole.wanted()).max() <= whole.terms.quantisation
    single = Round(sum_round.terms(3)).until("reveal")
    total = single.server.total(np.float32)
    assert total.dtype == np.float32
    assert np.abs(total - single.wanted()).max() <= single.terms.quantisation + 2.0**-24


def test_who_signs_nothing_can_still_sum() -> None:
    """Without it hooks for long-term keys would be needed where the server is trusted with them."""
    agreed = sum_round.terms(3, headroom=1.5)
    server, states = secagg.Server(agreed), {}
    for name in agreed.clients:
        states[name], sent = secagg.advertise(agreed, name)
        server.add_advert(name, sent)
    roster = server.roster()
    for name in agreed.clients:
        states[name], sent = secagg.share(states[name], roster)
        server.add_shares(name, sent)
    for name, delivery in server.deliveries().items():
        pieces = [np.full((2, 3), 0.25), np.zeros(0), np.full(4, 0.5)]
        states[name], chunks = secagg.mask(states[name], delivery, pieces, 1 / 2)
        server.add_masked(name, b"".join(chunks))
    outcome = server.outcome()
    for name in agreed.clients:
        states[name], sent = secagg.confirm(states[name], outcome)
        server.add_confirmation(name, sent)
    request = server.request()
    for name in agreed.clients:
        server.add_reveal(name, secagg.reveal(states[name], request)[1])
    assert server.total().tolist() == [0.75] * 6 + [1.5] * 4
