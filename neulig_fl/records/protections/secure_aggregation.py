"""Secure sum: a record leaves as a part of sums only, and never alone.

The steps of a stage ask for sums, with weights that they choose (`server.secagg.rounds`), and
clients answer through `client.secagg.gate`. So nothing here lets a record out: asked for by itself,
it is refused.
"""

from __future__ import annotations

from typing import NoReturn

from neulig_fl.core.errors import ClientRefused
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records.protections import Way
from neulig_fl.records.protections.none import settings, stated, treated

OVERHEAD = 0

ALONE = "with protection secure-aggregation it is released within sums only"


def problem(way: Way) -> str:  # noqa: ARG001
    """On no way can it leave alone."""
    return ALONE


def wrapped(payload: bytes, way: Way) -> NoReturn:  # noqa: ARG001
    """Nothing.

    Raises:
        ClientRefused: always.
    """
    raise ClientRefused(f"{ALONE}; ask for a sum of it", public_reason=ALONE)


def opened(payload: bytes | memoryview, way: Way, key: Identity, seen: Seen) -> NoReturn:  # noqa: ARG001
    """Nothing.

    Raises:
        ClientRefused: always.
    """
    raise ClientRefused(f"{ALONE}; ask for a sum of it", public_reason=ALONE)


__all__ = ["OVERHEAD", "opened", "problem", "settings", "stated", "treated", "wrapped"]
