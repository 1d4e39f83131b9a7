"""What a scenario's steps need released, and what can be had within secure sums.

Single records stay known to later stages. Sums are asked for by the steps of the stage that shares
them, so there they count for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from neulig_fl.config.problems import Problem, shown
from neulig_fl.config.schema import PortlandOptions, Scenario
from neulig_fl.config.stages import Share, Stage
from neulig_fl.config.values import (
    KINDS,
    MIXED_KINDS,
    MODEL_KINDS,
    OUTPUT_KINDS,
    SUMMED_KINDS,
    SUMS,
    VOTED_KINDS,
)
from neulig_fl.core import variants
from neulig_fl.merging.method_needs import Needs
from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS

_Record = tuple[str, str, str | None]  # group, kind, query set


@dataclass(frozen=True)
class _Known:
    """What the server has, or can ask for, when a step runs.

    Args:
        stage: the step's stage.
        options: how Portland is trained.
        single: records that this stage and earlier ones share as such.
        summed: those that they share within secure sums.
    """

    stage: Stage
    options: PortlandOptions
    single: frozenset[_Record]
    summed: frozenset[_Record]

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


_Need = Callable[[_Known], Iterator[tuple[str, str]]]


def unmet(scenario: Scenario) -> Iterator[Problem]:
    """Every step that does not find what it needs, from its own stage or an earlier one."""
    single: frozenset[_Record] = frozenset()
    summed: frozenset[_Record] = frozenset()
    trains = any("train-portland" in stage.run for stage in scenario.stages)
    done: set[str] = set()
    for i, stage in enumerate(scenario.stages):
        single |= _records(stage, sums=False)
        summed |= _records(stage, sums=True)
        known = _Known(stage, scenario.portland, single, summed)
        for j, step in enumerate(stage.run):
            steps = ("stages", i, "run", j)
            without = not trains and _mixes_sums_alone(step, known)
            if step in _AFTER_PORTLAND and "train-portland" not in done and not without:
                what = f"{step} needs a Portland, and none is trained up to here"
                yield Problem(steps, f"{what}; put train-portland before {step}")
            for entry, otherwise in _NEEDS[step](known):
                what = f"{step} needs {entry} of group {stage.group}, which no stage up to here"
                yield Problem(steps, f"{what} releases; add it to share{otherwise}")
            done.add(step)


def _records(stage: Stage, sums: bool) -> frozenset[_Record]:
    """What a stage shares: as single records, or within sums."""
    return frozenset(
        (stage.group, share.kind, query)
        for share in stage.share
        if (share.protection in SUMS) == sums
        for query in (None, *share.queries)
    )


def _mixes_sums_alone(step: str, known: _Known) -> bool:
    """Whether no single record is mixed; then a simple average can be had without Portland."""
    outputs = known.only_sums(known.options.outputs, "evaluation")
    return outputs and (step == "ensemble" or known.only_sums("parameters"))


def _training_needs(known: _Known) -> Iterator[tuple[str, str]]:
    options = known.options
    yield from _single_outputs(known, options.queries)
    if options.alignment != "none" and not known.has("offset-sum"):
        yield "{kind: offset-sum}", ", or set portland.alignment to none"
    if options.queries == "train" and not known.has("inputs", "train"):
        yield "{kind: inputs, queries: [train]}", ", or set portland.queries to pool"
    if options.objective_on != "ensemble" and not known.has("parameters"):
        otherwise = (
            f", or set portland.objective_on to ensemble (got {shown(options.objective_on)})"
        )
        if known.only_sums("parameters"):
            otherwise = f" with another protection than secure-aggregation{otherwise}"
        yield "{kind: parameters}", otherwise


def _single_outputs(known: _Known, queries: str) -> Iterator[tuple[str, str]]:
    """Outputs that Portland reads one by one."""
    kind = known.options.outputs
    if known.has(kind, queries):
        return
    otherwise = _why_not_mixed(known, queries)
    if known.only_sums(kind, queries):
        otherwise = (
            " with another protection than secure-aggregation: Portland reads every client's own "
            "outputs, and a sum does not tell them"
        )
    yield f"{{kind: {kind}, queries: [{queries}]}}", otherwise


def _why_not_mixed(known: _Known, queries: str) -> str:
    """Labels and the like say which class wins, not what to mix."""
    instead = [k for k in KINDS if k in OUTPUT_KINDS - MIXED_KINDS]
    there = [kind for kind in instead if known.has(kind, queries)]
    mixed = " or ".join(kind for kind in KINDS if kind in MIXED_KINDS)
    alone = f"; with {', '.join(there)} alone it is not possible: only {mixed} can be mixed"
    return alone if there else ""


def _ensemble_needs(known: _Known) -> Iterator[tuple[str, str]]:
    kind = known.options.outputs
    if not known.has(kind, "evaluation") and not known.sums_of(kind, "evaluation"):
        otherwise = _why_not_mixed(known, "evaluation") or _asked_elsewhere(
            known, kind, "evaluation"
        )
        yield f"{{kind: {kind}, queries: [evaluation]}}", otherwise


def _merge_needs(known: _Known) -> Iterator[tuple[str, str]]:
    yield from _ensemble_needs(known)
    if not known.has("parameters") and not known.sums_of("parameters"):
        yield "{kind: parameters}", _asked_elsewhere(known, "parameters", None)


def _asked_elsewhere(known: _Known, kind: str, queries: str | None) -> str:
    """Sums of an earlier stage are not there any more: each step asks for its own."""
    if not known.only_sums(kind, queries):
        return ""
    return " of this stage: sums are asked for by the steps of the stage that shares them"


def _vote_needs(known: _Known) -> Iterator[tuple[str, str]]:
    if not any(known.has(kind, "evaluation") for kind in VOTED_KINDS):
        allowed = " or ".join(VOTED_KINDS[1:])
        yield f"{{kind: {VOTED_KINDS[0]}, queries: [evaluation]}}", f", or {allowed} instead"


_AFTER_PORTLAND = frozenset({"ensemble", "merge"})
_NEEDS: dict[str, _Need] = {
    "train-portland": _training_needs,
    "ensemble": _ensemble_needs,
    "merge": _merge_needs,
    "vote": _vote_needs,
}


def unmet_methods(scenario: Scenario) -> Iterator[Problem]:
    """Merge methods for which no stage finds what they need, merged or as an ensemble."""
    for index, entry in enumerate(scenario.methods):
        needs: Needs = variants.load("neulig_fl.merging.methods", entry.name).NEEDS
        if not any(_can_be_had(needs, known) for known in _known_at_steps(scenario)):
            what = f"{entry.name} needs {', '.join(needs.released)}, and no stage that merges has"
            lacking = [k for k in (*needs.each, *needs.sums) if not _shared(scenario, k)]
            add = ", ".join(f"{{kind: {kind}}}" for kind in lacking)
            instead = f"add {add} to the share of a stage that runs merge" if add else _why(needs)
            yield Problem(("methods", index), f"{what} it; {instead}, or leave {entry.name} out")


def _why(needs: Needs) -> str:
    """What to do where the stages share the right kinds in the wrong way."""
    kinds = " and ".join((*needs.each, *needs.sums))
    if needs.each:
        return f"share {kinds} with another protection than secure-aggregation, and run merge then"
    return f"share {kinds} in one stage that runs merge, or before it"


def _known_at_steps(scenario: Scenario) -> Iterator[_Known]:
    """What is known when a stage merges or ensembles."""
    single: frozenset[_Record] = frozenset()
    summed: frozenset[_Record] = frozenset()
    for stage in scenario.stages:
        single |= _records(stage, sums=False)
        summed |= _records(stage, sums=True)
        if {"merge", "ensemble"} & set(stage.run):
            yield _Known(stage, scenario.portland, single, summed)


def _can_be_had(needs: Needs, known: _Known) -> bool:
    each = all(known.has(kind) for kind in needs.each)
    sums = all(known.has(kind) or known.sums_of(kind) for kind in needs.sums)
    if "merge" in known.stage.run and each and sums:
        return True
    kind = known.options.outputs
    return bool(needs.outputs) and all(known.has(kind, queries) for queries in needs.outputs)


def _shared(scenario: Scenario, kind: str) -> bool:
    """Whether some stage shares a kind, in whatever way."""
    same = MODEL_KINDS if kind in MODEL_KINDS else (kind,)
    return any(share.kind in same for stage in scenario.stages for share in stage.share)


def wrong_sums(scenario: Scenario) -> Iterator[Problem]:
    """Secure sums of what cannot be summed, of too few clients, or with a wrong threshold."""
    for i, stage in enumerate(scenario.stages):
        for j, share in enumerate(stage.share):
            for key, wrong in _wrong_sum(share, len(scenario.clients)):
                yield Problem(("stages", i, "share", j, key), wrong)
    clients, threshold = len(scenario.clients), scenario.secure_aggregation.threshold
    least = max(LEAST_CLIENTS, clients // 2 + 1)
    if threshold is not None and clients >= LEAST_CLIENTS and not least <= threshold <= clients:
        what = (
            f"must be {LEAST_CLIENTS} or more, more than half of the clients, and no more than all "
            f"(got {threshold} with "
        )
        allowed = f"{clients} clients); allowed: {least} to {clients}, or null for two thirds"
        yield Problem(("secure_aggregation", "threshold"), f"{what}{allowed}")


def _wrong_sum(share: Share, clients: int) -> Iterator[tuple[str, str]]:
    if share.protection not in SUMS:
        return
    guard = shown(share.protection)
    if share.kind not in SUMMED_KINDS:
        what = f"cannot be summed (got {shown(share.kind)} with protection {guard})"
        yield "kind", f"{what}; allowed: {', '.join(SUMMED_KINDS)}"
    if clients < LEAST_CLIENTS:
        what = f"a sum of fewer than {LEAST_CLIENTS} clients hides none from the others"
        instead = "add clients, or take another protection"
        yield "protection", f"{what} (got {guard} with {clients} clients); {instead}"
