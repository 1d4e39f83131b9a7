"""MagMax: at each place the task vector of the largest magnitude."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._entrywise import entrywise
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2407.06322"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # lambda is 0.5; with lambda 1 they do


def merge(given: Given, *, lambda_: Lambda = 0.5) -> Entries:
    """Select: theta = theta_0 + lambda * tau_s, s = argmax_t |tau_t| at each place.

    Where two magnitudes are equal and the signs differ, the positive number is taken; the paper's
    code takes the later expert's, so that there the order of the experts would matter. The paper
    chooses lambda on validation data; 0.5 is what its code uses for eight independent experts.
    BatchNorm's running statistics are no part of the task vectors; they are averaged.

    Args:
        given: each client's parameters, and theta_0.
        lambda_: weight of the merged task vector.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2407.06322, section 4.
    """

    def rule(vectors: Tensor, start: Tensor) -> Tensor:
        low, high = torch.aminmax(vectors, dim=0)
        return start + lambda_ * torch.where(high >= -low, high, low)

    yield from with_statistics(given, entrywise(parameters(given), rule))
