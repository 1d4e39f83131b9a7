"""Batch norm by its formula, for gradients of the running statistics that torch does not have."""

from __future__ import annotations

from typing import Any

from torch.nn import functional
from torch.overrides import TorchFunctionMode

from neulig_fl.merging.inference.operations import batch_norm


class BatchNormByHand(TorchFunctionMode):
    """Torch's own batch norm has no gradient for its statistics, which are merged too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and batch norm by its formula."""
        return (batch_norm if func is functional.batch_norm else func)(*args, **(kwargs or {}))
