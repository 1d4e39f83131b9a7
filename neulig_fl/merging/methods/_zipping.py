"""Zipping: merging the most correlated units of several experts, one pair after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Matrix = NDArray[np.float64]
NOTHING = -np.inf
MOST_EXPERTS = 62
"""The experts that a unit has units of are bits of an int64."""


def zipped(correlation: Tensor, experts: int, alpha: float, beta: float) -> Tensor:
    """Merge the two most correlated units until as many are left as one expert has.

    A merged unit correlates with another as the less correlated of its two did, times alpha. Of
    equally correlated pairs the first is taken. The merges of units that share an expert are
    limited to beta times the expert's share of all merges.

    Args:
        correlation: of all experts' units, the first expert's first, float64 (experts * units,
            experts * units).
        experts: how many.
        alpha: weight of a merged unit's correlations.
        beta: share of an expert's merges that can be within itself.

    Returns:
        Which units (rows) each merged unit (columns) has: 0 or 1, float32 (experts, units, units).

    Example:
        >>> both = torch.tensor([[1.0, 0.1, 0.2, 0.9], [0.1, 1.0, 0.8, 0.3],
        ...                      [0.2, 0.8, 1.0, 0.1], [0.9, 0.3, 0.1, 1.0]])
        >>> zipped(both.double(), experts=2, alpha=0.3, beta=0.0)[1]
        tensor([[0., 1.],
                [1., 0.]])
    """
    zipper = _Zipper(correlation.numpy().copy(), experts, alpha, beta)
    wanted = len(correlation) // experts
    for _ in range(len(correlation) - wanted):
        zipper.merge()
    found = torch.zeros(len(correlation), len(correlation))
    found[torch.arange(len(correlation)), torch.from_numpy(zipper.into)] = 1.0
    return found[:, np.unique(zipper.into)].reshape(experts, wanted, wanted)


class _Zipper:
    """What has been merged so far. A merged unit keeps the place of its first unit.

    Every unit's best partner among those after it is kept, so that a merge looks at few rows.
    """

    def __init__(self, alike: Matrix, experts: int, alpha: float, beta: float) -> None:
        units = len(alike) // experts
        self.alike = alike
        self.alpha = alpha
        self.into = np.arange(len(alike))
        self.has = np.repeat(1 << np.arange(experts), units)  # experts as bits
        share = (len(alike) - units) // experts
        self.budget = np.full(experts, int(share * beta + 1e-4))
        self.closed = _bits(self.budget <= 0)
        self.partner = np.zeros(len(alike), dtype=np.int64)
        self.best = np.full(len(alike), NOTHING)
        np.fill_diagonal(self.alike, NOTHING)
        self._look(np.arange(len(alike)))

    def merge(self) -> None:
        """Merge the most correlated pair that budgets allow."""
        first = int(self.best.argmax())
        if self.best[first] == NOTHING:
            self._end_of_budgets()
            first = int(self.best.argmax())
        second = int(self.partner[first])
        ended = self._count(first, second)
        changed = self._unite(first, second)
        self._look(np.arange(len(self.alike)) if ended else changed)

    def _count(self, first: int, second: int) -> bool:
        """Charge a merge to budgets; whether one of them came to its end."""
        shared = self.has[first] & self.has[second]
        self.budget[(shared >> np.arange(len(self.budget))) & 1 == 1] -= 1
        before, self.closed = self.closed, self.closed | (shared & _bits(self.budget == 0))
        return bool(self.closed != before)

    def _unite(self, first: int, second: int) -> NDArray[np.int64]:
        """Make the second unit a part of the first; which rows have to look for partners anew."""
        row = np.minimum(self.alike[first], self.alike[second])
        finite = np.isfinite(row)
        row[finite] *= self.alpha
        self.alike[first], self.alike[:, first] = row, row
        self.alike[second], self.alike[:, second] = NOTHING, NOTHING
        self.has[first] |= self.has[second]
        self.into[self.into == second] = first
        self.best[second] = NOTHING
        lost = ((self.partner == first) | (self.partner == second)) & finite
        lost[first] = True
        self._offer(first, row)
        return np.flatnonzero(lost)

    def _offer(self, unit: int, row: Matrix) -> None:
        """Make a unit the partner of those before it that correlate more with it than with theirs.

        Those that lose their partner look for one themselves.
        """
        before = slice(0, unit)
        nearer = self.partner[before] > unit
        better = (row[before] > self.best[before]) | ((row[before] == self.best[before]) & nearer)
        better &= np.isfinite(row[before]) & (self.has[before] & self.has[unit] & self.closed == 0)
        self.best[before][better], self.partner[before][better] = row[before][better], unit

    def _look(self, rows: NDArray[np.int64]) -> None:
        """Find the best partners of some units."""
        for row in rows[rows < len(self.alike) - 1]:
            later = self.alike[row, row + 1 :]
            closed = self.has[row] & self.closed
            if closed:
                later = np.where(self.has[row + 1 :] & closed, NOTHING, later)
            place = int(later.argmax())
            self.best[row], self.partner[row] = later[place], row + 1 + place

    def _end_of_budgets(self) -> None:
        self.budget[:] = len(self.alike)
        self.closed = 0
        self._look(np.arange(len(self.alike)))


def _bits(which: NDArray[np.bool_]) -> int:
    return int((which.astype(np.int64) << np.arange(len(which))).sum())
