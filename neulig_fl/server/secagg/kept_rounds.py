"""Secure sums that are done, as an unfinished run keeps them: the sum, and what led to it.

The messages of a round are kept until it is done, so a round that was broken off goes on where it
was: no client sends a second vector for the same sum. Then its outcome takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from safetensors.numpy import load, save

from neulig_fl.core.errors import NotAvailable
from neulig_fl.ledger.chain import canonical
from neulig_fl.server.collecting import Collector
from neulig_fl.server.secagg.summed import Summed

Record = dict[str, Any]
Noted = set[tuple[str, str, str | None]]


@dataclass(frozen=True)
class Sink:
    """Where a round leaves what it does besides its sum.

    Args:
        collector: its receipts, and who fell silent.
        releases, refusals: the report's records.
        noted: clients who are left out, and for what, which is said once.
    """

    collector: Collector
    releases: list[Record]
    refusals: list[Record]
    noted: Noted


def once(sink: Sink, stage: str, key: tuple[object, ...], make: Callable[[], Summed]) -> Summed:
    """A secure sum, made once in a run, whatever processes the server has in it.

    Args:
        sink: where it leaves the rest.
        stage: that asks.
        key: what is asked.
        make: asks the clients.

    Raises:
        NotAvailable: as `make` does, or did.
        InputError: what was kept was cut or changed.
    """
    kept = sink.collector.kept
    if kept is None:
        return make()
    asked = canonical(list(key))
    done = kept.round(stage, asked)
    if done is not None:
        _take(sink, done[0])
        return _summed(*done)
    before = _Before.of(sink)
    payload = b""
    outcome: Record
    try:
        found = make()
    except NotAvailable as error:
        outcome = {"reason": str(error)}
    else:
        names = [[*part] for part in found.values]
        outcome = {"names": names, "experts": list(found.experts), "bytes": found.bytes}
        named = ((f"{at}/{n}", v) for at, part in enumerate(found.values) for n, v in part.items())
        payload = save(dict(named))
    said = {"key": list(key), **outcome, **before.since(sink)}
    kept.keep_round(stage, asked, said, payload)
    return _summed(said, memoryview(payload))


def restore(collector: Collector, stage: str) -> None:
    """Remember the sums of a stage that is finished, and their receipts, in order.

    Args:
        collector: of the server that is resumed; the stage's records are collected.
        stage: the name of the stage.
    """
    if collector.kept is None:
        return
    for said, payload in collector.kept.rounds(stage):
        _take(Sink(collector, [], [], set()), said)
        if "reason" not in said:
            collector.released.summed[tuple(said["key"])] = _summed(said, payload)


def _summed(said: Record, payload: memoryview) -> Summed:
    if "reason" in said:
        raise NotAvailable(said["reason"])
    values = load(bytes(payload))
    parts = tuple({n: values[f"{at}/{n}"] for n in part} for at, part in enumerate(said["names"]))
    return Summed(parts, tuple(said["experts"]), said["bytes"])


@dataclass(frozen=True)
class _Before:
    """How much there was before a round."""

    entries: int
    releases: int
    refusals: int

    @staticmethod
    def of(sink: Sink) -> _Before:
        receipts = sink.collector.receipts
        return _Before(len(receipts), len(sink.releases), len(sink.refusals))

    def since(self, sink: Sink) -> Record:
        """What a round added; of keys that are not added to, all."""
        collector = sink.collector
        return {
            "receipts": collector.receipts[self.entries :],
            "releases": sink.releases[self.releases :],
            "refusals": sink.refusals[self.refusals :],
            "noted": [list(each) for each in sorted(sink.noted, key=str)],
            **collector.memory(),
        }


def _take(sink: Sink, said: Record) -> None:
    sink.collector.remember(said)
    sink.releases.extend(said["releases"])
    sink.refusals.extend(said["refusals"])
    sink.noted.update((client, kind, queries) for client, kind, queries in said["noted"])
