"""The merged side of a row: every query's class by its own merged model, and what grouping changed.

With `merging.tolerance` near-equal CoopVecs are merged as one. What that changes is measured on
some of the queries, which are merged exactly as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neulig_fl.core.progress import Progress
from neulig_fl.core.randomness import numpy_generator
from neulig_fl.merging.inference import ExpertStack, Merging, merged_outputs
from neulig_fl.merging.inference.batch_norm import CALIBRATION_QUERIES
from neulig_fl.merging.inference.tolerance import grouped
from neulig_fl.models.families import device
from neulig_fl.models.outputs import classify, encode
from neulig_fl.server.released_records import Questions, ReleasedRecords


@dataclass(frozen=True)
class Grouping:
    """What it changed to merge near-equal CoopVecs as one.

    Args:
        tolerance: the most that an entry of a CoopVec may have moved by.
        queries: how many were merged.
        networks: as how many different merged models.
        checked: how many of the queries, drawn at random, were merged exactly as well.
        largest_output_change: on those, the largest change of an entry of the outputs, over the
            largest absolute entry of the exact outputs.
        changed_predictions: of those, how many have another class than with exact merging.
    """

    tolerance: float
    queries: int
    networks: int
    checked: int
    largest_output_change: float
    changed_predictions: int

    def record(self) -> dict[str, Any]:
        """The row's `grouping` as the report contract has it."""
        return asdict(self)


Predictions = list[Tensor | None]
"""Classes of every task's queries; None where there are none."""


def run_merged(
    released: ReleasedRecords,
    group: str,
    kept: tuple[str, ...],
    coopvecs: Sequence[Tensor | None],
    progress: Progress,
    title: str,
) -> tuple[Predictions, Grouping | None]:
    """Run the evaluation queries through their merged models; equal CoopVecs share a model.

    Args:
        released: the records; the parameters of all that are kept.
        group: whose experts are merged.
        kept: the experts that are merged.
        coopvecs: (queries, experts) for every task; None where there are none.
        progress: takes progress events.
        title: what is merged, and for whom; names the progress bar and the checked queries.

    Returns:
        Predicted classes, task by task, and what `merging.tolerance` changed; None where it moved
        no CoopVec.

    Raises:
        NotCovered: `method: batched` cannot run this model; the message says what can.
    """
    asked = zip(released.questions(group, "evaluation"), coopvecs, strict=True)
    known = [(question, beta) for question, beta in asked if beta is not None]
    if not known:
        return [None] * len(coopvecs), None
    stack = released.stacks[group]
    job = _Job(released, [question for question, _ in known])
    beta = stack.over_present(torch.cat([b for _, b in known]), kept)
    tolerance = released.setting.scenario.merging.tolerance
    representatives = grouped(beta, tolerance)
    bar = progress.task(title, len(beta))
    outputs = job.outputs(stack, representatives, torch.arange(len(beta)), bar.advance)
    grouping = None
    if not torch.equal(representatives, beta):
        networks = len(torch.unique(representatives, dim=0))
        changed = _checked(job, stack, beta, outputs, title)
        grouping = Grouping(tolerance, len(beta), networks, *changed)
    parts = iter(job.classes(outputs))
    return [None if b is None else next(parts) for b in coopvecs], grouping


def run_models(
    released: ReleasedRecords,
    questions: Sequence[Questions],
    models: Sequence[Mapping[str, NDArray[np.float32]]],
    model_of: Sequence[int | None],
    progress: Progress,
    title: str,
    re_estimate: bool = False,
) -> Predictions:
    """Run queries through models that came merged, one after the other.

    They are run as a single expert is, so `batch_norm: re-estimate` does what it does elsewhere.

    Args:
        released: the records.
        questions: the queries, task by task.
        models: every floating state-dict entry of each, by name.
        model_of: which of them answers each task's queries; None where none does.
        progress: takes progress events.
        title: what is merged, and for whom.
        re_estimate: recompute BatchNorm's statistics whatever the scenario says.
    """
    known = [q for q, model in zip(questions, model_of, strict=True) if model is not None]
    if not known:
        return [None] * len(model_of)
    job = _Job(released, known, re_estimate)
    places = [torch.full((len(q.labels),), m) for q, m in zip(questions, model_of, strict=True)
              if m is not None]  # fmt: skip
    which = torch.cat(places)
    bar = progress.task(title, len(which))
    outputs = torch.zeros(len(which), released.setting.sizes.dim)
    for number, entries in enumerate(models):
        rows = torch.nonzero(which == number).flatten()
        if len(rows):
            alone = ExpertStack(released.setting.family.entries(), (title,))
            alone.put(title, entries)
            outputs[rows] = job.outputs(alone, torch.ones(len(rows), 1), rows, bar.advance)
    parts = iter(job.classes(outputs))
    return [None if model is None else next(parts) for model in model_of]


