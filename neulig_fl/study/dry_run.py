"""A run gone through without values: what would be released, what stops it, what can be computed.

The rules are the run's own (the gate's refusals, each method's `Rule`); only the records are blank:
one query for each block, one number for each output. So what is said here is what the run does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from neulig_fl.config.scenario import Stage
from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.progress import Progress
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.records import release_plan
from neulig_fl.records.kinds import MEASURED, OUTPUT_KINDS, Request
from neulig_fl.records.release_plan import Planned, Setting
from neulig_fl.records.secagg.plan import PlannedSum, SumPlan
from neulig_fl.server.released_records import Questions, ReleasedRecords
from neulig_fl.study.baseline_rows import Key, StageRun, methods
from neulig_fl.study.coopvec_rules import Rule, Situation, Weighting
from neulig_fl.study.method_rows import compared
from neulig_fl.study.permitted import UNLESS_REFUSED, Permitted, of_method
from neulig_fl.study.steps import vote
from neulig_fl.study.steps.train_portland import consenting
from neulig_fl.study.trained_portland import TrainedPortland

NO_INPUTS = "no client released its training inputs"
"""Then nobody is asked for outputs on them, and nobody refuses."""

ORIGIN_DIVERSE = "origin: diverse has no common checkpoint"


@dataclass
class BlankRecords(ReleasedRecords):
    """Who would have released what, without any value."""

    models: dict[str, dict[str, str]] = field(default_factory=dict)
    """By group and client, the kind of record of which its model is known."""

    def grant(self, client: str, request: Request) -> None:
        """Remember that a client would give a record."""
        key = (request.group, request.kind, request.queries)
        if request.kind in OUTPUT_KINDS:
            if request.fraction > self.fractions.get(key, 0.0):
                self.outputs[key], self.answers[key] = {}, {}
            self.fractions[key] = request.fraction
            self.outputs.setdefault(key, {})[client] = torch.zeros(0)
            self.answers.setdefault(key, {})[client] = {}
        elif request.kind == "offset-sum":
            self.sums.setdefault(request.group, {})[client] = 0.0
        elif request.kind in MEASURED:
            self.statistics.setdefault(key, {})[client] = {}
        elif request.kind == "inputs":
            self.fractions[key] = request.fraction
            self.inputs.setdefault(request.group, {})[client] = {}
        else:
            self.models.setdefault(request.group, {})[client] = request.kind

    def with_parameters(self, group: str) -> tuple[str, ...]:
        """Clients whose parameters would be known, in order."""
        return tuple(n for n in self.clients if n in self.models.get(group, {}))

    def questions_at(self, group: str, queries: str, fraction: float) -> list[Questions]:
        """One blank query for every block that has any."""
        found = []
        for block in self.blocks(group, queries, fraction):
            rows = min(block.rows, 1)
            images = np.zeros((rows, 3, 1, 1), np.uint8)
            found.append(Questions(block.task.name, images, torch.zeros(rows, dtype=torch.long)))
        return found

    def stacked(self, group: str, queries: str, experts: Sequence[str]) -> list[Tensor]:
        """One blank number for every block and expert."""
        return [torch.zeros(len(q.labels), len(experts), 1) for q in self.questions(group, queries)]


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


def rehearse(setting: Setting) -> Iterator[StageOutlook]:
    """Go through a scenario's stages up to the one in which the run would end.

    Args:
        setting: the scenario, with its tasks and model opened; their data are not read.
    """
    knowledge, sums = BlankRecords(setting), SumPlan(setting)
    fitted: TrainedPortland | None = None
    for stage in setting.scenario.stages:
        outlook = StageOutlook(stage, _known(knowledge, stage.group))
        _collect(knowledge, outlook)
        run = StageRun(stage, knowledge, fitted, Progress(lambda event: None))
        if outlook.stops is None:
            _steps(run, sums, outlook)
        fitted = run.fitted
        yield outlook
        if outlook.stops is not None:
            return


def _known(knowledge: BlankRecords, group: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, Sequence[str]] = {"offset-sum": list(knowledge.sums.get(group, {}))}
    found["inputs of train"] = list(knowledge.inputs.get(group, {}))
    for (of_group, kind, queries), given in knowledge.outputs.items():
        if of_group == group:
            found[f"{kind} of {queries}"] = list(given)
    for name, kind in knowledge.models.get(group, {}).items():
        found[kind] = [*found.get(kind, ()), name]
    found |= {kind: knowledge.giving(group, kind) for kind in MEASURED}
    return {
        what: tuple(name for name in knowledge.clients if name in given)
        for what, given in found.items()
        if given
    }


def _collect(knowledge: BlankRecords, outlook: StageOutlook) -> None:
    """Ask for everything that the stage shares, as `collecting.Collector` does."""
    setting, stage = knowledge.setting, outlook.stage
    planned = list(release_plan.stage_plan(setting, stage))
    for request in dict.fromkeys(item.request for item in planned):
        if outlook.stops is not None:
            return
        asked = [_with_true_rows(knowledge, item) for item in planned if item.request == request]
        for item in asked:
            if item.refusal is None:
                knowledge.grant(item.client, request)
                outlook.released.append(item)
            else:
                outlook.refused.append(item)
                if item.refusal != NO_INPUTS and setting.scenario.on_refusal == "stop":
                    outlook.stops = f"{item.client} refuses {request.kind}, and on_refusal is stop"


def _with_true_rows(knowledge: BlankRecords, item: Planned) -> Planned:
    """Outputs on `train` queries answer the inputs that were released, not all that there are."""
    request = item.request
    if request.queries != "train" or request.kind not in OUTPUT_KINDS:
        return item
    fraction = knowledge.fractions.get((request.group, "inputs", "train"), 1.0)
    rows = sum(block.rows for block in knowledge.blocks(request.group, "train", fraction))
    size = knowledge.setting.byte_count(request, rows)
    return replace(item, rows=rows, bytes=size, refusal=item.refusal if rows else NO_INPUTS)


def _steps(run: StageRun, sums: SumPlan, outlook: StageOutlook) -> None:
    """Go through the stage's steps; a later step's result replaces an earlier one's."""
    found: dict[Key, Permitted] = {}
    for step in outlook.stage.run:
        if step == "train-portland":
            outlook.stops = _train(run)
        elif step == "vote":
            found[(vote.METHOD, None, None)] = _voted(run)
        else:
            for result in _results(run, _Summing(run, sums, outlook), merging=step == "merge"):
                found[(result.method, result.granularity, result.variant)] = result
        if outlook.stops is not None:
            return
    outlook.results = list(found.values())


