"""How each method weighs the experts: NeuLig at its granularities, and the controls beside it.

A weighting gives every evaluation query one CoopVec for merging and one for ensembling. Both are
the same, but for `batch-first`, where the ensemble keeps its own CoopVec for each query, as in the
paper's released code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.randomness import torch_generator
from neulig_fl.merging.coopvecs import one_hot
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_needs
from neulig_fl.study import trained_portland as fitting
from neulig_fl.study.coopvec_needs import Situation
from neulig_fl.study.trained_portland import TrainedPortland

BATCH = 128
"""Queries that share the first one's merged model under `batch-first`."""


@dataclass(frozen=True)
class RunSituation(Situation):
    """A situation with the records and the trained Portland themselves."""

    known: ReleasedRecords
    portland: TrainedPortland | None

    def trained(self) -> TrainedPortland:
        """The trained Portland.

        Raises:
            NotAvailable: none was trained in this or an earlier stage.
        """
        coopvec_needs.trained(self)
        return cast("TrainedPortland", self.portland)

    def coopvecs(self) -> list[Tensor]:
        """NeuLig's CoopVecs of the evaluation queries, task by task."""
        return fitting.coopvecs(self.known, self.trained(), self.group, "evaluation", self.experts)


@dataclass(frozen=True)
class Weighting:
    """One method's CoopVecs on the evaluation queries, task by task; None where it has none.

    Args:
        merge: (queries, experts) for every task.
        ensemble: the same for the ensemble.
        reasons: why a task has none.
    """

    merge: list[Tensor | None]
    ensemble: list[Tensor | None]
    reasons: list[str | None]


def _both(parts: list[Tensor]) -> Weighting:
    whole: list[Tensor | None] = list(parts)
    return Weighting(whole, whole, [None] * len(parts))


def _repeated(rows: list[int], vectors: list[Tensor]) -> Weighting:
    return _both([v.expand(n, -1).contiguous() for n, v in zip(rows, vectors, strict=True)])


def per_sample(situation: RunSituation) -> Weighting:
    """Every query its own CoopVec (the paper's "data level")."""
    return _both(situation.coopvecs())


def batch_first(situation: RunSituation) -> Weighting:
    """The first query's CoopVec merges its whole shuffled, single-task batch of 128.

    This is what the paper's released code does; it depends on the order of the batch.
    """
    own = situation.coopvecs()
    setting = situation.known.setting
    merge: list[Tensor | None] = []
    for task, beta in zip(situation.tasks, own, strict=True):
        order = torch.randperm(
            len(beta), generator=torch_generator(setting.seed, "batch-first", task)
        )
        shared = torch.empty_like(beta)
        for rows in order.split(BATCH):
            shared[rows] = beta[rows[0]]
        merge.append(shared)
    return Weighting(merge, list(own), [None] * len(own))


def per_task(situation: RunSituation) -> Weighting:
    """One CoopVec a task: the CoopVec Map."""
    values = fitting.task_coopvecs(
        situation.known, situation.trained(), situation.group, situation.experts
    )
    names = list(situation.known.setting.tasks)
    return _repeated(situation.rows, [values[names.index(t)] for t in situation.tasks])


def global_mean(situation: RunSituation) -> Weighting:
    """One mean CoopVec for everything: one merged model."""
    value = fitting.global_coopvec(
        situation.known, situation.trained(), situation.group, situation.experts
    )
    return _repeated(situation.rows, [value] * len(situation.rows))


def simple_average(situation: RunSituation) -> Weighting:
    """Uniform weights; needs no Portland."""
    count = len(situation.experts)
    return _repeated(situation.rows, [torch.full((count,), 1.0 / count)] * len(situation.rows))


def hard_routing(situation: RunSituation) -> Weighting:
    """All weight to the largest entry of NeuLig's CoopVec: no mixing at all."""
    count = len(situation.experts)
    return _both([one_hot(beta.argmax(dim=1), count) for beta in situation.coopvecs()])


def best_single(situation: RunSituation) -> Weighting:
    """The one expert that did best on Portland's training queries, for every task."""
    return _all_to(
        "best-single", [situation.trained().best_single] * len(situation.tasks), situation
    )


def oracle(situation: RunSituation) -> Weighting:
    """Every task's own expert: what knowing the task and its owner would give."""
    return _all_to("oracle", coopvec_needs.owners(situation), situation)


def _all_to(rule: str, names: list[str], situation: RunSituation) -> Weighting:
    reasons = coopvec_needs.NEEDS[rule](situation)
    parts: list[Tensor | None] = []
    for name, n, reason in zip(names, situation.rows, reasons, strict=True):
        position = situation.experts.index(name) if reason is None else 0
        beta = one_hot(torch.full((n,), position, dtype=torch.long), len(situation.experts))
        parts.append(beta if reason is None else None)
    return Weighting(parts, list(parts), reasons)


def over_survivors(
    weighting: Weighting, experts: tuple[str, ...], survivors: tuple[str, ...]
) -> Weighting:
    """A weighting over fewer experts: its CoopVecs restricted to them and renormalised.

    A secure sum over the survivors is divided by their weights, so these are its CoopVecs.

    Args:
        weighting: over all that were to be mixed.
        experts: those, in order.
        survivors: those of them that were mixed, in order.

    Raises:
        NotAvailable: in some task the survivors have no weight at all.
    """
    if survivors == experts:
        return weighting
    where = [experts.index(name) for name in survivors]
    lists = (weighting.merge, weighting.ensemble)
    merge, ensemble = ([_renormalised(beta, where) for beta in each] for each in lists)
    return Weighting(merge, ensemble, weighting.reasons)


def _renormalised(beta: Tensor | None, where: list[int]) -> Tensor | None:
    if beta is None:
        return None
    kept = beta[:, where]
    total = kept.sum(dim=1, keepdim=True)
    if not bool((total > 0).all()):
        raise NotAvailable("those who are left have no weight in it")
    return kept / total


Rule = Callable[[RunSituation], Weighting]

RULES: dict[str, Rule] = {
    "sample": per_sample,
    "batch-first": batch_first,
    "task": per_task,
    "global": global_mean,
    "simple-average": simple_average,
    "hard-routing": hard_routing,
    "best-single": best_single,
    "oracle": oracle,
}
"""By NeuLig's granularity, or the control; what each needs stands in `coopvec_needs.NEEDS`."""
