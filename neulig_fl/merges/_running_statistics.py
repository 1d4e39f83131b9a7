"""BatchNorm's running statistics where a merge is learnt: their gradients, and a floor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from neulig_fl.superposition.operations import batch_norm


class BatchNormByHand(TorchFunctionMode):
    """Torch's own batch norm has no gradient for its statistics, which are merged too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and batch norm by its formula."""
        return (batch_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))


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
