"""Rules on weight matrices: which entries are matrices, and what is orthogonal and close to one."""

from __future__ import annotations

import torch
from torch import Tensor


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether rules on matrices take an entry of this shape: the two-dimensional ones.

    These are linear layers, attention's packed projections as one matrix, the last projection and
    positions, as in the official codes, which average all others, convolutions among them.

    Example:
        >>> is_matrix((8, 2)), is_matrix((8, 3, 4, 4)), is_matrix((8,))
        (True, False, False)
    """
    return len(shape) == 2


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
