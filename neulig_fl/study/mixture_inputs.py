"""What a stage's steps mix: single records where some are known, else secure sums of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from neulig_fl.config import conditions
from neulig_fl.config.scenario import Scenario, Stage
from neulig_fl.core.errors import NotAvailable
from neulig_fl.records.grants import Grants
from neulig_fl.study import coopvec_needs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neulig_fl.records.secagg.requests import Part

Experts = tuple[str, ...]
"""Clients whose experts are meant, in the scenario's order."""

Ask = Callable[[str, str | None, Experts], Experts]
"""Asks some clients for the sums of a kind on a query set; gives those who are in them."""


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
class MixtureInputs:
    """What a stage's steps mix: single records where some are known, else secure sums.

    Args:
        stage: the stage. Sums can be had of what it shares itself.
        known: who released what.
    """

    stage: Stage
    known: Grants

    @property
    def outputs_in_sums(self) -> bool:
        """Whether evaluation outputs are to be had within sums only."""
        single = self.known.sharing(self.stage.group, "evaluation")
        return not single and self.in_sums(self.known.kind, "evaluation")

    @property
    def parameters_in_sums(self) -> bool:
        """Whether parameters are to be had within sums only."""
        single = self.known.giving(self.stage.group, "parameters")
        return not single and self.in_sums("parameters")

    def in_sums(self, kind: str, queries: str | None = None) -> bool:
        """Whether the stage shares a kind within sums."""
        return self.stage.summed(kind, queries) is not None

    def experts(self, merging: bool) -> tuple[str, ...]:
        """Clients whose experts can be mixed, in order; who refuses a sum is found when asked."""
        known, group, everyone = self.known, self.stage.group, self.known.clients
        outputs = everyone if self.outputs_in_sums else known.sharing(group, "evaluation")
        if not merging:
            return outputs
        given = everyone if self.parameters_in_sums else known.giving(group, "parameters")
        return tuple(name for name in outputs if name in given)

    def unmet(self, name: str, merging: bool) -> str | None:
        """Why a row cannot be had here, whatever the clients' sums would be; None when it can.

        Args:
            name: NeuLig's granularity, or a control.
            merging: whether the row merges models as well.
        """
        if not self.experts(merging):
            mixed = f"{self.known.kind} of evaluation queries"
            return f"no client shares {mixed}{' and parameters' if merging else ''}"
        kinds = ["parameters"] if merging and self.parameters_in_sums else []
        kinds += [self.known.kind] if self.outputs_in_sums else []
        found = (coopvec_needs.not_in_sums(name, kind) for kind in kinds)
        return next((reason for reason in found if reason is not None), None)

    def mixed(self, experts: Experts, merging: bool, ask: Ask) -> tuple[Experts, str | None]:
        """Whom a row mixes: asks for the sums that it needs, one after the other.

        Sums of parameters are asked for first, then sums of outputs, of those whose parameters are
        in the first. So both sides of the row mix the same experts, or it has no ensemble.

        Args:
            experts: those that are to be mixed, in order.
            merging: whether the row merges models as well.
            ask: asks for the sums of a kind on a query set, of some clients; gives those of them
                who are in it.

        Returns:
            Those that are mixed, in order, and why the row has no ensemble; None when it has one.

        Raises:
            NotAvailable: a sum that the row cannot do without was refused, or failed.
        """
        fixed = merging and self.parameters_in_sums
        if fixed:
            experts = ask("parameters", None, experts)
        if not self.outputs_in_sums:
            return experts, None
        try:
            answering = ask(self.known.kind, "evaluation", experts)
        except NotAvailable as refused:
            if not merging:
                raise
            return experts, f"no ensemble: {refused}"
        if fixed and answering != experts:
            missing = ", ".join(name for name in experts if name not in answering)
            kind = self.known.kind
            return experts, f"the sum of {kind} is without {missing}, the merged model is not"
        return answering, None

    def settle(self) -> None:
        """Have the evaluation queries be those that the sums answer, where only sums do."""
        share = self.stage.summed(self.known.kind, "evaluation")
        if share is not None and self.outputs_in_sums:
            place = (self.stage.group, self.known.kind, "evaluation")
            self.known.fractions[place] = share.fraction


def sum_notes(scenario: Scenario) -> list[str]:
    """What a report says of its secure sums: what they are of, how exact, and how well they hide.

    Args:
        scenario: every stage that shares something within sums has a sentence.
    """
    shared = [
        (
            stage.name,
            ", ".join(dict.fromkeys(s.kind for s in stage.share if s.in_sums)),
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
    from neulig_fl.privacy.secagg import Terms  # slow to import
    from neulig_fl.records.secagg.requests import threshold as threshold_of

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
