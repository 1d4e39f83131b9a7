"""The order of units that makes them most alike to others, by linear assignment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def best_orders(similar: Sequence[Tensor], heads: int = 1) -> list[Tensor]:
    """Orders of some sets of units with the greatest sum of similarities, heads kept whole.

    Every pair of heads is matched inside, unit by unit; then heads are matched by what that gave.
    So the sum is the greatest that there is with whole heads. One head is a plain assignment.

    Args:
        similar: of every set, how alike the unit wanted at a place (rows) and each unit (columns)
            are, (units, units); units stand head after head.
        heads: of every set alike.

    Returns:
        Of every set, which unit comes to each place, int64 (units,).

    Example:
        >>> best_orders([torch.tensor([[0.0, 2.0], [1.0, 0.0]])])
        [tensor([1, 0])]
    """
    inside = [_inside(matrix, heads) for matrix in similar]
    gains = torch.stack([gain for gain, _ in inside]).sum(dim=0)
    chosen = _assigned(gains)
    found = []
    for matrix, (_, orders) in zip(similar, inside, strict=True):
        size = len(matrix) // heads
        parts = [c * size + orders[place, c] for place, c in enumerate(chosen.tolist())]
        found.append(torch.cat(parts))
    return found


def total(similar: Tensor, order: Tensor) -> float:
    """The sum of the similarities that an order of units gives.

    Example:
        >>> total(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([1, 0]))
        3.0
    """
    return float(similar.gather(1, order[:, None]).double().sum())


def _inside(similar: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """For every two heads the greatest sum, (heads, heads), and its order, (heads, heads, size)."""
    size = len(similar) // heads
    gains = torch.empty(heads, heads, dtype=torch.float64)
    orders = torch.empty(heads, heads, size, dtype=torch.int64)
    blocks = similar.view(heads, size, heads, size)
    for place in range(heads):
        for head in range(heads):
            block = blocks[place, :, head]
            orders[place, head] = _assigned(block)
            gains[place, head] = total(block, orders[place, head])
    return gains, orders


def _assigned(similar: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # slow to import

    return torch.from_numpy(linear_sum_assignment(similar.numpy(), maximize=True)[1])
