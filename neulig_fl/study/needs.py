"""What is known when a step runs, and what a step that does not find what it needs says of it.

Single records stay known to later stages. Sums are asked for by the steps of the stage that shares
them, so there they count for no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neulig_fl.config.schema import PortlandOptions, Scenario
from neulig_fl.config.stages import Stage
from neulig_fl.config.values import MIXED_KINDS, MODEL_KINDS, SUMS
from neulig_fl.records import kinds

Record = tuple[str, str, str | None]
"""Group, kind, query set."""

Missing = tuple[str, str]
"""An entry of share that a step needs, and what else would do."""


@dataclass(frozen=True)
class Known:
    """What the server has, or can ask for, when a step runs.

    Args:
        stage: the step's stage.
        options: how Portland is trained.
        single: records that this stage and earlier ones share as such.
        summed: those that they share within secure sums.
        trains: whether some stage trains a Portland.
    """

    stage: Stage
    options: PortlandOptions
    single: frozenset[Record]
    summed: frozenset[Record]
    trains: bool

    def has(self, kind: str, queries: str | None = None) -> bool:
        """Whether single records are known; a task vector is as good as parameters."""
        same = MODEL_KINDS if kind in MODEL_KINDS else (kind,)
        return any((self.stage.group, each, queries) in self.single for each in same)

    def sums_of(self, kind: str, queries: str | None = None) -> bool:
        """Whether the step can ask for sums."""
        return (self.stage.group, kind, queries) in _records(self.stage, sums=True)

    def only_sums(self, kind: str, queries: str | None = None) -> bool:
        """Whether no more than sums can be had, in this stage or an earlier one."""
        return not self.has(kind, queries) and (self.stage.group, kind, queries) in self.summed


def known_by_stage(scenario: Scenario) -> Iterator[Known]:
    """What is known when the steps of each stage run, in the scenario's order."""
    single: frozenset[Record] = frozenset()
    summed: frozenset[Record] = frozenset()
    trains = any("train-portland" in stage.run for stage in scenario.stages)
    for stage in scenario.stages:
        single |= _records(stage, sums=False)
        summed |= _records(stage, sums=True)
        yield Known(stage, scenario.portland, single, summed, trains)


def _records(stage: Stage, sums: bool) -> frozenset[Record]:
    """What a stage shares: as single records, or within sums."""
    return frozenset(
        (stage.group, share.kind, query)
        for share in stage.share
        if (share.protection.name in SUMS) == sums
        for query in (None, *share.queries)
    )


def single_outputs(known: Known, queries: str) -> Iterator[Missing]:
    """Outputs that Portland reads one by one, where they are missing."""
    kind = known.options.outputs
    if known.has(kind, queries):
        return
    otherwise = why_not_mixed(known, queries)
    if known.only_sums(kind, queries):
        otherwise = (
            " with another protection than secure-aggregation: Portland reads every client's own "
            "outputs, and a sum does not tell them"
        )
    yield f"{{kind: {kind}, queries: [{queries}]}}", otherwise


def why_not_mixed(known: Known, queries: str) -> str:
    """Labels and the like say which class wins, not what to mix."""
    instead = [k for k in kinds.those(lambda kind: kind.output) if k not in MIXED_KINDS]
    there = [kind for kind in instead if known.has(kind, queries)]
    mixed = " or ".join(kind for kind in kinds.names() if kind in MIXED_KINDS)
    alone = f"; with {', '.join(there)} alone it is not possible: only {mixed} can be mixed"
    return alone if there else ""


def asked_elsewhere(known: Known, kind: str, queries: str | None) -> str:
    """Sums of an earlier stage are not there any more: each step asks for its own."""
    if not known.only_sums(kind, queries):
        return ""
    return " of this stage: sums are asked for by the steps of the stage that shares them"