def _train(run: StageRun) -> str | None:
    """Leave a blank Portland; or why there is none, which ends the run."""
    group, options = run.stage.group, run.knowledge.setting.scenario.portland
    names = consenting(run.knowledge, group)
    if len(names) < 2:
        who = ", ".join(names) or "nobody"
        return f"Portland needs two clients or more on {options.queries} queries; shared by: {who}"
    size = len(names)
    portland = Portland(torch.zeros(size, size), torch.zeros(size), names)
    fit = Fit(portland, [], 0.0, 0)
    run.fitted = TrainedPortland(fit, run.stage.name, group, options.queries, names[0], "")
    return None


def _voted(run: StageRun) -> Permitted:
    _, voters = vote.voting(run.knowledge, run.stage.group)
    if not voters:
        return Permitted(vote.METHOD, None, False, False, vote.NOBODY)
    return Permitted(vote.METHOD, None, True, False, _without(run, voters))


@dataclass(frozen=True)
class _Summing:
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


def _results(run: StageRun, summing: _Summing, merging: bool) -> Iterator[Permitted]:
    run.sources.settle()
    kept = run.sources.experts(merging)
    for method, granularity, rule in methods(run.stage):
        yield _permitted(run, summing, kept, merging, (method, granularity), rule)
        if summing.outlook.stops is not None:
            return
    diverse = run.knowledge.setting.scenario.experts.origin == "diverse"
    reason = ORIGIN_DIVERSE if diverse else None
    yield Permitted("pretrained", None, not diverse, merging and not diverse, reason)
    if merging or "merge" not in run.stage.run:
        yield from _methods(run, summing, merging)


def _methods(run: StageRun, summing: _Summing, merging: bool) -> Iterator[Permitted]:
    """The rows of the scenario's merge methods, as `method_rows.run_methods` makes them."""
    for entry in compared(run.knowledge.setting.scenario):

        def ask(kind: str, kept: tuple[str, ...], name: str = entry.name) -> PlannedSum:
            return summing.one((name, None), (kind, None), kept)

        yield of_method(run, entry, ask, merging)
        if summing.outlook.stops is not None:
            return


def _permitted(
    run: StageRun,
    summing: _Summing,
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
    survivors, less = summing.ask(name, kept, merging)
    if less is not None:
        return less
    if summing.open(name):
        return Permitted(*name, True, merging, UNLESS_REFUSED)
    if survivors != kept:
        return Permitted(*name, True, merging, _without(run, survivors))
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
    without = [f"{task}: {reason}" for task, reason in lacking.items() if reason]
    if without:
        return True, f"not on {'; '.join(without)}"
    return True, _without(run, kept)


def _without(run: StageRun, kept: tuple[str, ...]) -> str | None:
    left_out = [client for client in run.knowledge.clients if client not in kept]
    return f"without {', '.join(left_out)}" if left_out else None
