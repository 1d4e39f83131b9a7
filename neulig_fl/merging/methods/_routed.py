"""Layers whose weights are mixed anew for every sample: theta_0 + sum_t r_t(h) tau_t.

They are linear in their weights, so that none are written out for a sample: for y = x W^T,

    y = x W_0^T + sum_t r_t x tau_t^T

is one product with all weights beside each other. Mixed is the narrower side of the layer, its
inputs or its outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Stack = Callable[[str], Tensor]
"""From an entry's name inside of a block to theta_0's value and the task vectors, (1 + T, ...)."""


@dataclass
class Route:
    """What a block's router says of the batch that is just running.

    Args:
        factors: 1 and every r_t, (samples, 1 + T); empty while nothing runs.
    """

    factors: Tensor = field(default_factory=partial(torch.empty, 0, 0))


class Router(nn.Module):
    """r(h): two layers, with ReLU between them, at every position; then the mean over positions.

    Args:
        width: of the hidden states.
        experts: how many weights it gives.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.first = nn.utils.skip_init(nn.Linear, width, width)
        self.last = nn.utils.skip_init(nn.Linear, width, experts)

    def forward(self, states: Tensor) -> Tensor:
        """The weights, (samples, experts), of (samples, positions, width) or (samples, width, ...).

        The mean stands before the last layer, which is linear.
        """
        positions = states.flatten(2).mT if states.ndim > 3 else states
        active = functional.relu(self.first(positions)).mean(dim=1)
        found: Tensor = self.last(active)
        return found


class RoutedBlock(nn.Module):
    """A block that asks its router before it runs.

    Args:
        block: the block; its layers are replaced by routed ones.
        router: reads the block's input.
        stack: the weights.
        batch_first: whether a sequence's first dimension counts samples, and not positions.
    """

    def __init__(
        self, block: nn.Module, router: Router, stack: Stack, batch_first: bool = True
    ) -> None:
        super().__init__()
        self.block, self.router = block, router
        self.route = Route()
        self.batch_first = batch_first
        _replace(block, stack, self.route)

    def forward(self, states: Tensor) -> Tensor:
        """What the block, with each sample's own weights, makes of its states."""
        states = states if self.batch_first else states.transpose(0, 1)
        weights = self.router(states)
        self.route.factors = torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)
        found: Tensor = self.block(states)
        # A batch's gradients hang on it, and a model that holds them cannot be copied.
        self.route.factors = torch.empty(0, 0)
        return found if self.batch_first else found.transpose(0, 1)


class _Product(nn.Module):
    """A layer that multiplies its input by a weight.

    Args:
        layer: what it replaces.
        stack: that layer's weights.
        route: the block's.
    """

    SPREAD: ClassVar[str]
    JOINED: ClassVar[tuple[int, int]]
    GATHER: ClassVar[str]
    CHANNELS: ClassVar[int]
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Module, stack: Stack, route: Route) -> None:
        super().__init__()
        weights = stack("weight")
        self.narrow_inputs = weights.shape[2] <= weights.shape[1]
        beside = (
            weights.transpose(0, 1).flatten(1, 2) if self.narrow_inputs else weights.flatten(0, 1)
        )
        self.register_buffer("weight", beside.contiguous())
        self.register_buffer("bias", None if layer.bias is None else stack("bias"))
        self.route = route

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of each sample's own weights."""
        factors = self.route.factors
        if self.narrow_inputs:
            spread = torch.einsum(self.SPREAD, factors, x)
            found = self.plain(spread.flatten(*self.JOINED))
        else:
            each = self.plain(x).unflatten(self.CHANNELS, (factors.shape[1], -1))
            found = torch.einsum(self.GATHER, factors, each)
        if self.bias is None:
            return found
        shape = [len(x), *[1] * (x.ndim - 1)]
        shape[self.CHANNELS] = -1
        return found + (factors @ self.bias).view(shape)

    def plain(self, x: Tensor) -> Tensor:
        """The layer itself, with all weights beside each other and without a bias."""
        raise NotImplementedError


class _RoutedLinear(_Product):
    """A linear layer of inputs (samples, ..., inputs)."""

    SPREAD, JOINED = "nt,n...i->n...ti", (-2, -1)
    GATHER, CHANNELS = "nt,n...to->n...o", -1

    @staticmethod
    def fits(layer: nn.Linear) -> bool:  # noqa: ARG004
        """Every linear layer can be routed."""
        return True

    def plain(self, x: Tensor) -> Tensor:
        """The multiplication."""
        return functional.linear(x, self.weight)


class _RoutedConvolution(_Product):
    """A 1x1 convolution of inputs (samples, channels, height, width)."""

    SPREAD, JOINED = "nt,nchw->ntchw", (1, 2)
    GATHER, CHANNELS = "nt,ntchw->nchw", 1

    def __init__(self, layer: nn.Conv2d, stack: Stack, route: Route) -> None:
        super().__init__(layer, stack, route)
        self.stride: Any = layer.stride

    @staticmethod
    def fits(layer: nn.Conv2d) -> bool:
        """One that is a linear layer at every position, and so counterpart of an MLP's."""
        return layer.kernel_size == (1, 1) and layer.groups == 1 and layer.padding == (0, 0)

    def plain(self, x: Tensor) -> Tensor:
        """The convolution."""
        return functional.conv2d(x, self.weight, None, self.stride)


def _replace(block: nn.Module, stack: Stack, route: Route) -> None:
    """Put routed layers where a block's own are; layers of other kinds stay as they are."""
    for name, layer in list(block.named_modules()):
        # A subclass may do more than its base; it is left alone.
        kind = KINDS.get(type(layer))
        if kind is not None and kind.fits(layer):
            parent, _, last = name.rpartition(".")
            inside = partial(_inside, stack, name)
            setattr(block.get_submodule(parent), last, kind(layer, inside, route))


KINDS: dict[type[nn.Module], Any] = {
    nn.Linear: _RoutedLinear,
    nn.Conv2d: _RoutedConvolution,
}


def _inside(stack: Stack, layer: str, entry: str) -> Tensor:
    return stack(f"{layer}.{entry}")
