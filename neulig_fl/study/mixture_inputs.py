"""What a stage's steps mix: single records where some are known, else secure sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neulig_fl.config import conditions
from neulig_fl.config.scenario import Scenario, Share, Stage
from neulig_fl.config.values import SUMS
from neulig_fl.core.errors import NotAvailable
from neulig_fl.privacy.secagg import Terms
from neulig_fl.records.secagg.requests import Part
from neulig_fl.records.secagg.requests import threshold as threshold_of
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_rules


class Summed(Protocol):
    """What a secure sum gave."""

    @property
    def values(self) -> tuple[dict[str, NDArray[np.float32]], ...]:
        """Of each part, over the survivors' weights: parameters by name, or `{kind: rows}`."""
        ...

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose vectors are in it, in the scenario's order."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of all masked vectors."""
        ...


class Sums(Protocol):
    """Who asks the clients for secure sums."""

    def summed(self, kind: str, queries: str | None, parts: Sequence[Part]) -> Summed:
        """The sums of one kind of record, one a part.

        Raises:
            NotAvailable: the clients refused it, or too few took part.
        """
        ...


class NoSums:
    """Where nobody can be asked for sums."""

    def summed(self, kind: str, queries: str | None, parts: Sequence[Part]) -> Summed:  # noqa: ARG002
        """None can be had.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(f"no secure sum of {kind} can be asked for here")


@dataclass(frozen=True)
class Sources:
    """What a stage's steps mix: single records where some are known, else secure sums.

    Args:
        stage: the stage. Sums can be had of what it shares itself.
        knowledge: what was released.
    """

    stage: Stage
    knowledge: ReleasedRecords

    @property
    def outputs_in_sums(self) -> bool:
        """Whether evaluation outputs are to be had within sums only."""
        known = self.knowledge.sharing(self.stage.group, "evaluation")
        return not known and self._shared(self.knowledge.kind, "evaluation") is not None

    @property
    def parameters_in_sums(self) -> bool:
        """Whether parameters are to be had within sums only."""
        known = self.knowledge.with_parameters(self.stage.group)
        return not known and self._shared("parameters", None) is not None

    def in_sums(self, kind: str) -> bool:
        """Whether the stage shares a kind without queries within sums."""
        return self._shared(kind, None) is not None

    def experts(self, merging: bool) -> tuple[str, ...]:
        """Clients whose experts can be mixed, in order; who refuses a sum is found when asked."""
        knowledge, group, everyone = self.knowledge, self.stage.group, self.knowledge.clients
        outputs = everyone if self.outputs_in_sums else knowledge.sharing(group, "evaluation")
        if not merging:
            return outputs
        given = everyone if self.parameters_in_sums else knowledge.with_parameters(group)
        return tuple(name for name in outputs if name in given)

    def refusal(self, method: str, granularity: str | None, merging: bool) -> str | None:
        """Why a row needs more than sums; None when it does not, or single records are known."""
        kinds = ["parameters"] if merging and self.parameters_in_sums else []
        kinds += [self.knowledge.kind] if self.outputs_in_sums else []
        found = (coopvec_rules.not_in_sums(granularity or method, kind) for kind in kinds)
        return next((reason for reason in found if reason is not None), None)

    def settle(self) -> None:
        """Have the evaluation queries be those that the sums answer, where only sums do."""
        share = self._shared(self.knowledge.kind, "evaluation")
        if share is not None and self.outputs_in_sums:
            place = (self.stage.group, self.knowledge.kind, "evaluation")
            self.knowledge.fractions[place] = share.fraction

    def _shared(self, kind: str, queries: str | None) -> Share | None:
        """The entry of the stage under which a sum can be asked for."""
        for share in self.stage.share:
            asked = share.kind == kind and queries in (share.queries or (None,))
            if asked and share.protection.name in SUMS:
                return share
        return None


def sum_notes(scenario: Scenario) -> list[str]:
    """What a report says of its secure sums: what they are of, how exact, and how well they hide.

    Args:
        scenario: every stage that shares something within sums has a sentence.
    """
    shared = [
        (
            stage.name,
            ", ".join(dict.fromkeys(s.kind for s in stage.share if s.protection.name in SUMS)),
        )
        for stage in scenario.stages
    ]
    found = [
        f"Stage {name} shares {kinds} within secure sums: the server gets what is mixed already, "
        "one sum for each weight vector, and no single record. A method has a result where one sum "
        "a task is enough and the clients do not refuse it."
        for name, kinds in shared
        if kinds
    ]
    return [*found, _how_well(scenario)] if found else []


def _how_well(scenario: Scenario) -> str:
    names = tuple(sorted(client.name for client in scenario.clients))
    count, options = len(names), scenario.secure_aggregation
    threshold = threshold_of(options, count)
    terms = Terms(b"", names, threshold, 1, options.clip)
    return (
        f"A secure sum of all {count} clients needs {threshold} of them to its end, or there is "
        f"none; {conditions.with_server(terms.colluders)}. An entry of a "
        f"mixture is off by at most {terms.quantisation:.1e}, because sums are made on a grid "
        f"(secure_aggregation.clip: {options.clip:g})."
    )
