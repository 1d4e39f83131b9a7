"""How concentrated CoopVecs are: effective experts, and the share of queries that really mix."""

from __future__ import annotations

import torch
from torch import Tensor

INTERIOR_BELOW = 0.9


def effective_experts(coopvecs: Tensor) -> Tensor:
    """exp(H(beta)) of every query: 1 when one expert has all weight, T when all weigh the same.

    Args:
        coopvecs: (queries, experts).

    Returns:
        (queries,).

    Example:
        >>> effective_experts(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([1., 2.])
    """
    entropy: Tensor = torch.special.entr(coopvecs).sum(dim=1)
    return entropy.exp()


def interior_share(coopvecs: Tensor) -> float:
    """Share of queries, 0 ... 1, whose largest entry is below 0.9: those that really mix.

    Example:
        >>> interior_share(torch.tensor([[0.95, 0.05], [0.5, 0.5]]))
        0.5
    """
    if not len(coopvecs):
        return 0.0
    return float((coopvecs.max(dim=1).values < INTERIOR_BELOW).double().mean())
