"""Sealed: encrypted to the server, for this run, stage, client, kind and shape, and no other.

Who carries the message (the SuperLink, the network) sees that it was sent, when, and how long it
is. The server reads all of it. How it is done stands in `neulig_fl.privacy.sealing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.records.protections import NoOptions, Protection, Way

if TYPE_CHECKING:
    from neulig_fl.privacy.keys import Identity
    from neulig_fl.privacy.sealing import Seen


class Sealed(Protection[NoOptions]):
    """Sealing to one recipient."""

    @property
    def overhead(self) -> int:
        """Of a sealed payload: magic, version, key, tag."""
        from neulig_fl.privacy import sealing  # slow to import

        return sealing.OVERHEAD

    def problem(self, way: Way) -> str | None:
        """Without a recipient's key nothing can be sealed."""
        if way.recipient is not None:
            return None
        return "the server did not say its key in this run, so nothing can be sealed to it"

    def wrapped(self, payload: bytes, way: Way) -> bytes:
        """The payload sealed to its recipient.

        Raises:
            InputError: the recipient's key is none, or the payload is too large.
        """
        from neulig_fl.privacy import sealing  # as above

        return sealing.seal(payload, way.recipient or "", way.binding)

    def opened(self, payload: bytes | memoryview, way: Way, key: Identity, seen: Seen) -> bytes:
        """What was sealed, once.

        Raises:
            BadReply: it was changed, sealed for somebody or something else, or opened before.
        """
        return seen.open(payload, key.agreement_key, way.binding)


PROTECTION = Sealed(NoOptions)
