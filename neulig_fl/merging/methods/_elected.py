"""Merging numbers that disagree about the sign: the sign with the greater mass is elected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods._options import PositiveShare

if TYPE_CHECKING:
    from torch import Tensor

Density = Annotated[
    PositiveShare,
    Field(description="Share of each task vector that is kept: its largest magnitudes."),
]
Combine = Annotated[
    Literal["mean", "sum"],
    Field(description="What is made of the kept numbers that have the elected sign."),
]


def trimmed(vectors: Tensor, thresholds: Tensor) -> Tensor:
    """The numbers that reach their vector's threshold; 0 for the others.

    Args:
        vectors: (experts, ...).
        thresholds: (experts,).

    Returns:
        (experts, ...).
    """
    least = thresholds.view(-1, *[1] * (vectors.dim() - 1))
    return torch.where(vectors.abs() >= least, vectors, 0)


def elected(vectors: Tensor, combine: Combine) -> Tensor:
    """Elect a sign at each place, and merge the numbers that have it.

    Args:
        vectors: (experts, ...); 0 stands for nothing.
        combine: whether the numbers of the elected sign are averaged or added.

    Returns:
        (...); 0 where nothing is left, or where both signs have the same mass.

    Example:
        >>> elected(torch.tensor([[1.0, 2.0], [3.0, -2.0], [-2.0, 0.0]]), "mean")
        tensor([2., 0.])
    """
    sign = vectors.sum(dim=0).sign_()
    agreeing = (vectors * sign).clamp_(min=0)
    total = agreeing.sum(dim=0)
    if combine == "mean":
        total /= agreeing.sign_().sum(dim=0).clamp_(min=1)
    return total.mul_(sign)
