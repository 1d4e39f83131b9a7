"""What is known when a step runs, and what a step that does not find what it needs says of it.

Single records stay known to later stages. Sums are asked for by the steps of the stage that shares
them, so there they count for no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neulig_fl.config.schema import PortlandOptions, Scenario
from neulig_fl.config.stages import Share, Stage
from neulig_fl.config.values import MIXED_KINDS
from neulig_fl.records import kinds
from neulig_fl.records.grants import Grants, Key
from neulig_fl.study.mixture_inputs import MixtureInputs

Missing = tuple[str, str]
"""An entry of share that a step needs, and what else would do."""


@dataclass(frozen=True)
class Known:
    """What the server would have, or could ask for, when a step runs and nobody refuses.

    Args:
        inputs: what the step's stage mixes.
        summed: what this stage and earlier ones share within secure sums.
        trains: whether some stage trains a Portland.
    """

    inputs: MixtureInputs
    summed: frozenset[Key]
    trains: bool

    @property
    def stage(self) -> Stage:
        """The step's stage."""
        return self.inputs.stage

    @property
    def options(self) -> PortlandOptions:
        """How Portland is trained."""
        return self.inputs.known.scenario.portland

    def has(self, kind: str, queries: str | None = None) -> bool:
        """Whether single records are known; a task vector is as good as parameters."""
        return bool(self.inputs.known.giving(self.stage.group, kind, queries))

    def sums_of(self, kind: str, queries: str | None = None) -> bool:
        """Whether the step can ask for sums."""
        return self.inputs.in_sums(kind, queries)

    def only_sums(self, kind: str, queries: str | None = None) -> bool:
        """Whether no more than sums can be had, in this stage or an earlier one."""
        return not self.has(kind, queries) and (self.stage.group, kind, queries) in self.summed


def known_by_stage(scenario: Scenario) -> Iterator[Known]:
    """What is known when the steps of each stage run, in the scenario's order."""
    trains = any("train-portland" in stage.run for stage in scenario.stages)
    for number, stage in enumerate(scenario.stages, start=1):
        known, summed = Grants(scenario), set()
        for earlier in scenario.stages[:number]:
            for share, key in _records(earlier):
                if share.in_sums:
                    summed.add(key)
                    continue
                for client in known.clients:
                    known.note(client, key, share.fraction)
        yield Known(MixtureInputs(stage, known), frozenset(summed), trains)


def _records(stage: Stage) -> Iterator[tuple[Share, Key]]:
    """What a stage shares, as single records or within sums.

    Queries of a kind that answers none are an error of their own; here they change nothing.
    """
    for share in stage.share:
        answers = kinds.load(share.kind).per_query
        for queries in share.queries if answers else (None,):
            yield share, (stage.group, share.kind, queries)


VOTE = "vote"
"""What the row of a vote is called."""

NOBODY = "no client names classes on the evaluation queries"


def voting(known: Grants, group: str) -> tuple[str, tuple[str, ...]]:
    """Which kind of answer is voted with, and who gave it, in order.

    That of most clients; of equal ones `labels` before `top-k` before `probabilities`, which name
    the same class.
    """
    voted = kinds.naming_classes()
    given = {kind: known.giving(group, kind, "evaluation") for kind in voted}
    kind = max(voted, key=lambda each: len(given[each]))
    return kind, given[kind]


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
