"""Sealed: encrypted to the server, for this run, stage, client, kind and shape, and no other.

Who carries the message (the SuperLink, the network) sees that it was sent, when, and how long it
is. The server reads all of it. How it is done stands in `neulig_fl.privacy.sealing`.
"""

from __future__ import annotations

from neulig_fl.privacy import sealing
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records.protections import Way
from neulig_fl.records.protections.none import settings, stated, treated

OVERHEAD = sealing.OVERHEAD


def problem(way: Way) -> str | None:
    """Without a recipient's key nothing can be sealed."""
    if way.recipient is not None:
        return None
    return "the server did not say its key in this run, so nothing can be sealed to it"


def wrapped(payload: bytes, way: Way) -> bytes:
    """The payload sealed to its recipient.

    Raises:
        InputError: the recipient's key is none, or the payload is too large.
    """
    return sealing.seal(payload, way.recipient or "", way.binding)


def opened(payload: bytes | memoryview, way: Way, key: Identity, seen: Seen) -> bytes:
    """What was sealed, once.

    Raises:
        BadReply: it was changed, sealed for somebody or something else, or opened before.
    """
    return seen.open(payload, key.agreement_key, way.binding)


__all__ = ["OVERHEAD", "opened", "problem", "settings", "stated", "treated", "wrapped"]
