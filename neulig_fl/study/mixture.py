"""The two sides of a row, ensemble and merged models: of single records, or of secure sums.

Where records leave within secure sums only, the server asks for the sum under each weight vector
that a row needs, and gets mixed outputs, or models that are merged. Sums of parameters are asked
for first, then sums of outputs, over those whose parameters are in the first; a side of single
records then mixes whom the sums have in them. So both sides mix the same experts, or the row says
why one of them is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.progress import Progress
from neulig_fl.merging.portland import mix, to_logits
from neulig_fl.records.secagg.requests import Part
from neulig_fl.study import coopvec_rules
from neulig_fl.study.coopvec_rules import Weighting
from neulig_fl.study.merged_predictions import Merged, run_merged, run_models
from neulig_fl.study.mixture_inputs import Sources, Summed, Sums

Predictions = list[Tensor | None]


@dataclass(frozen=True)
class Sides:
    """Both sides of one row.

    Args:
        experts: whose experts are mixed, in order.
        weighting: the CoopVecs over them.
        merged: the merged side; nothing where nothing is merged.
        ensembled: predicted classes of the ensemble, task by task.
        reason: why the ensemble is missing, or None.
        bytes: bytes of the sums that it needed.
    """

    experts: tuple[str, ...]
    weighting: Weighting
    merged: Merged
    ensembled: Predictions
    reason: str | None = None
    bytes: int = 0


@dataclass
class Mixing:
    """One row in the making.

    Args:
        sources: where its mixtures come from.
        sums: who asks for sums.
        progress: takes progress events.
        title: which row; names the progress bar.
        experts: those that are mixed; sums may leave some out.
        weighting: the CoopVecs over them, as the row's method has them.
    """

    sources: Sources
    sums: Sums
    progress: Progress
    title: str
    experts: tuple[str, ...]
    weighting: Weighting
    _bytes: int = field(init=False, default=0)

    def sides(self, merging: bool) -> Sides:
        """Mix: first what is asked for in sums, then single records of those who are in them.

        Raises:
            NotAvailable: a sum that the row cannot do without was refused or failed.
        """
        models = self._summed_models() if merging and self.sources.parameters_in_sums else None
        ensembled, reason = None, None
        if self.sources.outputs_in_sums:
            ensembled, reason = self._summed_outputs(merging, fixed=models is not None)
        if ensembled is None and reason is None:
            ensembled = self._own_ensemble()
        if merging and models is None:
            models = self._own_models()
        nothing: Predictions = [None] * len(self.weighting.merge)
        return Sides(
            self.experts,
            self.weighting,
            models or Merged(nothing),
            ensembled or nothing,
            reason,
            self._bytes,
        )

    @property
    def _group(self) -> str:
        return self.sources.stage.group

    def _take(self, summed: Summed) -> None:
        """Go on with those who are in a sum."""
        self._bytes += summed.bytes
        survivors = summed.experts
        self.weighting = coopvec_rules.over_survivors(self.weighting, self.experts, survivors)
        self.experts = survivors

    def _summed_models(self) -> Merged:
        """Merged models from sums of parameters: one for each different CoopVec."""
        parts, part_of = model_parts(self.weighting.merge, self.experts)
        if not parts:
            return Merged([None] * len(part_of))
        summed = self.sums.summed("parameters", None, parts)
        self._take(summed)
        knowledge = self.sources.knowledge
        questions = knowledge.questions(self._group, "evaluation")
        return run_models(knowledge, questions, summed.values, part_of, self.progress, self.title)

    def _summed_outputs(self, merging: bool, fixed: bool) -> tuple[Predictions | None, str | None]:
        """Classes of the mixed outputs from sums, or why there are none.

        Args:
            merging: whether the row has a merged side; then it can do without this one.
            fixed: whether who is mixed is settled, because the merged models are there.
        """
        knowledge = self.sources.knowledge
        questions = knowledge.questions(self._group, "evaluation")
        tasks = [question.task for question in questions]
        parts = output_parts(tasks, self.weighting.ensemble, self.experts)
        try:
            summed = self.sums.summed(knowledge.kind, "evaluation", parts)
        except NotAvailable as refused:
            if not merging:
                raise
            return None, f"no ensemble: {refused}"
        if fixed and summed.experts != self.experts:
            missing = ", ".join(name for name in self.experts if name not in summed.experts)
            return (
                None,
                f"the sum of {knowledge.kind} is without {missing}, the merged model is not",
            )
        self._take(summed)
        answers = iter(summed.values)
        asked = {part.task for part in parts}
        mixed = [next(answers) if task in asked else None for task in tasks]
        return [
            None if value is None else self._classes(torch.from_numpy(value[knowledge.kind]), task)
            for value, task in zip(mixed, tasks, strict=True)
        ], None

    def _own_ensemble(self) -> Predictions:
        """Classes of the ensemble of single outputs."""
        knowledge = self.sources.knowledge
        questions = knowledge.questions(self._group, "evaluation")
        outputs = knowledge.stacked(self._group, "evaluation", self.experts)
        rows = zip(questions, self.weighting.ensemble, outputs, strict=True)
        return [
            None if beta is None else self._classes(mix(beta, z), question.task)
            for question, beta, z in rows
        ]

    def _own_models(self) -> Merged:
        """The merged side of single experts."""
        return run_merged(
            self.sources.knowledge,
            self._group,
            self.experts,
            self.weighting.merge,
            self.progress,
            self.title,
        )

    def _classes(self, mixed: Tensor, task: str) -> Tensor:
        knowledge = self.sources.knowledge
        head = knowledge.head_for_outputs(task)
        return to_logits(mixed, head, knowledge.columns(task)).argmax(dim=1)


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
