"""Rules on weight matrices: which entries are matrices, and what is orthogonal and close to one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neulig_fl.gram import convolutions


def matrices(entries: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The entries that rules on matrices take: two-dimensional ones, and convolutions' weights.

    The official codes take every two-dimensional entry of the image encoder: linear layers,
    attention's packed projections as one matrix, the last projection, positions. Convolutions, as
    matrices (outputs, inputs * height * width), are an extension to models with more than one; the
    single convolution of a ViT, its patch embedding, is averaged as in the official codes.

    Args:
        entries: shape of every floating state-dict entry.

    Example:
        >>> matrices({"conv1.weight": (8, 3, 4, 4), "ln.weight": (8,), "proj": (8, 2)})
        ['proj']
    """
    made = convolutions(entries)
    return [name for name, shape in entries.items() if len(shape) == 2 or name in made]


def extended(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """How a rule on matrices is extended to a model; None where it is the paper's."""
    count = len(convolutions(entries))
    what = f"the weights of {count} convolutions as matrices (outputs, inputs * height * width)"
    return f"{what}; the paper's code averages them" if count else None


def orthogonal(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The closest matrix with orthonormal rows or columns, U V' of M = U S V', and S.

    Directions in which the matrix is 0 but for rounding are left out; any vectors could stand for
    them in U and V.

    Args:
        matrix: (rows, columns), float32: what is 0 but for rounding is so for that.

    Returns:
        U V', (rows, columns), and all singular values, the largest first.

    Source: the orthogonal Procrustes problem, https://en.wikipedia.org/wiki/Polar_decomposition.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rounding = values[0] * max(matrix.shape) * torch.finfo(torch.float32).eps
    kept = int((values > rounding).sum())  # the largest come first
    return left[:, :kept] @ right[:kept], values
