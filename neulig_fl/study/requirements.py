"""What a scenario's steps and merge methods need released, and what can be had in secure sums."""

from __future__ import annotations

from collections.abc import Iterator

from neulig_fl.config.problems import Problem, quoted
from neulig_fl.config.schema import Scenario
from neulig_fl.config.stages import Share
from neulig_fl.config.values import (
    MODEL_KINDS,
)
from neulig_fl.core import variants
from neulig_fl.core.errors import NotAvailable
from neulig_fl.merging.method_needs import Needs
from neulig_fl.records import kinds
from neulig_fl.study.method_requirements import Reach
from neulig_fl.study.needs import Known, known_by_stage


def unmet(scenario: Scenario) -> Iterator[Problem]:
    """Every step that does not find what it needs, from its own stage or an earlier one."""
    done: set[str] = set()
    for i, known in enumerate(known_by_stage(scenario)):
        for j, step in enumerate(known.stage.run):
            steps = ("stages", i, "run", j)
            module = variants.load("neulig_fl.study.steps", step)
            if "train-portland" not in done and module.needs_portland(known):
                what = f"{step} needs a Portland, and none is trained up to here"
                yield Problem(steps, f"{what}; put train-portland before {step}")
            for entry, otherwise in module.needs(known):
                what = (
                    f"{step} needs {entry} of group {known.stage.group}, which no stage up to here"
                )
                yield Problem(steps, f"{what} releases; add it to share{otherwise}")
            done.add(step)


def unmet_methods(scenario: Scenario) -> Iterator[Problem]:
    """Merge methods for which no stage finds what they need, merged or as an ensemble."""
    known = [k for k in known_by_stage(scenario) if {"merge", "ensemble"} & set(k.stage.run)]
    for index, entry in enumerate(scenario.methods):
        needs: Needs = variants.load("neulig_fl.merging.methods", entry.name).NEEDS
        if needs.experts not in (None, len(scenario.clients)):
            continue  # which `wrong_methods` says
        if not any(_can_be_had(needs, each) for each in known):
            what = f"{entry.name} needs {', '.join(needs.released)}, and no stage that merges has"
            lacking = [k for k in (*needs.each, *needs.sums) if not _shared(scenario, k)]
            add = ", ".join(f"{{kind: {kind}}}" for kind in lacking)
            instead = f"add {add} to the share of a stage that runs merge" if add else _why(needs)
            yield Problem(("methods", index), f"{what} it; {instead}, or leave {entry.name} out")


def _why(needs: Needs) -> str:
    """What to do where the stages share the right kinds in the wrong way."""
    wanted = " and ".join((*needs.each, *needs.sums))
    if needs.each:
        return f"share {wanted} with another protection than secure-aggregation, and run merge then"
    return f"share {wanted} in one stage that runs merge, or before it"


def _can_be_had(needs: Needs, known: Known) -> bool:
    reach = Reach(known.inputs)
    if "merge" in known.stage.run and reach.unmet(needs) is None:
        return True
    try:
        return bool(reach.answering(needs, ()))
    except NotAvailable:
        return False


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
    threshold = scenario.secure_aggregation.threshold
    wrong_one = None if threshold is None else _wrong_threshold(threshold, len(scenario.clients))
    if wrong_one is not None:
        yield Problem(("secure_aggregation", "threshold"), wrong_one)


def _wrong_threshold(threshold: int, clients: int) -> str | None:
    from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS  # slow to import

    least = max(LEAST_CLIENTS, clients // 2 + 1)
    if clients < LEAST_CLIENTS or least <= threshold <= clients:
        return None
    return (
        f"must be {LEAST_CLIENTS} or more, more than half of the clients, and no more than all "
        f"(got {threshold} with {clients} clients); allowed: {least} to {clients}, or null for two "
        "thirds"
    )


def _wrong_sum(share: Share, clients: int) -> Iterator[tuple[str, str]]:
    if not share.in_sums:
        return
    from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS  # slow to import

    guard = quoted(share.protection.name)
    if not kinds.load(share.kind).summed:
        what = f"cannot be summed (got {quoted(share.kind)} with protection {guard})"
        allowed = ", ".join(kinds.those(lambda kind: kind.summed))
        yield "kind", f"{what}; allowed: {allowed}"
    if clients < LEAST_CLIENTS:
        what = f"a sum of fewer than {LEAST_CLIENTS} clients hides none from the others"
        instead = "add clients, or take another protection"
        yield "protection", f"{what} (got {guard} with {clients} clients); {instead}"
