"""A client's side of a secure sum: five steps, each from a stored state and a message to the next.

Every function returns the new state with the reply. The caller stores the state (`to_bytes`, in a
file that only the client can read) before it sends the reply; then the next message may reach a new
process. Whatever is wrong with what the server sent ends in ClientRefused, and nothing is sent.

Source: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, 2017,
figure 4, with the consistency check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.secagg import checks, shares
from neulig_fl.privacy.secagg.fixed_point import WORD, Words
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.messages import Advert, Delivery, Roster, Shares, Sign, Verify
from neulig_fl.privacy.secagg.shares import SHARE_BYTES, Way
from neulig_fl.privacy.secagg.state import ClientState, Step
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Request, Reveal
from neulig_fl.privacy.secagg.vectors import masked_chunks
from neulig_fl.privacy.secagg.wire import DIGEST_BYTES


def advertise(
    terms: Terms, client: str, sign: Sign | None = None, said: bytes = bytes(DIGEST_BYTES)
) -> tuple[ClientState, bytes]:
    """Step 1: new keys for this sum alone.

    Args:
        terms: of the sum, made by this client from what it knows itself.
        client: its name.
        sign: its long-term key. Without it a server that lies about keys reads everything.
        said: SHA-256 of what else it says to the others, 32 bytes. It is in the roster, so that
            clients who are told different things get masks that do not cancel.

    Returns:
        The first state, and the Advert.

    Raises:
        InputError: the client is not among those invited.
    """
    if client not in terms.clients:
        raise InputError(
            f"secure sum: {client} is not invited; allowed: {', '.join(terms.clients)}"
        )
    sealing, seed = shares.new_key(), shares.new_seed()
    mask_key = shares.public_key(shares.mask_key(seed, terms.digest))
    advert = Advert(client, shares.public_key(sealing), mask_key, said)
    if sign is not None:
        advert = replace(advert, signature=sign(advert.signed(terms.digest)))
    sent = advert.to_bytes(terms.digest)
    own = shares.new_seed()
    return ClientState(terms, client, Step.ADVERTISED, sent, sealing, seed, own), sent


def share(
    state: ClientState, roster: bytes, verify: Verify | None = None
) -> tuple[ClientState, bytes]:
    """Step 2: shares of both seeds, sealed for each client of the roster.

    Args:
        state: after step 1.
        roster: the server's message.
        verify: checks the others' signatures; without it they are not looked at.

    Returns:
        The next state, and the Shares.

    Raises:
        ClientRefused: too few clients, an uninvited one, a wrong signature, this client's own keys
            missing or changed, other terms, or malformed bytes.
    """
    checks.require_step(state, Step.ADVERTISED)
    digest, threshold = state.terms.digest, state.terms.threshold
    with checks.understanding(state, "the roster"):
        everyone = Roster.read(roster, digest)
    checks.check_roster(state, everyone, verify)
    names = everyone.clients
    selves = shares.split(state.self_seed, threshold, len(names))
    maskers = shares.split(state.mask_seed, threshold, len(names))
    pairs = {n: s + m for n, s, m in zip(names, selves, maskers, strict=True)}
    bound = everyone.digest(digest)
    sealed = []
    for other in names:
        if other == state.client:
            continue
        way = Way(digest, bound, state.client, other)
        with checks.understanding(state, f"the key of {other}"):
            public = everyone[other].sealing_key
            sealed.append((other, shares.seal(pairs[other], state.sealing_key, public, way)))
    check = shares.self_check(state.self_seed, digest)
    held = ((state.client, pairs[state.client]),)
    after = replace(state, step=Step.SHARED, roster=roster, held=held)
    return after, Shares(state.client, check, tuple(sealed)).to_bytes(digest)


def mask(
    state: ClientState,
    delivery: bytes,
    pieces: Iterable[NDArray[Any]],
    weight: float,
    into: bytearray | memoryview | None = None,
) -> tuple[ClientState, Iterator[memoryview]]:
    """Step 3: the vector in fixed point, under a self-mask and a mask with every other client.

    The new state has forgotten the seeds: no second vector can go out under the same masks.

    Args:
        state: after step 2.
        delivery: the server's message.
        pieces: float32 or float64 arrays of any shapes, already multiplied by `weight`, which one
            after the other make up the vector. They are taken as the chunks are.
        weight: this client's weight; entries beyond clip x |weight| are not let through.
        into: writable memory of 4 bytes an entry, in which the chunks then lie one after the other:
            the payload as a whole, without a copy.

    Returns:
        The next state, and the chunks as bytes, each made when it is asked for. Whoever takes them
        gets RunError for entries that are not finite, out of range, too many or too few; what was
        taken until then is masked, and of no use to anyone.

    Raises:
        ClientRefused: too few clients, a share that cannot be opened, or malformed bytes.
        InputError: `into` has another size, or cannot be written to.
    """
    checks.require_step(state, Step.SHARED)
    room = None if into is None else _room(state.terms, memoryview(into))
    everyone = Roster.read(state.roster, state.terms.digest)
    with checks.understanding(state, "the delivery of shares"):
        held = _opened(state, everyone, Delivery.read(delivery, state.terms.digest))
    others = [name for name, _ in held if name != state.client]
    with checks.understanding(state, "a key for masks"):
        own = _masks(state, everyone, others)
    after = replace(
        state, step=Step.MASKED, sealing_key=b"", mask_seed=b"", self_seed=b"", held=held
    )
    return after, masked_chunks(state.terms, own, pieces, weight, checks.who(state), room)


def confirm(
    state: ClientState, outcome: bytes, sign: Sign | None = None
) -> tuple[ClientState, bytes]:
    """Step 4: this client's word for who survived. It gives it for one outcome only, ever.

    Args:
        state: after step 3, or 4 if the same is asked again.
        outcome: the server's message.
        sign: the client's long-term key.

    Returns:
        The next state, and the Confirmation.

    Raises:
        ClientRefused: the two lists overlap or are not those whose shares came, this client or too
            many others are not among the survivors, another outcome was confirmed, or malformed
            bytes.
    """
    checks.require_step(state, Step.MASKED, Step.CONFIRMED)
    digest = state.terms.digest
    with checks.understanding(state, "the outcome"):
        named = Outcome.read(outcome, digest)
    checks.check_outcome(state, named)
    bound = Roster.read(state.roster, digest).digest(digest)
    signature = b"" if sign is None else sign(named.signed(digest, bound))
    after = replace(state, step=Step.CONFIRMED, outcome=outcome)
    return after, Confirmation(state.client, signature).to_bytes(digest)


def reveal(
    state: ClientState, request: bytes, verify: Verify | None = None
) -> tuple[ClientState, bytes]:
    """Step 5: of each survivor the share of the self seed, of each dropped client that of the mask.

    The new state has forgotten all shares: who gets hold of it, and of what was sent, cannot undo
    the masks of one vector.

    Args:
        state: after step 4.
        request: the server's message.
        verify: checks the survivors' signatures; without it they are only counted.

    Returns:
        The last state, and the Reveal.

    Raises:
        ClientRefused: another outcome than this client confirmed, fewer confirmations than the
            threshold, a wrong signature, or malformed bytes.
    """
    checks.require_step(state, Step.CONFIRMED)
    digest = state.terms.digest
    with checks.understanding(state, "the request for shares"):
        asked = Request.read(request, digest)
    checks.check_outcome(state, asked.outcome)
    checks.check_confirmations(state, asked, verify)
    found = []
    for name, pair in state.held:
        survived = name in asked.outcome.survivors
        part = pair[:SHARE_BYTES] if survived else pair[SHARE_BYTES:]
        found.append((name, SELF if survived else MASK, part))
    after = replace(state, step=Step.REVEALED, held=())
    return after, Reveal(state.client, tuple(found)).to_bytes(digest)


def _room(terms: Terms, into: memoryview) -> Words:
    needed = terms.entries * WORD.itemsize
    if into.nbytes != needed or into.readonly:
        raise InputError(
            f"secure sum: into holds {into.nbytes} bytes; allowed: {needed}, writable, 4 an entry"
        )
    return np.frombuffer(into, WORD)


def _opened(
    state: ClientState, everyone: Roster, delivery: Delivery
) -> tuple[tuple[str, bytes], ...]:
    """The pairs of shares that the others sealed for this client, and its own, by name."""
    if delivery.client != state.client:
        raise ValueError(f"it is for {delivery.client}")
    bound, held = everyone.digest(state.terms.digest), dict(state.held)
    for sender, sealed in delivery.sealed:
        if sender == state.client or sender not in everyone.clients:
            raise ValueError(f"it holds a share of {sender}, who has none to send")
        way = Way(state.terms.digest, bound, sender, state.client)
        public = everyone[sender].sealing_key
        try:
            held[sender] = shares.unseal(sealed, state.sealing_key, public, way)
        except ValueError as error:
            raise ValueError(f"the share of {sender} cannot be opened: {error}") from None
    if len(held) < state.terms.threshold:
        raise checks.too_few(state, len(held), "sent shares")
    return tuple(sorted(held.items()))


def _masks(state: ClientState, everyone: Roster, others: list[str]) -> list[Mask]:
    """The self-mask, and one with each other client: the first of two adds, the second takes."""
    digest = state.terms.digest
    private, bound = shares.mask_key(state.mask_seed, digest), everyone.digest(digest)
    found = [Mask(shares.self_mask(state.self_seed, digest), 1)]
    for other in others:
        key = shares.pair_mask(private, everyone[other].mask_key, digest, bound)
        found.append(Mask(key, 1 if state.client < other else -1))
    return found
