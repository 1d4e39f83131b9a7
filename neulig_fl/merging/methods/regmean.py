"""RegMean: the layer that is closest to all experts' layers on all their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.core.errors import RunError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.gram import DIAGONAL, GRAM, MOMENT, as_matrix, convolutions, from_matrix
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._options import Share

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2212.09849"
NEEDS = Needs(sums=("gram", "parameters"))

RIDGES = tuple(10.0**power for power in range(-6, 1))
"""Shares of the mean diagonal that are added to it: the first that makes it positive definite."""

OffDiagonal = Annotated[
    Share, Field(description="Factor on what stands off the diagonal of the Gram matrices.")
]


def merge(given: Given, *, off_diagonal: OffDiagonal = 0.95) -> Entries:
    """Solve each layer: W = (sum_t W_t G~_t) (sum_t G~_t)^-1, G~ = a G + (1 - a) diag(G).

    W minimises sum_t |X_t W' - X_t W_t'|^2 for a = 1. G_t = X_t'X_t / n are the second moments of
    the layer's inputs, which client t computes on its own examples (`merging.gram`) and gives
    away with W_t G_t and W_t diag(G_t); their sums are enough for every a. Linear layers,
    attention's projections and a ViT's last projection are solved, the packed projections of
    self-attention as one. All other entries (biases, norms, embeddings, BatchNorm's statistics)
    are averaged. A ResNet's convolutions are solved as matrices of their patches, which is an
    extension; a ViT's patch embedding is averaged.

    Inputs that no client has seen leave the layer undetermined. So 1e-6 of the mean of the diagonal
    is added to it, with as much of W's mean on the other side: there W is the experts' mean. Where
    the matrix is not positive definite then, it is 1e-5, and so on. The official code has none.

    a is 0.95. The paper takes 0.9 for most of its models and 0.1 for some; FusionBench's
    configuration has 0.95 for CLIP (0.6 in some of its versions) and 0.6 for GPT-2. Every client's
    G counts the same, whatever the number of its inputs, as in the official code.

    Args:
        given: the means of every entry, of G, of W G and of W diag(G).
        off_diagonal: a.

    Yields:
        Every entry of the merged model.

    Raises:
        RunError: sums of Gram matrices that cannot be ones.

    Source: arXiv:2212.09849, sections 3.2 and 3.3;
    github.com/bloomberg/dataless-model-merging.
    """
    arrays = given.arrays("gram")
    for name, shape in given.entries.items():
        mean = given.mean(name)
        if GRAM + name in arrays:
            average = as_matrix(name, mean).double()
            mean = from_matrix(name, _closest(given, name, average, off_diagonal), shape).float()
        yield name, mean


def extension(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """How the rule is extended to a model with these entries; None where it is the paper's."""
    count = len(convolutions(entries))
    return f"{count} convolutions as matrices of their patches (im2col)" if count else None


def _closest(given: Given, name: str, average: Tensor, factor: float) -> Tensor:
    """W as a matrix (outputs, inputs), float64; solved for is its difference to the mean."""
    gram, moment, diagonal = (given.mean(k + name, "gram") for k in (GRAM, MOMENT, DIAGONAL))
    left = factor * gram.double()
    left.diagonal().copy_(gram.diagonal())
    right = as_matrix(name, factor * moment.double() + (1 - factor) * diagonal.double())
    size = float(left.diagonal().mean())
    if size == 0:
        return average
    for ridge in RIDGES:
        padded = left + ridge * size * torch.eye(len(left), dtype=left.dtype)
        factors, failed = torch.linalg.cholesky_ex(padded)
        if not failed:
            return average + torch.cholesky_solve((right - average @ left).T, factors).T
    raise RunError(
        f"the sum of the Gram matrices of {name} is none: it is not positive definite; "
        "its sums are rounded too coarsely: ask for it without secure-aggregation, or with a lower "
        "clip"
    )
