"""A secure sum of five clients' vectors, beside a plain sum of the same vectors.

The plain sum is the least that a sum can be: each vector becomes bytes, and the server adds them.
The secure sum is the whole protocol, from the keys to the float64 chunks of the sum, with nobody
dropping out: fixed point, all masks, adding, and taking the self-masks off. Both run in this
process, on one thread, one client after the other; payloads are whole, as messages carry them.
Seconds are the thread's own (CPU time), so that other work on the machine does not count. Neither
sum includes the network, nor what is done to every release (hashing, the ledger).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neulig_fl.privacy.secagg import (
    ClientState,
    Server,
    Terms,
    advertise,
    confirm,
    default_threshold,
    mask,
    reveal,
    share,
)
from neulig_fl.study.bench import Measurement

REPEATS = 5
CLIENTS = 5
ENTRIES = 2**24
"""64 MiB a client, so that nothing whole fits into a processor's cache."""
GOAL = 4.0

Vector = NDArray[np.float32]


def measure(repeats: int = REPEATS, entries: int = ENTRIES) -> Measurement:
    """Sum in both ways, in turn.

    Args:
        repeats: sums of each kind; the median counts. One more goes before them to warm up.
        entries: of each client's vector.
    """
    vector = np.random.default_rng(0).uniform(-0.2, 0.2, entries).astype(np.float32)
    plain, secure = [], []
    for _ in range(repeats + 1):
        plain.append(_seconds(lambda: plain_sum(vector)))
        secure.append(SecureSum(vector))
        secure[-1].run()
    ratios = [s.seconds / p for s, p in zip(secure[1:], plain[1:], strict=True)]
    figure, size = statistics.median(ratios), vector.nbytes / 1e6
    masking = statistics.median(s.masking for s in secure[1:]) / CLIENTS
    rest = statistics.median(s.seconds - s.masking for s in secure[1:]) / CLIENTS
    return Measurement(
        name="secure-aggregation",
        what=f"a secure sum of {CLIENTS} clients",
        figure=figure,
        unit="of a plain sum",
        goal=f"at most {GOAL:g}",
        met=figure <= GOAL,
        values=ratios,
        details={
            "MB of a vector": size,
            "MB/s a client, masking": size / masking,
            "MB/s a client, the server's part": size / rest,
            "MB/s a client, both": size / (masking + rest),
            "MB/s a client, plain sum": CLIENTS * size / statistics.median(plain[1:]),
        },
    )


def plain_sum(vector: Vector) -> Vector:
    """Every client sends the vector as bytes, the server adds them."""
    total = np.zeros_like(vector)
    for _ in range(CLIENTS):
        payload = vector.tobytes()
        total += np.frombuffer(payload, np.float32)
    return total


class SecureSum:
    """One secure sum, and how long it took.

    Args:
        vector: what every client has, already weighted.
    """

    def __init__(self, vector: Vector) -> None:
        self._vector = vector
        names = tuple(f"client-{i}" for i in range(CLIENTS))
        self._terms = Terms(b"bench", names, default_threshold(CLIENTS), len(vector), clip=1.0)
        self.seconds = 0.0
        self.masking = 0.0

    def run(self, keep: Callable[[NDArray[np.float64]], object] = len) -> None:
        """From the keys to the sum.

        Args:
            keep: gets each chunk of the sum.
        """
        start = time.thread_time()
        server, states = self._until_shared()
        for name, delivery in server.deliveries().items():
            states[name] = self._send(server, states[name], delivery)
        told = server.outcome()
        for name, state in states.items():
            states[name], word = confirm(state, told)
            server.add_confirmation(name, word)
        asked = server.request()
        for name, state in states.items():
            server.add_reveal(name, reveal(state, asked)[1])
        for chunk in server.chunks():
            keep(chunk)
        self.seconds = time.thread_time() - start

    def _until_shared(self) -> tuple[Server, dict[str, ClientState]]:
        server, states = Server(self._terms), {}
        for name in self._terms.clients:
            states[name], sent = advertise(self._terms, name)
            server.add_advert(name, sent)
        roster = server.roster()
        for name, state in states.items():
            states[name], sent = share(state, roster)
            server.add_shares(name, sent)
        return server, states

    def _send(self, server: Server, state: ClientState, delivery: bytes) -> ClientState:
        start = time.thread_time()
        payload = np.empty(self._vector.nbytes, np.uint8).data
        after, chunks = mask(state, delivery, [self._vector], 1 / CLIENTS, payload)
        for _ in chunks:
            pass
        self.masking += time.thread_time() - start
        server.add_masked(state.client, payload)
        return after


def _seconds(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start
