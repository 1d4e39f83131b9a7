"""What a stage would do, by the rules of the run: its records, its sums, and rows of results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from neulig_fl.config.scenario import Stage
from neulig_fl.core.errors import NotAvailable
from neulig_fl.records.release_plan import Planned
from neulig_fl.records.secagg.plan import PlannedSum, SumPlan
from neulig_fl.study.baseline_rows import StageRun, methods
from neulig_fl.study.coopvec_rules import Rule, Situation, Weighting
from neulig_fl.study.method_rows import compared
from neulig_fl.study.permitted import UNLESS_REFUSED, Permitted, of_method
from neulig_fl.study.trained_portland import TrainedPortland

ORIGIN_DIVERSE = "origin: diverse has no common checkpoint"


@dataclass
class StageOutlook:
    """What a stage would do.

    Args:
        stage: the scenario's stage.
        known: what earlier stages would have released of the stage's group: record and clients.
        released: records that would be released.
        refused: records that would be refused.
        sums: secure sums that its steps would ask for, in order.
        results: what could then be computed.
        stops: why the run would end in this stage; None when it would not.
    """

    stage: Stage
    known: dict[str, tuple[str, ...]]
    released: list[Planned] = field(default_factory=list)
    refused: list[Planned] = field(default_factory=list)
    sums: list[PlannedSum] = field(default_factory=list)
    results: list[Permitted] = field(default_factory=list)
    stops: str | None = None


@dataclass(frozen=True)
class DrySums:
    """Where a row's sums are asked for, in the order in which a run asks.

    Args:
        run: the stage, with what would be known.
        plan: the sums of the whole run.
        outlook: where they are noted, and what stops the run.
    """

    run: StageRun
    plan: SumPlan
    outlook: StageOutlook

    def ask(
        self, row: tuple[str, str | None], kept: tuple[str, ...], merging: bool
    ) -> tuple[tuple[str, ...], Permitted | None]:
        """Who would be mixed, and what a row has whose sums are not all given."""
        sources, kind = self.run.sources, self.run.knowledge.kind
        if merging and sources.parameters_in_sums:
            planned = self.one(row, ("parameters", None), kept)
            if planned.refusal is not None:
                return kept, Permitted(*row, False, False, planned.refusal)
            kept = planned.clients
        if sources.outputs_in_sums:
            planned = self.one(row, (kind, "evaluation"), kept)
            if planned.refusal is not None:
                return kept, Permitted(*row, False, merging, planned.refusal)
            if merging and sources.parameters_in_sums and planned.clients != kept:
                reason = f"not everybody whose parameters are in the sum gives {kind}"
                return kept, Permitted(*row, False, True, reason)
            kept = planned.clients
        return kept, None

    def open(self, row: tuple[str, str | None]) -> bool:
        """Whether it depends on the CoopVecs if a row's sums are given."""
        own = [each for each in self.outlook.sums if (each.method, each.granularity) == row]
        return any(each.leverage[0] < each.leverage[1] for each in own)

    def one(
        self, row: tuple[str, str | None], record: tuple[str, str | None], kept: tuple[str, ...]
    ) -> PlannedSum:
        """What comes of asking for the sums of one kind of record that a row needs."""
        trained = self.run.fitted.stage if self.run.fitted else None
        planned, new = self.plan.ask(self.run.stage, row, record, kept, trained)
        if new and planned not in self.outlook.sums:  # each step asks again for what was refused
            self.outlook.sums.append(planned)
        stop = self.run.knowledge.setting.scenario.on_refusal == "stop"
        if stop and planned.refusals and self.outlook.stops is None:
            first = next(iter(planned.refusals))
            self.outlook.stops = f"{first} refuses a sum of {record[0]}, and on_refusal is stop"
        return planned


def rows(run: StageRun, sums: DrySums, merging: bool) -> Iterator[Permitted]:
    """The rows of NeuLig, the controls and the scenario's merge methods, as a run makes them."""
    run.sources.settle()
    kept = run.sources.experts(merging)
    for method, granularity, rule in methods(run.stage):
        yield _permitted(run, sums, kept, merging, (method, granularity), rule)
        if sums.outlook.stops is not None:
            return
    diverse = run.knowledge.setting.scenario.experts.origin == "diverse"
    reason = ORIGIN_DIVERSE if diverse else None
    yield Permitted("pretrained", None, not diverse, merging and not diverse, reason)
    if merging or "merge" not in run.stage.run:
        yield from _methods(run, sums, merging)


def _methods(run: StageRun, sums: DrySums, merging: bool) -> Iterator[Permitted]:
    """The rows of the scenario's merge methods, as `method_rows.run_methods` makes them."""
    for entry in compared(run.knowledge.setting.scenario):

        def ask(kind: str, kept: tuple[str, ...], name: str = entry.name) -> PlannedSum:
            return sums.one((name, None), (kind, None), kept)

        yield of_method(run, entry, ask, merging)
        if sums.outlook.stops is not None:
            return


def _permitted(
    run: StageRun,
    sums: DrySums,
    kept: tuple[str, ...],
    merging: bool,
    name: tuple[str, str | None],
    rule: Rule,
) -> Permitted:
    """Try a method under every expert that may turn out to be the best single one."""
    if not kept:
        return Permitted(*name, False, False, "no client shares what is mixed")
    needs_more = run.sources.refusal(*name, merging)
    if needs_more is not None:
        return Permitted(*name, False, False, needs_more)
    reasons = [_tried(run, kept, rule, fitted) for fitted in _candidates(run.fitted)]
    possible = [reason for available, reason in reasons if available]
    missing = [reason for available, reason in reasons if not available]
    if not possible:
        return Permitted(*name, False, False, missing[0])
    survivors, less = sums.ask(name, kept, merging)
    if less is not None:
        return less
    if sums.open(name):
        return Permitted(*name, True, merging, UNLESS_REFUSED)
    if survivors != kept:
        return Permitted(*name, True, merging, without(run, survivors))
    reason = f"unless {missing[0]}" if missing else possible[0]
    return Permitted(*name, True, merging, reason)


def _candidates(fitted: TrainedPortland | None) -> list[TrainedPortland | None]:
    if fitted is None:
        return [None]
    return [
        TrainedPortland(fitted.fit, fitted.stage, fitted.group, fitted.queries, best, fitted.choice)
        for best in fitted.portland.experts
    ]


def _tried(
    run: StageRun, kept: tuple[str, ...], rule: Rule, fitted: TrainedPortland | None
) -> tuple[bool, str | None]:
    situation = Situation(run.knowledge, fitted, run.stage.group, kept)
    try:
        weighting: Weighting = rule(situation)
    except NotAvailable as reason:
        return False, str(reason)
    lacking = dict(zip(situation.tasks, weighting.reasons, strict=True))
    unscored = [f"{task}: {reason}" for task, reason in lacking.items() if reason]
    if unscored:
        return True, f"not on {'; '.join(unscored)}"
    return True, without(run, kept)


def without(run: StageRun, kept: tuple[str, ...]) -> str | None:
    """Who is left out of a row, in words; None when nobody is."""
    left_out = [client for client in run.knowledge.clients if client not in kept]
    return f"without {', '.join(left_out)}" if left_out else None
