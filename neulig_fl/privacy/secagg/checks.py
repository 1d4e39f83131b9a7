"""What a client refuses: lists, keys and signatures that an honest server would not send."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from neulig_fl.core.errors import ClientRefused
from neulig_fl.privacy.secagg.messages import Roster, Verify
from neulig_fl.privacy.secagg.state import ClientState, Step
from neulig_fl.privacy.secagg.unmasking import Outcome, Request


def check_roster(state: ClientState, everyone: Roster, verify: Verify | None) -> None:
    """Refuses keys that are not those of enough invited clients, this one's own among them."""
    terms = state.terms
    strange = [name for name in everyone.clients if name not in terms.clients]
    if strange:
        raise refused(state, f"{strange[0]} is in the roster and was not invited")
    if len(everyone.clients) < terms.threshold:
        raise too_few(state, len(everyone.clients), "in the roster")
    own = [a for a in everyone.adverts if a.client == state.client]
    if [a.to_bytes(terms.digest) for a in own] != [state.advert]:
        raise refused(state, "its own keys are missing from the roster, or are not its own there")
    for advert in everyone.adverts:
        signed = advert.signed(terms.digest)
        if verify is not None and not verify(advert.client, signed, advert.signature):
            raise refused(state, f"the signature on the keys of {advert.client} is wrong")


def check_outcome(state: ClientState, named: Outcome) -> None:
    """Refuses an outcome that could make others reveal both seeds of one client."""
    both = set(named.survivors) & set(named.dropped)
    if both:
        raise refused(state, f"{min(both)} is called a survivor and dropped at once")
    if state.outcome and named.to_bytes(state.terms.digest) != state.outcome:
        raise refused(state, _contradiction(state, named))
    if {*named.survivors, *named.dropped} != set(state.peers):
        raise refused(state, "survivors and dropped are not those whose shares it was given")
    if state.client not in named.survivors:
        raise refused(state, "it is not among the survivors itself")
    if len(named.survivors) < state.terms.threshold:
        raise too_few(state, len(named.survivors), "survived")


def _contradiction(state: ClientState, named: Outcome) -> str:
    before = Outcome.read(state.outcome, state.terms.digest)
    for name in named.dropped:
        if name in before.survivors:
            return f"{name} is called dropped, and it has confirmed {name} as a survivor"
    for name in named.survivors:
        if name in before.dropped:
            return f"{name} is called a survivor, and it has confirmed {name} as dropped"
    return "it has confirmed another outcome"


def check_confirmations(state: ClientState, asked: Request, verify: Verify | None) -> None:
    """Refuses an outcome that too few survivors stand for."""
    digest = state.terms.digest
    signed = asked.outcome.signed(digest, Roster.read(state.roster, digest).digest(digest))
    for word in asked.confirmations:
        if word.client not in asked.outcome.survivors:
            raise refused(state, f"{word.client} confirms the outcome and is no survivor")
        if verify is not None and not verify(word.client, signed, word.signature):
            raise refused(state, f"the signature of {word.client} under the outcome is wrong")
    if len(asked.confirmations) < state.terms.threshold:
        raise too_few(state, len(asked.confirmations), "confirmed the outcome")


def require_step(state: ClientState, *allowed: Step) -> None:
    """Refuses what is asked out of turn, or again."""
    if state.step not in allowed:
        wanted = " or ".join(step.name.lower() for step in allowed)
        raise refused(state, f"it has {state.step.name.lower()} and answers this once {wanted}")


@contextlib.contextmanager
def understanding(state: ClientState, what: str) -> Iterator[None]:
    """What cannot be read, or used as a key, is the server's fault and said as such."""
    try:
        yield
    except ValueError as error:
        raise refused(state, f"{what} is not what it must be: {error}") from None


def who(state: ClientState) -> str:
    """Whose errors they are."""
    return f"secure sum, client {state.client}"


def refused(state: ClientState, problem: str) -> ClientRefused:
    """The refusal, in words that may leave the client."""
    return ClientRefused(
        f"{who(state)}: refused: {problem}; nothing was sent; begin a new round",
        public_reason=problem,
    )


def too_few(state: ClientState, count: int, what: str) -> ClientRefused:
    """The refusal of a round that is below the threshold."""
    return refused(state, f"{count} clients {what}, below the threshold of {state.terms.threshold}")
