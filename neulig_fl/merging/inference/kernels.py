"""Multiplications by mixed weights, for all samples of a batch at once.

A weight is mixed in blocks of output rows for several samples: one matrix product of the CoopVecs
(samples, experts) with the experts' rows (experts, entries). The block is multiplied while it is
still in the processor's cache, and the next one takes its place. `costs` says how large a block is,
and which of several ways a convolution goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neulig_fl.merging.inference import costs

Part = tuple[slice, tuple[Any, ...], tuple[Any, ...], Tensor]
CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (
    functional.conv1d,
    functional.conv2d,
    functional.conv3d,
)


def mix(coopvecs: Tensor, experts: Tensor, out: Tensor | None = None) -> Tensor:
    """sum_t beta_t W_t for every sample, added up in float32.

    Args:
        coopvecs: (samples, experts), float32.
        experts: (experts, entries), on any device.
        out: a flat float32 buffer that is large enough.

    Returns:
        (samples, entries), float32.
    """
    experts = experts.to(coopvecs.device, torch.float32)
    if out is not None:
        size = experts.shape[1]
        out = out[: len(coopvecs) * size].view(len(coopvecs), size)
    return torch.mm(coopvecs, experts, out=out)


def steps(total: int, size: int) -> Iterator[slice]:
    """0..total in slices of at most `size`, all of nearly the same length."""
    count = -(-total // max(1, size))
    for first, last in pairwise(total * i // count for i in range(count + 1)):
        yield slice(first, last)


def shared_buffer(x: Tensor, parts: Sequence[Part]) -> Tensor:
    """Memory for the largest part's mixed weights; fresh memory would cost more than mixing."""
    largest = max(len(x[samples]) * weights.shape[1] for samples, *_, weights in parts)
    return torch.empty(largest, device=x.device)


@dataclass(frozen=True)
class Linear:
    """x W^T: x (samples, ..., inputs), W (outputs, inputs) as the stack holds it, transposed.

    Args:
        shape: of W.
    """

    shape: tuple[int, ...]

    def __call__(
        self, x: Tensor, coopvecs: Tensor, experts: Tensor, most: int, bias: Tensor | None = None
    ) -> Tensor:
        """All samples' outputs, (samples, ..., outputs); added up in float32, block by block."""
        outputs, inputs = self.shape
        flat = x.reshape(len(x), -1, inputs)
        out = torch.empty(*flat.shape[:2], outputs, device=x.device)
        if bias is not None:
            out.copy_(bias[:, None])
        parts = list(self.parts(x, experts, most))
        buffer = shared_buffer(x, parts)
        for samples, (_, columns), _, weights in parts:
            each = mix(coopvecs[samples], weights, buffer).unflatten(1, (-1, outputs))
            add_to = float(columns.start > 0 or bias is not None)
            _add_product(out[samples], flat[samples, :, columns], each, add_to)
        whole: Tensor = out.to(x.dtype).view(*x.shape[:-1], outputs)
        return whole

    def biased(self, out: Tensor, bias: Tensor) -> Tensor:
        """Outputs with a bias, (samples, outputs), added."""
        return out + bias.view(len(bias), *[1] * (out.ndim - 2), -1)

    def parts(self, x: Tensor, experts: Tensor, most: int) -> Iterator[Part]:
        """Blocks of inputs, for some samples at a time; each adds to the whole output.

        All blocks of some samples come before the next samples: the output to which they add is
        larger than the experts' weights that are read again.
        """
        outputs, inputs = self.shape
        columns = costs.inputs_at_once(outputs, inputs)
        for samples in steps(len(x), costs.samples_at_once(columns * outputs, most)):
            for part in steps(inputs, columns):
                weights = experts[:, part.start * outputs : part.stop * outputs]
                yield samples, (..., part), (), weights

    def part(self, x: Tensor, coopvecs: Tensor, experts: Tensor) -> Tensor:
        """What one block of inputs adds to the outputs."""
        each = mix(coopvecs, experts).to(x.dtype).unflatten(1, (-1, self.shape[0]))
        flat = x.reshape(len(x), -1, x.shape[-1])
        found: Tensor = (flat @ each).view(*x.shape[:-1], -1)
        return found


