"""Near-equal CoopVecs made equal, so that their queries share a merged network: an opt-in."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

RESOLUTION = 2.0**-24
"""The step between float32 numbers just below 1; a smaller tolerance is none."""


def grouped(coopvecs: Tensor, tolerance: float) -> Tensor:
    """Representatives: CoopVecs of one cell of a grid are replaced by their mean.

    With n = ceil(1 / tolerance), the cell of a CoopVec is c_t(beta) = floor(n beta_t + 1/2) for
    every expert t. Queries p and q of one cell have |beta_pt - beta_qt| < 1/n <= tolerance, and

        r_q = mean of beta_p over all queries p with c(beta_p) = c(beta_q)

    lies between them. So no entry moves by more than the tolerance, and a mean of rows that sum to
    1 does too. Near-equal CoopVecs on two sides of a cell's border stay apart; weights of 0 and 1,
    where most of them are, stand in the middle of a cell.

    The order of the queries does not matter, not even to rounding: sums are taken over the
    different CoopVecs in ascending order. A CoopVec that is alone in its cell stays what it is.

    Args:
        coopvecs: float32 (queries, experts), entries from 0 to 1.
        tolerance: the most that an entry may move by, below 1; 0 returns the argument itself.

    Returns:
        (queries, experts), rows of one cell equal to the last bit.

    Example:
        >>> beta = torch.tensor([[1.0, 0.0], [0.96, 0.04], [0.5, 0.5]])
        >>> grouped(beta, 0.1)
        tensor([[0.9800, 0.0200],
                [0.9800, 0.0200],
                [0.5000, 0.5000]])
    """
    if tolerance < RESOLUTION or not len(coopvecs):
        return coopvecs
    unique, row_of, counts = torch.unique(coopvecs, dim=0, return_inverse=True, return_counts=True)
    steps = math.ceil(1 / Fraction(tolerance))
    places = torch.floor(unique.double() * steps + 0.5)  # exact: 24 bits times at most 25, in 53
    cells, cell_of = torch.unique(places, dim=0, return_inverse=True)
    sums = torch.zeros_like(cells).index_add_(0, cell_of, unique.double() * counts[:, None])
    sizes = cells.new_zeros(len(cells)).index_add_(0, cell_of, counts.double())
    means = (sums / sizes[:, None]).to(coopvecs.dtype)
    found: Tensor = means[cell_of[row_of]]
    return found
