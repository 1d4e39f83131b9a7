"""Rules on weight matrices: which entries are matrices, and what is orthogonal and close to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


NOTHING = 1e-10
"""Share of the largest singular value up to which one counts as 0."""


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether rules on matrices take an entry of this shape: the two-dimensional ones.

    These are linear layers, attention's packed projections as one matrix, the last projection and
    positions, as in the official codes, which average all others, convolutions among them. The
    official codes average a two-dimensional `text_projection` too; an image encoder has none. One
    without numbers has no singular values.

    Example:
        >>> is_matrix((8, 2)), is_matrix((8, 3, 4, 4)), is_matrix((8,)), is_matrix((0, 2))
        (True, False, False, False)
    """
    return len(shape) == 2 and min(shape) > 0


def factors(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and V' of M = U S V'; U V' is the closest matrix with orthonormal rows or columns.

    A direction in which M is 0 has no singular vectors of its own: any could stand for it in U and
    V, and LAPACK gives some. It is left out, so that U V' is 0 there. It counts as 0 where its
    singular value is at most 1e-10 of the largest: float64 leaves about 1e-16 of a 0, and numbers
    that were float32 resolve 1e-7.

    Args:
        matrix: (rows, columns), float64.

    Returns:
        U, (rows, directions), all singular values, the largest first, and V', (directions,
        columns).

    Example:
        >>> left, values, right = factors(torch.tensor([[0.0, 4.0], [0.0, 0.0]]).double())
        >>> (left @ right).tolist(), values.tolist()
        ([[0.0, 1.0], [0.0, 0.0]], [4.0, 0.0])

    Source: the orthogonal Procrustes problem, https://en.wikipedia.org/wiki/Polar_decomposition.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = int((values > NOTHING * values[0]).sum())  # the largest come first
    return left[:, :kept], values, right[:kept]
