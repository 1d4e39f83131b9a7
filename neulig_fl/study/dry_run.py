"""A run gone through without values: what would be released, what stops it, what can be computed.

The rules are the run's own: the gate's refusals, what each step, method and control needs. So what
is said here is what the run does; no record, image or weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from neulig_fl.core import variants
from neulig_fl.records import kinds, release_plan
from neulig_fl.records.grants import Grants, Key
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Planned, Setting
from neulig_fl.study.outlook import PlannedPortland, Rehearsal, RunSums, StageOutlook
from neulig_fl.study.permitted import Permitted

NO_INPUTS = "no client released its training inputs"
"""Then nobody is asked for outputs on them, and nobody refuses."""


def rehearse(setting: Setting, known: Grants | None = None) -> Iterator[StageOutlook]:
    """Go through a scenario's stages up to the one in which the run would end.

    Args:
        setting: the scenario, with its tasks and model opened; their data are not read.
        known: takes what is released, of nothing yet; one of its own unless given.
    """
    known = Grants(setting.scenario, setting.tasks) if known is None else known
    sums = RunSums(setting)
    portland: PlannedPortland | None = None
    for stage in setting.scenario.stages:
        outlook = StageOutlook(stage, _words(known, stage.group))
        _collect(setting, known, outlook)
        rehearsal = Rehearsal(stage, known, portland, sums, outlook)
        if outlook.stops is None:
            _steps(rehearsal)
        portland = rehearsal.portland
        yield outlook
        if outlook.stops is not None:
            return


def _words(known: Grants, group: str) -> dict[str, tuple[str, ...]]:
    """What is known of a group, in words, and whose."""
    return {
        f"{kind} of {queries}" if queries else kind: names
        for (kind, queries), names in known.held(group).items()
    }


def _collect(setting: Setting, known: Grants, outlook: StageOutlook) -> None:
    """Ask for everything that the stage shares, as `collecting.Collector` does."""
    planned = list(release_plan.stage_plan(setting, outlook.stage))
    for request in dict.fromkeys(item.request for item in planned):
        if outlook.stops is not None:
            return
        asked = [_with_true_rows(known, item) for item in planned if item.request == request]
        for item in asked:
            if item.refusal is None:
                known.note(item.client, key_of(request), request.fraction)
                outlook.released.append(item)
            else:
                outlook.refused.append(item)
                if item.refusal != NO_INPUTS and setting.scenario.on_refusal == "stop":
                    outlook.end(item.client, request.kind, item.refusal)


def key_of(request: Request) -> Key:
    """By what it is known who released a record."""
    return request.group, request.kind, request.queries


def _with_true_rows(known: Grants, item: Planned) -> Planned:
    """Outputs on `train` queries answer the inputs that were released, not all that there are."""
    request = item.request
    if request.queries != "train" or not kinds.load(request.kind).output:
        return item
    fraction = known.fractions.get((request.group, "inputs", "train"), 1.0)
    rows = sum(block.rows for block in known.blocks(request.group, "train", fraction))
    refusal = item.refusal if rows else NO_INPUTS
    return replace(item, record=replace(item.record, rows=rows), refusal=refusal)


def _steps(rehearsal: Rehearsal) -> None:
    """Go through the stage's steps; a later step's result replaces an earlier one's."""
    found: dict[tuple[str, str | None, str | None], Permitted] = {}
    for step in rehearsal.stage.run:
        for result in variants.load("neulig_fl.study.steps", step).rehearse(rehearsal):
            found[(result.method, result.granularity, result.variant)] = result
        if rehearsal.outlook.stops is not None:
            return
    rehearsal.outlook.results = list(found.values())
