"""A whole secure sum in one process: real keys, real messages, states stored between all steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from neulig_fl.privacy import secagg
from neulig_fl.privacy.secagg import ClientState, Server, Terms
from neulig_fl.privacy.secagg.messages import Sign

STEPS = ("advertise", "share", "mask", "confirm", "reveal")
Vectors = Mapping[str, NDArray[Any]]


def names(count: int) -> tuple[str, ...]:
    """c-000, c-001, ..."""
    return tuple(f"c-{i:03}" for i in range(count))


def terms(count: int = 3, entries: int = 10, **others: Any) -> Terms:
    """Terms that need nothing said."""
    said = {"context": b"run 1, stage merging, attempt 1", "clip": 1.0, "chunk_entries": 4}
    said |= {"threshold": secagg.default_threshold(count)}
    return Terms(clients=names(count), entries=entries, **(said | others))


def vectors(agreed: Terms, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """A vector for each client that fills the clip, not yet weighted."""
    generator = np.random.default_rng(seed)
    shape = (len(agreed.clients), agreed.entries)
    drawn = generator.uniform(-agreed.clip, agreed.clip, shape).astype(np.float32)
    return dict(zip(agreed.clients, drawn, strict=True))


def equal_weights(agreed: Terms) -> dict[str, float]:
    """Weights of a mean."""
    return dict.fromkeys(agreed.clients, 1 / len(agreed.clients))


class Keys:
    """Every client's long-term key, and who knows them all."""

    def __init__(self, clients: Sequence[str]) -> None:
        self._private = {name: Ed25519PrivateKey.generate() for name in clients}

    def signer(self, client: str) -> Sign:
        """The client's own hook."""
        return self._private[client].sign

    def verify(self, client: str, signed: bytes, signature: bytes) -> bool:
        """Everyone's hook."""
        try:
            self._private[client].public_key().verify(signature, signed)
        except InvalidSignature:
            return False
        return True


class Round:
    """One round, step by step.

    Args:
        agreed: the terms.
        data: each client's unweighted vector.
        weights: each client's; equal ones if not given.
        drops: the step from which on a client says nothing any more.
    """

    def __init__(
        self,
        agreed: Terms,
        data: Vectors | None = None,
        weights: Mapping[str, float] | None = None,
        drops: Mapping[str, str] | None = None,
    ) -> None:
        self.terms = agreed
        self.data = vectors(agreed) if data is None else data
        self.weights = equal_weights(agreed) if weights is None else weights
        self.drops = drops or {}
        self.keys = Keys(agreed.clients)
        self.server = Server(agreed, self.keys.verify)
        self.stored: dict[str, bytes] = {}
        self.sent: dict[str, dict[str, bytes]] = {step: {} for step in STEPS}
        self.told: dict[str, Any] = {}

    def state(self, client: str) -> ClientState:
        """What a new process of the client reads from its disk."""
        return ClientState.from_bytes(self.stored[client])

    def until(self, last: str) -> Round:
        """Every step up to this one, closed by the server."""
        for step in STEPS[: STEPS.index(last) + 1]:
            getattr(self, step)()
        return self

    def total(self) -> NDArray[np.float64]:
        """The sum that the server finds."""
        self.until("reveal")
        return self.server.total()

    def wanted(self) -> NDArray[np.float64]:
        """The plain sum of the survivors' weighted vectors, float64."""
        each = [self.weighted(name).astype(np.float64) for name in self.server.survivors]
        return np.sum(each, axis=0)

    def weighted(self, client: str) -> NDArray[Any]:
        """What the client puts into the sum."""
        return self.data[client] * self.data[client].dtype.type(self.weights[client])

    def here(self, step: str) -> list[str]:
        """Who answers this step: asked, and not gone yet."""
        order = STEPS.index(step)
        gone = {name for name, at in self.drops.items() if STEPS.index(at) <= order}
        return [name for name in self.server.expected if name not in gone]

    def advertise(self) -> None:
        """Step 1, of everyone who is still there."""
        for name in self.here("advertise"):
            made = secagg.advertise(self.terms, name, self.keys.signer(name))
            self._keep("advertise", name, made)
            self.server.add_advert(name, self.sent["advertise"][name])
        self.told["roster"] = self.server.roster()

    def share(self) -> None:
        """Step 2, of everyone who is still there."""
        for name in self.here("share"):
            made = secagg.share(self.state(name), self.told["roster"], self.keys.verify)
            self._keep("share", name, made)
            self.server.add_shares(name, self.sent["share"][name])
        self.told["deliveries"] = self.server.deliveries()

    def mask(self) -> None:
        """Step 3, of everyone who is still there."""
        for name in self.here("mask"):
            self.server.add_masked(name, self.masked(name))
        self.told["outcome"] = self.server.outcome()

    def masked(self, name: str) -> bytes:
        """The client's masked vector; its state moves on."""
        delivery, weight = self.told["deliveries"][name], self.weights[name]
        after, chunks = secagg.mask(self.state(name), delivery, [self.weighted(name)], weight)
        self._keep("mask", name, (after, b"".join(chunks)))
        return self.sent["mask"][name]

    def confirm(self) -> None:
        """Step 4, of everyone who is still there."""
        for name in self.here("confirm"):
            made = secagg.confirm(self.state(name), self.told["outcome"], self.keys.signer(name))
            self._keep("confirm", name, made)
            self.server.add_confirmation(name, self.sent["confirm"][name])
        self.told["request"] = self.server.request()

    def reveal(self) -> None:
        """Step 5, of everyone who is still there."""
        for name in self.here("reveal"):
            made = secagg.reveal(self.state(name), self.told["request"], self.keys.verify)
            self._keep("reveal", name, made)
            self.server.add_reveal(name, self.sent["reveal"][name])

    def _keep(self, step: str, client: str, made: tuple[ClientState, bytes]) -> None:
        state, message = made
        self.stored[client] = state.to_bytes()
        self.sent[step][client] = message
