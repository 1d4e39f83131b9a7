"""A mixture and both its sides, ensemble and merged models: of single records, or of secure sums.

Where records leave within secure sums only, the server asks for the sum under each weight vector
that a row needs, and gets mixed outputs, or models that are merged. A side of single records then
mixes whom the sums have in them. So both sides mix the same experts, or the row says why one of
them is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neulig_fl.core.progress import Progress
from neulig_fl.merging.portland import mix, to_logits
from neulig_fl.records.secagg.requests import Part
from neulig_fl.server.released_records import Questions, ReleasedRecords
from neulig_fl.study import coopvec_rules
from neulig_fl.study.coopvec_rules import Weighting
from neulig_fl.study.merged_predictions import Grouping, Predictions, run_merged, run_models
from neulig_fl.study.mixture_inputs import Experts, MixtureInputs, Summed, Sums


@dataclass
class Mixture:
    """Both sides of one row: the ensemble and the merged models of the same experts.

    Args:
        inputs: what is mixed.
        released: the records.
        experts: whose experts are mixed, in order; sums may leave some out.
        weighting: the CoopVecs over them, as the row's method has them.
        merged: predicted classes of the merged models, task by task.
        ensembled: the same of the ensemble.
        grouping: what `merging.tolerance` changed; None where it moved no CoopVec.
        reason: why the ensemble is missing, or None.
        bytes: bytes of the sums that it needed.
    """

    inputs: MixtureInputs
    released: ReleasedRecords
    experts: Experts
    weighting: Weighting
    merged: Predictions = field(init=False)
    ensembled: Predictions = field(init=False)
    grouping: Grouping | None = None
    reason: str | None = None
    bytes: int = 0

    def __post_init__(self) -> None:
        self.merged = [None] * len(self.weighting.merge)
        self.ensembled = [None] * len(self.weighting.ensemble)

    def mix(self, merging: bool, sums: Sums, progress: Progress, title: str) -> None:
        """Mix: first what is asked for in sums, then single records of those who are in them.

        Args:
            merging: whether models are merged as well as outputs.
            sums: who asks for sums.
            progress: takes progress events.
            title: which row; names the progress bar.

        Raises:
            NotAvailable: a sum that the row cannot do without was refused or failed.
        """
        asked = _Asked(self, sums)
        experts, self.reason = self.inputs.mixed(self.experts, merging, asked.ask)
        self.weighting = coopvec_rules.over_survivors(self.weighting, self.experts, experts)
        self.experts = experts
        models, outputs = asked.models, None if self.reason else asked.outputs
        self.bytes = sum(summed.bytes for summed in (models, outputs) if summed is not None)
        if models is not None:
            self.merged = run_models(
                self.released, self._questions, models.values, asked.model_of, progress, title
            )
        elif merging and not self.inputs.parameters_in_sums:
            self.merged, self.grouping = run_merged(
                self.released, self._group, experts, self.weighting.merge, progress, title
            )
        if outputs is not None:
            self.ensembled = self._of_sums(outputs, asked.tasks)
        elif self.reason is None:
            self.ensembled = self._of_single()

    @property
    def _group(self) -> str:
        return self.inputs.stage.group

    @property
    def _questions(self) -> list[Questions]:
        return self.released.questions(self._group, "evaluation")

    def _of_sums(self, summed: Summed, tasks: Sequence[str]) -> Predictions:
        """Classes of the ensemble from outputs that came mixed, one sum a task."""
        answers = dict(zip(tasks, summed.values, strict=True))
        return [
            self._classes(torch.from_numpy(answers[q.task][self.released.kind]), q.task)
            if q.task in answers
            else None
            for q in self._questions
        ]

    def _of_single(self) -> Predictions:
        """Classes of the ensemble of single outputs."""
        outputs = self.released.stacked(self._group, "evaluation", self.experts)
        rows = zip(self._questions, self.weighting.ensemble, outputs, strict=True)
        return [
            None if beta is None else self._classes(mix(beta, z), question.task)
            for question, beta, z in rows
        ]

    def _classes(self, mixed: Tensor, task: str) -> Tensor:
        head = self.released.head_for_outputs(task)
        return to_logits(mixed, head, self.released.columns(task)).argmax(dim=1)


@dataclass
class _Asked:
    """The sums of one row, as they come in.

    Args:
        mixture: the row's.
        sums: who asks for sums.
        models: the merged models, one for each different CoopVec; None where none was asked for.
        model_of: which of them each task has.
        outputs: the mixed outputs; None where none were asked for.
        tasks: of each of them.
    """

    mixture: Mixture
    sums: Sums
    models: Summed | None = None
    model_of: Sequence[int | None] = ()
    outputs: Summed | None = None
    tasks: Sequence[str] = ()

    def ask(self, kind: str, queries: str | None, experts: Experts) -> Experts:
        """Ask for the sums of a kind under the row's CoopVecs; gives who is in them."""
        row = self.mixture
        weighting = coopvec_rules.over_survivors(row.weighting, row.experts, experts)
        if queries is None:
            parts, self.model_of = model_parts(weighting.merge, experts)
            if not parts:
                return experts
            self.models = self.sums.summed(kind, None, parts)
            return self.models.experts
        tasks = [
            block.task.name for block in row.released.answered(row.inputs.stage.group, queries)
        ]
        parts = output_parts(tasks, weighting.ensemble, experts)
        self.outputs = self.sums.summed(kind, queries, parts)
        self.tasks = [str(part.task) for part in parts]
        return self.outputs.experts


def model_parts(
    coopvecs: Sequence[Tensor | None], experts: tuple[str, ...]
) -> tuple[list[Part], list[int | None]]:
    """One part for each different CoopVec, and which of them each task has.

    Args:
        coopvecs: (queries, experts) for every task, the same for all of its queries.
        experts: whose entries they have, in order.

    Example:
        >>> parts, of = model_parts([torch.tensor([[0.5, 0.5]])] * 2, ("ada", "bob"))
        >>> [dict(part.weights) for part in parts], of
        ([{'ada': 0.5, 'bob': 0.5}], [0, 0])
    """
    different: list[tuple[float, ...]] = []
    part_of: list[int | None] = []
    for beta in coopvecs:
        if beta is None or not len(beta):
            part_of.append(None)
            continue
        vector = tuple(beta[0].tolist())
        if vector not in different:
            different.append(vector)
        part_of.append(different.index(vector))
    return [Part(None, dict(zip(experts, v, strict=True))) for v in different], part_of


def output_parts(
    tasks: Sequence[str], coopvecs: Sequence[Tensor | None], experts: tuple[str, ...]
) -> list[Part]:
    """One part a task that has queries, in order; the arguments are as for `model_parts`."""
    return [
        Part(task, dict(zip(experts, beta[0].tolist(), strict=True)))
        for task, beta in zip(tasks, coopvecs, strict=True)
        if beta is not None and len(beta)
    ]
