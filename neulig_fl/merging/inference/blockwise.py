"""An operation of all samples at once, each with its own mixture of the experts' weights.

Inside `torch.vmap` an operation sees one sample; `sample_by_sample` gets all of them back, and
hands them to a kernel together with all CoopVecs. Gradients flow to the inputs and the CoopVecs:
the mixed weights are made again, block by block, and never kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor


class Operation(Protocol):
    """A linear map whose matrix is mixed: `Linear` or `Convolution`."""

    def __call__(
        self, x: Tensor, coopvecs: Tensor, experts: Tensor, most: int, bias: Tensor | None = None
    ) -> Tensor:
        """All samples' outputs, (samples, ...), from inputs (samples, ...); bias (samples, n)."""
        ...

    def parts(
        self, x: Tensor, experts: Tensor, most: int
    ) -> Iterator[tuple[slice, tuple[Any, ...], tuple[Any, ...], Tensor]]:
        """Pieces that fit the buffer.

        Each is the samples, what is read of an input, what is added to of an output, and the
        experts' weights, (experts, entries).
        """
        ...

    def biased(self, out: Tensor, bias: Tensor) -> Tensor:
        """Outputs with a bias, (samples, n), added."""
        ...

    def part(self, x: Tensor, coopvecs: Tensor, experts: Tensor) -> Tensor:
        """What one piece adds to the output, by operations that torch can differentiate."""
        ...


def sample_by_sample(
    operation: Operation,
    x: Tensor,
    coopvec: Tensor,
    experts: Tensor,
    most: int,
    bias: Tensor | None = None,
) -> Any:
    """Apply an operation to this sample, inside `torch.vmap`.

    Args:
        operation: what to do.
        x: the sample's input.
        coopvec: its CoopVec, (experts,).
        experts: the weight in every expert, (experts, *shape).
        most: bytes that mixed weights may take at a time.
        bias: what is added to the outputs, one value a channel.
    """
    return _Mixed.apply(operation, x, coopvec, experts, most, bias)


class PerSample(torch.autograd.Function):
    """Leads from one sample's view to all samples' (torch: `vmap` of an autograd function).

    Nothing is kept for gradients: what `vmap` calls on all samples is what is differentiated.
    """

    generate_vmap_rule = False

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Never called: nothing is differentiated at this level."""
        raise NotImplementedError


class _Mixed(PerSample):
    """A kernel, or, where there are gradients, `_Remixed`."""

    @staticmethod
    def forward(
        operation: Operation,
        x: Tensor,
        coopvec: Tensor,
        experts: Tensor,
        most: int,
        bias: Tensor | None,
    ) -> Any:
        """One sample by itself."""
        added = None if bias is None else bias[None]
        return operation(x[None], coopvec[None], experts, most, added)[0]

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        operation: Operation,
        x: Tensor,
        coopvec: Tensor,
        experts: Tensor,
        most: int,
        bias: Tensor | None,
    ) -> tuple[Any, int]:
        """All samples together."""
        size = info.batch_size
        x = all_samples(x, in_dims[1], size)
        coopvecs = all_samples(coopvec, in_dims[2], size)
        bias = None if bias is None else all_samples(bias, in_dims[5], size)
        if not torch.is_grad_enabled() or not (x.requires_grad or coopvecs.requires_grad):
            return operation(x, coopvecs, experts, most, bias), 0
        found = _Remixed.apply(operation, x, coopvecs, experts, most)
        return found if bias is None else operation.biased(found, bias), 0


def all_samples(value: Tensor, dim: int | None, size: int) -> Tensor:
    """All samples' values, the samples first; of a value that they share, as often as need be."""
    return value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)


class _Remixed(torch.autograd.Function):
    """An operation whose mixed weights are made again for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, operation: Operation, x: Tensor, coopvecs: Tensor, experts: Tensor, most: int
    ) -> Tensor:
        """As without gradients."""
        ctx.save_for_backward(x, coopvecs, experts)
        ctx.operation, ctx.most = operation, most
        return operation(x, coopvecs, experts, most)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of inputs and CoopVecs, piece by piece."""
        x, coopvecs, experts = ctx.saved_tensors
        x_grad, coopvecs_grad = torch.zeros_like(x), torch.zeros_like(coopvecs)
        for samples, read, written, weights in ctx.operation.parts(x, experts, ctx.most):
            with torch.enable_grad():
                pieces = x[(samples, *read)], coopvecs[samples]
                inputs = [piece.detach().requires_grad_() for piece in pieces]
                found = ctx.operation.part(*inputs, weights)
            one, two = torch.autograd.grad(found, inputs, grads[0][(samples, *written)])
            x_grad[(samples, *read)] += one
            coopvecs_grad[samples] += two
        return None, x_grad, coopvecs_grad, None, None
