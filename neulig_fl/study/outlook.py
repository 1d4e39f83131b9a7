"""What a stage would do, by the rules of the run: its records, its sums, and rows of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from neulig_fl.config.scenario import Stage
from neulig_fl.core.errors import NotAvailable
from neulig_fl.records.grants import Grants
from neulig_fl.records.release_plan import Planned, Setting
from neulig_fl.study import coopvec_needs
from neulig_fl.study.coopvec_needs import NEEDS, Situation
from neulig_fl.study.mixture_inputs import Experts, MixtureInputs
from neulig_fl.study.permitted import UNLESS_REFUSED, Permitted, SumOutlook, of_method

if TYPE_CHECKING:
    from neulig_fl.records.secagg.plan import PlannedSum, RowName, SumPlan


@dataclass
class StageOutlook:
    """What a stage would do.

    Args:
        stage: the scenario's stage.
        known: what earlier stages would have released of the stage's group: record and clients.
        released: records that would be released.
        refused: records that would be refused.
        sums: secure sums that its steps would ask for, in order.
        asked: kinds and query sets of which they would ask for sums, those at hand too.
        results: what could then be computed.
        stops: why the run would end in this stage; None when it would not.
    """

    stage: Stage
    known: dict[str, tuple[str, ...]]
    released: list[Planned] = field(default_factory=list)
    refused: list[Planned] = field(default_factory=list)
    sums: list[PlannedSum] = field(default_factory=list)
    asked: set[tuple[str, str | None]] = field(default_factory=set)
    results: list[Permitted] = field(default_factory=list)
    stops: str | None = None

    def end(self, client: str, what: str, reason: str) -> None:
        """Have the run end here at a refusal, unless it has ended at one before."""
        if self.stops is None:
            self.stops = f"{client} refuses {what}, and on_refusal is stop: {reason}"


@dataclass(frozen=True)
class PlannedPortland:
    """A Portland that would be trained (`coopvec_needs.KnownPortland`).

    Args:
        stage: where.
        queries: on which query set.
        experts: whose outputs it would read.
        best_single: the expert that may turn out to be the best single one.
    """

    stage: str
    queries: str
    experts: Experts
    best_single: str


@dataclass
class RunSums:
    """The secure sums of a whole run, planned from the first that is asked for.

    Args:
        setting: the scenario, opened.
    """

    setting: Setting

    @cached_property
    def plan(self) -> SumPlan:
        """What was asked for so far, and what comes of the next."""
        from neulig_fl.records.secagg.plan import SumPlan  # slow to import

        return SumPlan(self.setting)


@dataclass
class Rehearsal:
    """A stage gone through without values.

    Args:
        stage: the scenario's stage.
        known: who would have released what.
        portland: the Portland that would be at hand; `train-portland` replaces it.
        sums: those of the whole run.
        outlook: where it is noted what the stage would do, and what would stop the run.
    """

    stage: Stage
    known: Grants
    portland: PlannedPortland | None
    sums: RunSums
    outlook: StageOutlook

    @property
    def inputs(self) -> MixtureInputs:
        """What the stage's mixtures are made of."""
        return MixtureInputs(self.stage, self.known)

    def ask(self, row: RowName, kind: str, queries: str | None, experts: Experts) -> SumOutlook:
        """What comes of asking some clients for the sums of a kind that a row needs.

        Raises:
            NotAvailable: there would be none.
        """
        self.outlook.asked.add((kind, queries))
        trained = self.portland.stage if self.portland else None
        planned, new = self.sums.plan.ask(self.stage, row, (kind, queries), experts, trained)
        outlook = self.outlook
        if new and planned not in outlook.sums:  # each step asks again for what was refused
            outlook.sums.append(planned)
        stop = self.known.scenario.on_refusal == "stop"
        for client, reason in planned.refusals.items() if stop else ():
            outlook.end(client, f"a sum of {kind}", reason)
        if planned.refusal is not None:
            raise NotAvailable(planned.refusal)
        return SumOutlook(planned.clients, planned.leverage[0] < planned.leverage[1])


def rows(rehearsal: Rehearsal, merging: bool) -> Iterator[Permitted]:
    """The rows of NeuLig, the controls and the scenario's merge methods, as a run makes them."""
    rehearsal.inputs.settle()
    for row in coopvec_needs.rows(rehearsal.stage):
        yield _permitted(rehearsal, row, merging)
        if rehearsal.outlook.stops is not None:
            return
    diverse = rehearsal.known.scenario.experts.origin == "diverse"
    reason = coopvec_needs.NO_CHECKPOINT if diverse else None
    yield Permitted("pretrained", None, not diverse, merging and not diverse, reason)
    if merging or "merge" not in rehearsal.stage.run:
        yield from _methods(rehearsal, merging)


def _methods(rehearsal: Rehearsal, merging: bool) -> Iterator[Permitted]:
    """The rows of the scenario's merge methods, as `method_rows.run_methods` makes them."""
    for entry in coopvec_needs.compared(rehearsal.known.scenario):

        def ask(kind: str, experts: Experts, name: str = entry.name) -> SumOutlook:
            return rehearsal.ask((name, None), kind, None, experts)

        yield of_method(rehearsal.inputs, entry, ask, merging)
        if rehearsal.outlook.stops is not None:
            return


def _permitted(rehearsal: Rehearsal, row: RowName, merging: bool) -> Permitted:
    """Try a method under every expert that may turn out to be the best single one."""
    inputs, name = rehearsal.inputs, row[1] or row[0]
    unmet = inputs.unmet(name, merging)
    if unmet is not None:
        return Permitted(*row, False, False, unmet)
    kept = inputs.experts(merging)
    tried = [
        _tried(rehearsal, kept, name, portland) for portland in _candidates(rehearsal.portland)
    ]
    possible = [reason for available, reason in tried if available]
    missing = [reason for available, reason in tried if not available]
    if not possible:
        return Permitted(*row, False, False, missing[0])
    given: list[SumOutlook] = []

    def ask(kind: str, queries: str | None, experts: Experts) -> Experts:
        given.append(rehearsal.ask(row, kind, queries, experts))
        return given[-1].experts

    try:
        mixed, no_ensemble = inputs.mixed(kept, merging, ask)
    except NotAvailable as refused:
        return Permitted(*row, False, False, str(refused))
    if no_ensemble is not None:
        return Permitted(*row, False, merging, no_ensemble)
    if any(each.depends for each in given):
        return Permitted(*row, True, merging, UNLESS_REFUSED)
    if mixed != kept:
        return Permitted(*row, True, merging, rehearsal.known.without(mixed))
    reason = f"unless {missing[0]}" if missing else possible[0]
    return Permitted(*row, True, merging, reason)


def _candidates(portland: PlannedPortland | None) -> list[PlannedPortland | None]:
    if portland is None:
        return [None]
    return [replace(portland, best_single=name) for name in portland.experts]


def _tried(
    rehearsal: Rehearsal, kept: Experts, name: str, portland: PlannedPortland | None
) -> tuple[bool, str | None]:
    situation = Situation(rehearsal.known, portland, rehearsal.stage.group, kept)
    try:
        reasons = NEEDS[name](situation)
    except NotAvailable as reason:
        return False, str(reason)
    lacking = dict(zip(situation.tasks, reasons, strict=True))
    unscored = [f"{task}: {reason}" for task, reason in lacking.items() if reason]
    if unscored:
        return True, f"not on {'; '.join(unscored)}"
    return True, rehearsal.known.without(kept)
