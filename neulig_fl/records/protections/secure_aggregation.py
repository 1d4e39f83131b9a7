"""Secure sum: a record leaves as a part of sums only, and never alone.

The steps of a stage ask for sums, with weights that they choose (`server.secagg.rounds`), and
clients answer through `client.secagg.gate`. So nothing here lets a record out: asked for by itself,
it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from neulig_fl.config.stages import SecureAggregationOptions
from neulig_fl.core.errors import ClientRefused
from neulig_fl.records import kinds
from neulig_fl.records.protections import NoOptions, Protection, Way

if TYPE_CHECKING:
    from neulig_fl.privacy.keys import Identity
    from neulig_fl.privacy.sealing import Seen

ALONE = "with protection secure-aggregation it is released within sums only"


class SecureAggregation(Protection[NoOptions]):
    """A record that no way leads out of the client by itself."""

    elsewhere = (
        f"put {' and '.join(SecureAggregationOptions.model_fields)} under the scenario's own key "
        "secure_aggregation, which holds for all stages"
    )

    def fits(self, kind: str) -> bool:
        """What can be summed can leave in sums."""
        return kinds.load(kind).summed

    def problem(self, way: Way) -> str:
        """On no way can it leave alone."""
        return ALONE

    def wrapped(self, payload: bytes, way: Way) -> NoReturn:
        """Nothing.

        Raises:
            ClientRefused: always.
        """
        raise ClientRefused(f"{ALONE}; ask for a sum of it", public_reason=ALONE)

    def opened(self, payload: bytes | memoryview, way: Way, key: Identity, seen: Seen) -> NoReturn:
        """Nothing.

        Raises:
            ClientRefused: always.
        """
        raise ClientRefused(f"{ALONE}; ask for a sum of it", public_reason=ALONE)


PROTECTION = SecureAggregation(NoOptions)
