"""Running variances of merged models: a rule that goes beyond the experts can push them too low."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods._given import Entries

if TYPE_CHECKING:
    from torch import Tensor

VARIANCE = "running_var"


def not_below_zero(entries: Entries) -> Entries:
    """The same entries; BatchNorm's running variances are at least 0.

    Args:
        entries: of a merged model.

    Yields:
        Every entry.

    Example:
        >>> entries = {"bn.running_mean": torch.tensor(-1.0), "bn.running_var": torch.tensor(-1.0)}
        >>> [float(value) for _, value in not_below_zero(iter(entries.items()))]
        [-1.0, 0.0]
    """
    for name, value in entries:
        yield name, value.clamp(min=0) if name.rpartition(".")[2] == VARIANCE else value


def least_variance(own: Tensor, start: Tensor) -> Tensor:
    """What a merged running variance must not fall below: the least of the models'.

    Not falling below 0 would be too little: BatchNorm divides by the root of the variance.

    Args:
        own: the experts' running variances, (experts, channels).
        start: theta_0's, (channels,).

    Example:
        >>> least_variance(torch.tensor([[1.0, 4.0], [3.0, 2.0]]), torch.tensor([2.0, 1.0]))
        tensor([1., 1.])
    """
    return torch.minimum(own.amin(dim=0), start)
