"""Consensus merging: the sum of the task vectors, where enough tasks want it (TALL masks)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.config.values import Count, NotNegative
from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._entrywise import entrywise
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2405.07813"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # an expert does not want what the others add to it, even where it is the same

Tasks = Annotated[Count, Field(description="Tasks that must want a number for it to be kept.")]
MaskLambda = Annotated[
    NotNegative, Field(description="Weight of the other tasks when a task's mask is made.")
]


def merge(
    given: Given, *, lambda_: Lambda = 0.3, mask_lambda: MaskLambda = 0.4, k: Tasks = 2
) -> Entries:
    """Keep what k tasks want: theta = theta_0 + lambda * (sum_t m_t >= k) * tau, tau = sum_t tau_t.

    The TALL mask of a task is m_t = [|tau_t| >= mask_lambda * |tau - tau_t|]: it wants the numbers
    where its own change is not drowned by those of the others. What no task wants the paper calls
    catastrophic, what one wants selfish. The paper's code has > in place of >=, which differs only
    where both sides are equal.

    The paper chooses mask_lambda for each task (0.2 to 0.6) and lambda (0.1 to 1) on validation
    data. Here one mask_lambda serves all tasks: 0.4, the middle of the paper's (FusionBench's
    configuration of TALL masks: 0.6); `tune` chooses one on the pool. lambda is that of task
    arithmetic. BatchNorm's running statistics are no part of the task vectors; they are
    averaged.

    Args:
        given: each client's parameters, and theta_0.
        lambda_: weight of the merged task vector.
        mask_lambda: of the masks.
        k: how many tasks must want a number.

    Yields:
        Every entry of the merged model.

    Raises:
        InputError: k is more than there are tasks, so that nothing would be kept.

    Source: arXiv:2405.07813, sections 4 (TALL masks) and 5 (consensus merging).
    """
    if k > len(given.experts):
        what = f"option k of consensus is {k} and there are {len(given.experts)} experts"
        raise InputError(f"{what}, so nothing would be kept; use {len(given.experts)} or fewer")

    def rule(vectors: Tensor, start: Tensor) -> Tensor:
        total = vectors.sum(dim=0)
        wanted = vectors.abs() >= mask_lambda * (total - vectors).abs()
        return start + lambda_ * torch.where(wanted.sum(dim=0) >= k, total, 0)

    yield from with_statistics(given, entrywise(parameters(given), rule))
