"""The order in which the stack holds a weight matrix: as panels of output rows, each transposed.

A linear layer needs x W^T, block by block of W's rows. Mixing a panel gives W^T's block with the
outputs next to each other, which is the order in which matrix products are fastest for the few rows
(tokens) that one sample has: measured 1.2 to 1.4 times faster than rows in their usual order.

    weight (outputs, inputs)  ->  [panel 0: (inputs, width)] [panel 1: (inputs, width)] ...
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ENTRIES = 768 * 256
"""Entries of a panel: the mixed panels of 16 samples fill what `costs` allows at a time."""
LEAST_WIDTH = 64


def is_panelled(shape: tuple[int, ...]) -> bool:
    """Whether an entry of this shape is held in panels: matrices are."""
    return len(shape) == 2


def widths(shape: tuple[int, ...]) -> Iterator[slice]:
    """Output rows of each panel, of nearly the same number; multiples of 16 but for the last.

    Example:
        >>> [(p.start, p.stop) for p in widths((1000, 768))]
        [(0, 256), (256, 512), (512, 768), (768, 1000)]
    """
    outputs, inputs = shape
    most = max(LEAST_WIDTH, ENTRIES // max(1, inputs))
    count = max(1, -(-outputs // most))
    width = -(-outputs // count)
    width = -(-width // 16) * 16
    for first in range(0, outputs, width):
        yield slice(first, min(outputs, first + width))


def panels(flat: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[slice, Tensor]]:
    """Output rows and the panel, (..., inputs, width), as views of (..., entries)."""
    inputs = shape[1]
    for rows in widths(shape):
        part = flat[..., rows.start * inputs : rows.stop * inputs]
        yield rows, part.unflatten(-1, (inputs, rows.stop - rows.start))


def fold(weight: Tensor, flat: Tensor) -> None:
    """Write a matrix (outputs, inputs) into a flat row as panels."""
    for rows, panel in panels(flat, tuple(weight.shape)):
        panel.copy_(weight[rows].T)


def unfold(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Panels (..., entries) as matrices (..., outputs, inputs) again; a copy if several."""
    parts = [panel.mT for _, panel in panels(flat, shape)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
