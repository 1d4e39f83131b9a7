"""The server's side of a secure sum: it collects, passes on, adds words, and takes masks off.

It holds the running sum and one chunk. It learns the sum of the survivors' vectors, and of a single
one nothing but what that sum says.

Source: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, 2017,
figure 4, with the consistency check.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from neulig_fl.core.errors import BadReply, RunError
from neulig_fl.privacy.secagg.messages import Advert, Delivery, Roster, Shares, Verify
from neulig_fl.privacy.secagg.recovery import masks_left
from neulig_fl.privacy.secagg.running_sum import Payload, RunningSum
from neulig_fl.privacy.secagg.terms import Terms
from neulig_fl.privacy.secagg.unmasking import MASK, SELF, Confirmation, Outcome, Request, Reveal

Sent = TypeVar("Sent", Advert, Shares, Confirmation, Reveal)
"""What a client sends."""


class Phase(IntEnum):
    """What the server waits for."""

    ADVERTS = 1
    SHARES = 2
    VECTORS = 3
    CONFIRMATIONS = 4
    REVEALS = 5
    DONE = 6


class Server:
    """One secure sum, from the first keys to the sum.

    Each step takes what clients sent, then is closed by the call that makes what they are sent
    next. Who has not sent anything by then has dropped out. What a client sent wrongly is refused
    and changes nothing; the caller goes on without that client, or stops.

    Args:
        terms: of the sum.
        verify: checks signatures as they come; without it they are passed on unseen.
    """

    def __init__(self, terms: Terms, verify: Verify | None = None) -> None:
        self._terms = terms
        self._verify = verify
        self._phase = Phase.ADVERTS
        self._adverts: dict[str, Advert] = {}
        self._roster = Roster(())
        self._shares: dict[str, Shares] = {}
        self._sum = RunningSum(terms)
        self._added: set[str] = set()
        self._outcome = Outcome((), ())
        self._words: dict[str, Confirmation] = {}
        self._reveals: dict[str, Reveal] = {}

    @property
    def phase(self) -> Phase:
        """What is waited for."""
        return self._phase

    @property
    def expected(self) -> tuple[str, ...]:
        """Who may answer the present step, sorted."""
        by_phase = {
            Phase.ADVERTS: self._terms.clients,
            Phase.SHARES: self._roster.clients,
            Phase.VECTORS: tuple(sorted(self._shares)),
        }
        return by_phase.get(self._phase, self._outcome.survivors)

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose vectors are in the sum; nobody before `outcome`."""
        return self._outcome.survivors

    def add_advert(self, client: str, payload: bytes) -> None:
        """Step 1: a client's keys.

        Raises:
            BadReply: malformed, of other terms, signed wrongly, or sent twice.
        """
        self._expect(client, Phase.ADVERTS, self._adverts)
        with _reading(client):
            advert = self._sent(Advert, client, payload)
            self._check_signature(client, advert.signed(self._terms.digest), advert.signature)
        self._adverts[client] = advert

    def roster(self) -> bytes:
        """Close step 1.

        Returns:
            What all in `expected` are sent.

        Raises:
            RunError: fewer clients than the threshold.
        """
        self._close(Phase.ADVERTS, self._adverts)
        self._roster = Roster(tuple(self._adverts[name] for name in sorted(self._adverts)))
        return self._roster.to_bytes(self._terms.digest)

    def add_shares(self, client: str, payload: bytes) -> None:
        """Step 2: a client's sealed shares.

        Raises:
            BadReply: malformed, of other terms, not one for each other client, or sent twice.
        """
        self._expect(client, Phase.SHARES, self._shares)
        with _reading(client):
            sent = self._sent(Shares, client, payload)
            if [n for n, _ in sent.sealed] != [n for n in self._roster.clients if n != client]:
                raise ValueError("it does not hold one share for each other client")
        self._shares[client] = sent

    def deliveries(self) -> dict[str, bytes]:
        """Close step 2.

        Returns:
            What each in `expected` is sent.

        Raises:
            RunError: fewer clients than the threshold.
        """
        self._close(Phase.SHARES, self._shares)
        boxes = {name: dict(sent.sealed) for name, sent in sorted(self._shares.items())}
        made = {}
        for name in boxes:
            sealed = tuple((sender, box[name]) for sender, box in boxes.items() if sender != name)
            made[name] = Delivery(name, sealed).to_bytes(self._terms.digest)
        return made

    def add_masked(self, client: str, payload: Payload) -> None:
        """Step 3: a client's masked vector as a whole.

        Raises:
            BadReply: another size than 4 bytes an entry, or sent twice.
        """
        self._expect(client, Phase.VECTORS, self._added)
        with _reading(client):
            self._sum.add(payload)
        self._added.add(client)

    def outcome(self) -> bytes:
        """Close step 3.

        Returns:
            What all in `expected` are sent.

        Raises:
            RunError: fewer clients than the threshold.
        """
        self._close(Phase.VECTORS, self._added)
        survivors = tuple(sorted(self._added))
        self._outcome = Outcome(survivors, tuple(sorted(set(self._shares) - self._added)))
        return self._outcome.to_bytes(self._terms.digest)

    def add_confirmation(self, client: str, payload: bytes) -> None:
        """Step 4: a survivor's word for the outcome.

        Raises:
            BadReply: malformed, of other terms, signed wrongly, or sent twice.
        """
        self._expect(client, Phase.CONFIRMATIONS, self._words)
        digest = self._terms.digest
        with _reading(client):
            word = self._sent(Confirmation, client, payload)
            signed = self._outcome.signed(digest, self._roster.digest(digest))
            self._check_signature(client, signed, word.signature)
        self._words[client] = word

    def request(self) -> bytes:
        """Close step 4.

        Returns:
            What all in `expected` are sent.

        Raises:
            RunError: fewer clients than the threshold.
        """
        self._close(Phase.CONFIRMATIONS, self._words)
        words = tuple(self._words[name] for name in sorted(self._words))
        return Request(self._outcome, words).to_bytes(self._terms.digest)

    def add_reveal(self, client: str, payload: bytes) -> None:
        """Step 5: a survivor's shares.

        Raises:
            BadReply: malformed, of other terms, not one share of the right kind for each client, or
                sent twice.
        """
        self._expect(client, Phase.REVEALS, self._reveals)
        kinds = dict.fromkeys(self._outcome.survivors, SELF)
        kinds |= dict.fromkeys(self._outcome.dropped, MASK)
        with _reading(client):
            reveal = self._sent(Reveal, client, payload)
            if [(name, kind) for name, kind, _ in reveal.shares] != sorted(kinds.items()):
                raise ValueError("it does not hold one share of the right kind for each client")
        self._reveals[client] = reveal

    def chunks(self) -> Iterator[NDArray[np.float64]]:
        """Close step 5: the sum of the survivors' vectors, chunk by chunk.

        Yields:
            float64 arrays of the sizes that the terms say, right to `terms.quantisation`.

        Raises:
            RunError: fewer clients than the threshold.
            BadReply: shares that restore nothing, or masks that do not cancel.
        """
        self._close(Phase.REVEALS, self._reveals)
        used = {
            name: self._reveals[name] for name in sorted(self._reveals)[: self._terms.threshold]
        }
        checks = {name: self._shares[name].check for name in self._outcome.survivors}
        left = masks_left(self._terms, self._roster, self._outcome, checks, used)
        return self._sum.opened(left)

    def total(self, dtype: DTypeLike = np.float64) -> NDArray[np.floating]:
        """Close step 5: the sum as a whole, beside the running one.

        Args:
            dtype: float64, or float32, which rounds to 24 bits.

        Raises:
            RunError: fewer clients than the threshold.
            BadReply: shares that restore nothing, or masks that do not cancel.
        """
        whole = np.empty(self._terms.entries, dtype)
        start = 0
        for chunk in self.chunks():
            whole[start : start + len(chunk)] = chunk
            start += len(chunk)
        return whole

    def _expect(self, client: str, phase: Phase, got: Iterable[str]) -> None:
        if self._phase is not phase:
            raise RunError(
                f"secure sum: {client} sent its part of {phase.name.lower()} while "
                f"{self._phase.name.lower()} are waited for; it came too late, or too early"
            )
        if client not in self.expected:
            raise _bad(client, f"it takes no part; allowed: {', '.join(self.expected)}")
        if client in got:
            raise _bad(client, "it was sent twice")

    def _close(self, phase: Phase, got: Iterable[str]) -> None:
        if self._phase is not phase:
            raise RunError(
                f"secure sum: {phase.name.lower()} cannot be closed while "
                f"{self._phase.name.lower()} are waited for; call each step once, in order"
            )
        count = len(list(got))
        if count < self._terms.threshold:
            missing = ", ".join(name for name in self.expected if name not in set(got))
            raise RunError(
                f"secure sum: {count} clients sent {phase.name.lower()}, below the threshold of "
                f"{self._terms.threshold}; nothing was summed; missing: {missing}; begin a new "
                "round when they can be reached"
            )
        self._phase = Phase(phase + 1)

    def _sent(self, kind: type[Sent], client: str, payload: bytes) -> Sent:
        """A message of this round and of this client, or ValueError."""
        sent = kind.read(payload, self._terms.digest)
        if sent.client != client:
            raise ValueError(f"it says that it is of {sent.client}")
        return sent

    def _check_signature(self, client: str, signed: bytes, signature: bytes) -> None:
        if self._verify is not None and not self._verify(client, signed, signature):
            raise ValueError("its signature is wrong")


@contextlib.contextmanager
def _reading(client: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _bad(client, str(error)) from None


def _bad(client: str, problem: str) -> BadReply:
    return BadReply(
        f"secure sum, client {client}: {problem}; nothing of it is used", public_reason=problem
    )
