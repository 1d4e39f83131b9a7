"""Who released which record, without the records: what a result needs is judged by this alone.

The server has one beside the records that it received. A plan has one of what the clients would
release, and the check of a scenario one of all that its stages share; so all three are asked the
same questions, and answer them by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neulig_fl.config.scenario import Scenario
from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.records import kinds

if TYPE_CHECKING:
    from neulig_fl.data.query_sets import Block
    from neulig_fl.data.sources import Task

Key = tuple[str, str, str | None]
"""(group, kind, query set)."""


@dataclass
class Grants:
    """Who released which record.

    Args:
        scenario: whose clients are meant.
        tasks: its tasks, opened; none where no query is counted.
        fractions: by record, the share of the query set that the known answers are of.
    """

    scenario: Scenario
    tasks: Mapping[str, Task] = field(default_factory=dict)
    fractions: dict[Key, float] = field(default_factory=dict)
    _givers: dict[Key, dict[str, None]] = field(default_factory=dict)

    @property
    def clients(self) -> tuple[str, ...]:
        """All clients, in the scenario's order."""
        return tuple(client.name for client in self.scenario.clients)

    @property
    def kind(self) -> str:
        """The kind of output that Portland reads."""
        return self.scenario.portland.outputs

    def note(self, client: str, key: Key, fraction: float = 1.0) -> None:
        """Remember that a client released a record.

        Answers to another share of the queries take the place of everybody's answers before, since
        rows are of the same queries; a client's last model takes the place of the one before.

        Args:
            client: whose.
            key: which.
            fraction: share of the query set, where it answers one.
        """
        group, kind, queries = key
        if kinds.load(kind).output and fraction != self.fractions.get(key, 0.0):
            self._givers.pop(key, None)
        if queries is not None:
            self.fractions[key] = fraction
        if kind in MODEL_KINDS:
            for each in MODEL_KINDS:
                self._givers.get((group, each, None), {}).pop(client, None)
        self._givers.setdefault(key, {})[client] = None

    def giving(self, group: str, kind: str, queries: str | None = None) -> tuple[str, ...]:
        """Clients whose own records are known, in order; a task vector is as good as a model."""
        same = MODEL_KINDS if kind in MODEL_KINDS else (kind,)
        known = [self._givers.get((group, each, queries), {}) for each in same]
        return tuple(name for name in self.clients if any(name in each for each in known))

    def without(self, kept: tuple[str, ...]) -> str | None:
        """Who is left out of a row, in words; None when nobody is."""
        left_out = [name for name in self.clients if name not in kept]
        return f"without {', '.join(left_out)}" if left_out else None

    def sharing(self, group: str, queries: str) -> tuple[str, ...]:
        """Clients whose outputs, of the kind that Portland reads, are known on a query set."""
        return self.giving(group, self.kind, queries)

    def held(self, group: str) -> dict[tuple[str, str | None], tuple[str, ...]]:
        """Everything that is known of a group: kind and query set, and whose."""
        return {
            (kind, queries): tuple(name for name in self.clients if name in givers)
            for (of, kind, queries), givers in self._givers.items()
            if of == group and givers
        }

    def fraction(self, group: str, queries: str) -> float:
        """The share of a query set that the known outputs answer."""
        return self.fractions.get((group, self.kind, queries), 1.0)

    def blocks(self, group: str, queries: str, fraction: float) -> list[Block]:
        """A share of a query set, block by block; of `train`, what its owners released."""
        from neulig_fl.data.query_sets import blocks  # loads NumPy, which a check has no use for

        owners = self.giving(group, "inputs", "train") if queries == "train" else ()
        found = blocks(self.scenario, self.tasks, queries, group, fraction)
        return [b for b in found if b.owner is None or b.owner in owners]

    def answered(self, group: str, queries: str) -> list[Block]:
        """The queries that the known outputs answer, block by block."""
        return self.blocks(group, queries, self.fraction(group, queries))
