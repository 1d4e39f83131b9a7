"""Attention inside `torch.vmap`: torch's own fused kernels, called once for all samples.

Torch would take its fused kernels apart under `vmap`, or run them sample by sample.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neulig_fl.merging.inference.blockwise import PerSample, all_samples


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Scaled dot-product attention of one sample: query (images, ..., length, dim).

    The arguments are those of `torch.nn.functional.scaled_dot_product_attention`.
    """
    options = (dropout_p, is_causal, scale, enable_gqa)
    return _Attention.apply(query, key, value, attn_mask, options)


class _Attention(PerSample):
    """Torch's own attention, of samples and images together."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Any) -> Any:
        """One sample by itself."""
        return _torchs(q, k, v, mask, options)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Any
    ) -> tuple[Any, int]:
        """Samples and images together are the batch."""
        size, logical = info.batch_size, q.ndim - (in_dims[0] is not None)
        q, k, v = (
            all_samples(t, at, size).flatten(0, 1)
            for t, at in zip((q, k, v), in_dims[:3], strict=True)
        )
        if mask is not None:
            mask = _folded(mask, in_dims[3], size, len(q) // size, logical)
        return _torchs(q, k, v, mask, options).unflatten(0, (size, -1)), 0


def _folded(mask: Tensor, at: int | None, size: int, images: int, logical: int) -> Tensor:
    """A mask for samples and images together; one that neither tells apart stays as it is.

    Args:
        mask: of one sample, or of all with the samples in dimension `at`.
        at: that dimension, or None.
        size: samples.
        images: of each sample.
        logical: dimensions of one sample's query.
    """
    if at is None and (mask.ndim < logical or len(mask) == 1):
        return mask
    each = all_samples(mask, at, size)
    each = each.reshape(size, *[1] * (logical + 1 - each.ndim), *each.shape[1:])
    return each.expand(-1, images, *each.shape[2:]).flatten(0, 1)


def _torchs(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: Any) -> Tensor:
    dropout, causal, scale, gqa = options
    with torch._C.DisableTorchFunction():
        return functional.scaled_dot_product_attention(
            q, k, v, mask, dropout, causal, scale=scale, enable_gqa=gqa
        )
