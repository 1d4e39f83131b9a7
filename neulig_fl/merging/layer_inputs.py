"""What a model's parameters multiply: the inputs of each, summed up while the model runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from neulig_fl.core.errors import NotCovered
from neulig_fl.merging.inference.operations import multi_head_attention


class InputProducts(TorchFunctionMode):
    """Sums x x' over all the inputs that are multiplied by some parameters while it is on.

    It keeps the sums and no input. `products` has them by entry, (inputs, inputs), float64, and
    `rows` how many inputs there were. A product of one call is float32.

    Args:
        parameters: by the entry's name; known again by their identity.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in parameters.items()}
        self.products: dict[str, Tensor] = {}
        self.rows: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and look at the inputs of what is multiplied."""
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            return self._attention(args, kwargs)
        inputs = _INPUTS.get(func)
        name = self._names.get(id(_second(args, kwargs)))
        if inputs is not None and name is not None:
            self._add(name, inputs(name, *args, **kwargs))
        return func(*args, **kwargs)

    def _attention(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Attention written out, so that its projections' inputs are seen one by one."""
        said = inspect.signature(multi_head_attention).bind(*args, **kwargs).arguments
        packed = self._names.get(id(said["in_proj_weight"]))
        if packed and not said["query"] is said["key"] is said["value"]:
            raise NotCovered(f"{packed} multiplies queries and keys that differ")
        with self:
            return multi_head_attention(*args, **kwargs)

    def _add(self, name: str, inputs: Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        product = (rows.T @ rows).double()
        self.products[name] = self.products[name] + product if name in self.products else product
        self.rows[name] = self.rows.get(name, 0) + len(rows)


def _second(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The second argument, by which inputs are multiplied in every function of `_INPUTS`."""
    return args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("other"))


def _of_linear(name: str, input: Tensor, weight: Tensor, bias: Any = None) -> Tensor:  # noqa: ARG001
    return input


def _of_matmul(name: str, input: Tensor, other: Tensor) -> Tensor:  # noqa: ARG001
    return input


def _of_convolution(
    name: str,
    input: Tensor,
    weight: Tensor,
    bias: Any = None,  # noqa: ARG001
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Every patch that the convolution sees, (images, patches, channels * height * width)."""
    if groups > 1 or isinstance(padding, str):
        what = f"{groups} groups" if groups > 1 else f"padding {padding!r}"
        raise NotCovered(f"{name} is a convolution with {what}")
    patches = functional.unfold(input, tuple(weight.shape[2:]), dilation, padding, stride)
    return patches.transpose(1, 2)


_INPUTS: dict[Any, Callable[..., Tensor]] = {
    functional.linear: _of_linear,
    torch.conv2d: _of_convolution,
    torch.matmul: _of_matmul,
    torch.Tensor.matmul: _of_matmul,
    torch.Tensor.__matmul__: _of_matmul,
}
"""The inputs that each function multiplies, (..., inputs), from its own arguments."""
