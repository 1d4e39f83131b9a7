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

from neulig_fl.core import variants
from neulig_fl.core.progress import Progress
from neulig_fl.records import kinds, release_plan
from neulig_fl.records.kinds import Request
from neulig_fl.records.release_plan import Planned, Setting
from neulig_fl.records.secagg.plan import SumPlan
from neulig_fl.server.released_records import Questions, ReleasedRecords
from neulig_fl.study.baseline_rows import Key, StageRun
from neulig_fl.study.outlook import DrySums, StageOutlook
from neulig_fl.study.permitted import Permitted
from neulig_fl.study.trained_portland import TrainedPortland

NO_INPUTS = "no client released its training inputs"
"""Then nobody is asked for outputs on them, and nobody refuses."""


@dataclass
class BlankRecords(ReleasedRecords):
    """Who would have released what, without any value."""

    models: dict[str, dict[str, str]] = field(default_factory=dict)
    """By group and client, the kind of record of which its model is known."""

    def grant(self, client: str, request: Request) -> None:
        """Remember that a client would give a record."""
        key = (request.group, request.kind, request.queries)
        if kinds.load(request.kind).output:
            if request.fraction > self.fractions.get(key, 0.0):
                self.outputs[key], self.answers[key] = {}, {}
            self.fractions[key] = request.fraction
            self.outputs.setdefault(key, {})[client] = torch.zeros(0)
            self.answers.setdefault(key, {})[client] = {}
        elif request.kind == "offset-sum":
            self.sums.setdefault(request.group, {})[client] = 0.0
        elif kinds.load(request.kind).measured:
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
            _steps(run, DrySums(run, sums, outlook))
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
    measured = kinds.those(lambda kind: kind.measured)
    found |= {kind: knowledge.giving(group, kind) for kind in measured}
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
    if request.queries != "train" or not kinds.load(request.kind).output:
        return item
    fraction = knowledge.fractions.get((request.group, "inputs", "train"), 1.0)
    rows = sum(block.rows for block in knowledge.blocks(request.group, "train", fraction))
    size = knowledge.setting.byte_count(request, rows)
    return replace(item, rows=rows, bytes=size, refusal=item.refusal if rows else NO_INPUTS)


def _steps(run: StageRun, sums: DrySums) -> None:
    """Go through the stage's steps; a later step's result replaces an earlier one's."""
    found: dict[Key, Permitted] = {}
    for step in run.stage.run:
        for result in variants.load("neulig_fl.study.steps", step).rehearse(run, sums):
            found[(result.method, result.granularity, result.variant)] = result
        if sums.outlook.stops is not None:
            return
    sums.outlook.results = list(found.values())
