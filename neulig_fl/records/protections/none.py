"""No protection: the payload travels as it is. A real choice, and tested like the others."""

from __future__ import annotations

from typing import Any

from neulig_fl.config.scenario import Share
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records.kinds import Arrays
from neulig_fl.records.protections import NOTHING_STATED, Case, Stated, Way

OVERHEAD = 0


def settings(share: Share, kind: str) -> dict[str, Any]:  # noqa: ARG001
    """Nothing else decides about the bytes."""
    return {}


def stated(case: Case) -> Stated:  # noqa: ARG001
    """Nothing is promised."""
    return NOTHING_STATED


def treated(arrays: Arrays, case: Case) -> Arrays:  # noqa: ARG001
    """The arrays unchanged."""
    return arrays


def problem(way: Way) -> str | None:  # noqa: ARG001
    """Nothing is in its way."""
    return None


def wrapped(payload: bytes, way: Way) -> bytes:  # noqa: ARG001
    """The payload unchanged."""
    return payload


def opened(payload: bytes | memoryview, way: Way, key: Identity, seen: Seen) -> bytes | memoryview:  # noqa: ARG001
    """What `wrapped` was given."""
    return payload