def _add_product(out: Tensor, x: Tensor, weights: Tensor, scale: float) -> None:
    """Add products of each sample to scale times the output; `out` and `weights` are float32."""
    if x.dtype == torch.float32:
        out.baddbmm_(x, weights, beta=scale)
    else:
        product = x @ weights.to(x.dtype)
        torch.add(product, out, alpha=scale, out=out) if scale else out.copy_(product)


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias: x (samples, images, channels, *size).

    Args:
        shape: of the weight, (outputs, channels of a group, *kernel).
        stride: of each spatial dimension.
        padding: zeros on both sides of each.
        dilation: of each.
        groups: of channels.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def entries(self) -> int:
        """Entries of the weight."""
        return math.prod(self.shape)

    @property
    def pointwise(self) -> bool:
        """Whether every output position reads one input position."""
        return math.prod(self.shape[2:]) == 1 and not any(self.padding)

    def __call__(
        self, x: Tensor, coopvecs: Tensor, experts: Tensor, most: int, bias: Tensor | None = None
    ) -> Tensor:
        """All samples' outputs, (samples, images, outputs, *size)."""
        size = self.size(tuple(x.shape[3:]))
        way = costs.way(self, x.shape[1] * math.prod(size), x.is_cuda)
        out = x.new_empty(*x.shape[:2], self.shape[0], *size)
        columns = self._columns(x) if way == "columns" else x
        blocks = list(self._blocks(x, experts, most, way))
        buffer = shared_buffer(x, blocks)
        for samples, _, place, weights in blocks:
            each = mix(coopvecs[samples], weights, buffer).to(x.dtype)
            if way == "columns":
                found = self._multiplied(each, columns[samples], x.shape[1], size)
            else:
                each = each.unflatten(1, (-1, *self.shape[1:]))
                found = (self._grouped if way == "grouped" else self._single)(x[samples], each)
            out[(samples, *place)] = found
        return out if bias is None else self.biased(out, bias)

    def biased(self, out: Tensor, bias: Tensor) -> Tensor:
        """Outputs with a bias, (samples, outputs), added."""
        return out + bias.view(len(bias), 1, -1, *[1] * (out.ndim - 3))

    def parts(self, x: Tensor, experts: Tensor, most: int) -> Iterator[Part]:
        """Pieces for the gradients: some samples, all output channels."""
        return self._blocks(x, experts, most, "grouped")

    def part(self, x: Tensor, coopvecs: Tensor, experts: Tensor) -> Tensor:
        """One piece, as a grouped convolution."""
        each = mix(coopvecs, experts).to(x.dtype)
        return self._grouped(x, each.unflatten(1, (-1, *self.shape[1:])))

    def size(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """The output's spatial size."""
        kernel = self.shape[2:]
        options = zip(before, kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in options)

    def _blocks(self, x: Tensor, experts: Tensor, most: int, way: str) -> Iterator[Part]:
        """Samples and output channels that are mixed at a time; columns can be cut in channels."""
        each = math.prod(self.shape[1:])
        channels = (
            costs.channels_at_once(each, self.shape[0]) if way == "columns" else self.shape[0]
        )
        for rows in steps(self.shape[0], channels):
            part = experts[:, rows.start * each : rows.stop * each]
            for samples in steps(len(x), costs.samples_at_once(part.shape[1], most)):
                yield samples, (), (slice(None), rows), part

    def _plain(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        plain = CONVOLUTIONS[len(self.shape) - 3]
        return plain(x, weight, None, self.stride, self.padding, self.dilation, groups)

    def _grouped(self, x: Tensor, weights: Tensor) -> Tensor:
        """All samples in one convolution, as groups of channels."""
        beside = x.transpose(0, 1).flatten(1, 2)
        found = self._plain(beside, weights.flatten(0, 1), self.groups * len(x))
        apart: Tensor = found.unflatten(1, (len(x), -1))
        return apart.transpose(0, 1)

    def _single(self, x: Tensor, weights: Tensor) -> Tensor:
        """One sample after the other."""
        pairs = zip(x, weights, strict=True)
        return torch.stack([self._plain(image, kernel, self.groups) for image, kernel in pairs])

    def _columns(self, x: Tensor) -> Tensor:
        """What each output position reads, (samples, channels * kernel, images * positions).

        Padded with zeros to a multiple of 8 positions, for which matrix products are fastest.
        """
        if self.pointwise:
            places: tuple[Any, ...] = (..., *(slice(None, None, s) for s in self.stride))
            found = x[places].flatten(3).transpose(1, 2).flatten(2)
        else:
            options = (self.shape[2:], self.dilation, self.padding, self.stride)
            found = functional.unfold(x.flatten(0, 1), *options)
            found = found.unflatten(0, x.shape[:2]).transpose(1, 2).flatten(2)
        return functional.pad(found, (0, -found.shape[2] % 8))

    def _multiplied(
        self, weights: Tensor, columns: Tensor, images: int, size: tuple[int, ...]
    ) -> Tensor:
        """The outputs (samples, images, channels, *size) as a matrix product."""
        found = weights.unflatten(1, (-1, columns.shape[1])) @ columns
        found = found[:, :, : images * math.prod(size)]
        apart: Tensor = found.unflatten(2, (images, *size))
        return apart.transpose(1, 2)