def run_network(
    released: ReleasedRecords,
    questions: Sequence[Questions],
    network: nn.Module,
    progress: Progress,
    title: str,
) -> Predictions:
    """Run queries through a merged model that is no single set of parameters.

    Args:
        released: the records.
        questions: the queries, task by task.
        network: from inputs to features.
        progress: takes progress events.
        title: what is merged, and for whom.
    """
    bar = progress.task(title, sum(len(q.labels) for q in questions))
    found: Predictions = []
    for question in questions:
        features = encode(network, question.images, released.setting.family)
        head = released.head(question.task)
        found.append(classify(features, head).argmax(dim=1))
        bar.advance(len(question.labels))
    return found


@dataclass(frozen=True)
class _Job:
    """Queries of several tasks in a row, and what merges for them.

    Args:
        released: the records.
        questions: the queries, task by task.
        re_estimate: recompute BatchNorm's statistics whatever the scenario says.
    """

    released: ReleasedRecords
    questions: list[Questions]
    re_estimate: bool = False

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """Of all queries, uint8 (queries, 3, size, size)."""
        return np.concatenate([question.images for question in self.questions])

    @cached_property
    def encoder(self) -> nn.Module:
        """An encoder in which merged parameters take the place of its own."""
        return self.released.setting.family.encoder().to(device())

    @cached_property
    def calibration(self) -> Tensor | None:
        """Unlabelled pool queries, evenly from all tasks, for `batch_norm: re-estimate`."""
        setting = self.released.setting
        if setting.scenario.batch_norm == "average" and not self.re_estimate:
            return None
        each = max(1, CALIBRATION_QUERIES // len(setting.tasks))
        images = [
            task.pixels(task.indices("pool", each), setting.family.resize)
            for task in setting.tasks.values()
        ]
        return setting.family.normalise(np.concatenate(images))

    def outputs(
        self,
        stack: ExpertStack,
        coopvecs: Tensor,
        rows: Tensor,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Tensor:
        """Features of some queries, each under its own merged model.

        Args:
            stack: the experts' parameters.
            coopvecs: (k, experts whose parameters are here), of those queries.
            rows: positions of the queries, (k,).
            on_rows: called with the number of queries done since the last call.

        Returns:
            (k, dim), float32.
        """
        setting = self.released.setting
        options = setting.scenario.merging
        return merged_outputs(
            self.encoder,
            stack,
            coopvecs,
            lambda some: setting.family.normalise(self.images[rows[some].numpy()]),
            self.calibration,
            on_rows,
            merging=Merging(options.method, buffer_mib=options.buffer_mib),
        )

    def classes(self, outputs: Tensor) -> list[Tensor]:
        """Predicted classes, task by task, from the features of all queries."""
        parts = outputs.split([len(question.labels) for question in self.questions])
        return [
            classify(part, self.released.head(question.task)).argmax(dim=1)
            for part, question in zip(parts, self.questions, strict=True)
        ]


def _checked(
    job: _Job, stack: ExpertStack, coopvecs: Tensor, outputs: Tensor, title: str
) -> tuple[int, float, int]:
    """(checked queries, largest relative change of their outputs, changed predictions).

    Args:
        job: what merges.
        stack: the experts' parameters.
        coopvecs: as they were before they were grouped, (queries, experts).
        outputs: with grouped CoopVecs, (queries, dim).
        title: which row this is, for its own draw.
    """
    setting = job.released.setting
    generator = numpy_generator(setting.seed, "checked-grouping", title)
    count = min(setting.scenario.merging.checked, len(coopvecs))
    rows = torch.from_numpy(np.sort(generator.choice(len(coopvecs), count, replace=False)))
    exact = outputs.clone()
    exact[rows] = job.outputs(stack, coopvecs[rows], rows)
    changed = torch.cat(job.classes(exact)) != torch.cat(job.classes(outputs))
    largest = exact[rows].abs().max().clamp_min(torch.finfo(exact.dtype).tiny)
    return count, float((exact - outputs).abs().max() / largest), int(changed.sum())
