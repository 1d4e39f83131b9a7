"""What one record is, said once: made where a request is understood, and handed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neulig_fl.config.values import SERVER
from neulig_fl.records import kinds, protections
from neulig_fl.records.budgets import Candidate
from neulig_fl.records.kinds import Dimensions, Field, Kind, Request
from neulig_fl.records.protections import Claims, Protection, Way


@dataclass(frozen=True)
class RecordSpec:
    """A record that one client is asked for. Both sides make it for themselves.

    Args:
        request: what is asked for: stage, group, kind, query set, fraction, protection.
        client: who is asked.
        rows: of the record; 1 for kinds that answer no queries.
        sizes: what its shapes follow from.

    Example:
        >>> asked = Request("one", "A", "features", "pool", protection="sealed")
        >>> spec = RecordSpec(asked, "ada", 3, Dimensions(2, 5, 32, {}))
        >>> spec.fields, spec.bytes
        ([('features', '<f4', (3, 2))], 77)
    """

    request: Request
    client: str
    rows: int
    sizes: Dimensions

    @property
    def kind(self) -> Kind:
        """What a record of its kind is."""
        return kinds.load(self.request.kind)

    @property
    def guard(self) -> Protection[Any]:
        """What is done to it before it leaves."""
        return protections.load(self.request.protection)

    @cached_property
    def fields(self) -> list[Field]:
        """Name, dtype and shape of its arrays, in the order of the payload."""
        return kinds.layout(self.request.kind, self.rows, self.sizes, self.request.fraction)

    @property
    def problem(self) -> str | None:
        """Why there is no such record; None where there is one."""
        asked = self.request
        if self.kind.keeps_all(asked.fraction, self.sizes):
            return f"a fraction of {asked.fraction} is all of it, and no {asked.kind}"
        return None

    @property
    def bytes(self) -> int:
        """Bytes of it as it leaves."""
        return kinds.bytes_of(self.fields) + self.guard.overhead

    @property
    def counted_rows(self) -> int | None:
        """Rows that count towards a budget; None for kinds that answer no queries."""
        return self.rows if self.kind.per_query else None

    def candidate(self, expert: str, claims: Claims) -> Candidate:
        """It, as budgets count it.

        Args:
            expert: tag of the expert, as in the ledger's entries.
            claims: what its protection says of it.
        """
        asked = self.request
        return Candidate(
            expert, asked.kind, asked.protection, self.counted_rows, self.bytes, claims
        )

    def way(self, run: str, recipient: str | None = None) -> Way:
        """How it gets to the server in one run: what it is bound to, and whose key it is sealed to.

        Args:
            run: the run's id.
            recipient: the text of the server's X25519 key; None where it is not known, or not
                needed.
        """
        from neulig_fl.privacy import sealing  # slow to import

        asked = self.request
        bound = sealing.binding(
            run=run,
            stage=asked.stage,
            client=self.client,
            recipient=SERVER,
            group=asked.group,
            kind=asked.kind,
            queries=asked.queries,
            fraction=asked.fraction,
            shapes=self.fields,
        )
        return Way(bound, recipient)
