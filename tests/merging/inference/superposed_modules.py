"""A small module for every covered operation, in several sizes, with the shape of one input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Case = Callable[[int], tuple[nn.Module, tuple[int, ...]]]


class Does(nn.Module):
    """A module of some parts that does what a function says.

    Args:
        does: (this module, input) -> output.
        parts: submodules and parameters, by name.
    """

    def __init__(self, does: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.does = does
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.does(self, x)


class Shifted(nn.Module):
    """A scalar parameter, a float buffer that is saved, one that is not, and an integer."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("shift", torch.randn(3 * n))
        self.register_buffer("scratch", torch.full((3 * n,), 1.5), persistent=False)
        self.register_buffer("count", torch.tensor(2))

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.scale * x + self.shift * self.scratch * self.count


def _attention(n: int, *, mask: bool = False, causal: bool = False, **options: Any) -> nn.Module:
    """Self-attention over rows, or attention to the other half of the rows' entries."""
    dim, other = 4 * n, options.get("kdim", 4 * n)
    allowed = torch.zeros(5, 5).masked_fill(torch.triu(torch.ones(5, 5), 1) > 0, -torch.inf)

    def does(module: Any, x: Tensor) -> Tensor:
        q, k = (x, x) if x.shape[-1] == dim else (x[..., :dim], x[..., dim:])
        asked = {"attn_mask": allowed if mask or causal else None, "is_causal": causal}
        return module.inner(q, k, k, need_weights=False, **asked)[0]

    return Does(does, inner=nn.MultiheadAttention(dim, 2, vdim=other, batch_first=True, **options))


def _head_mask(x: Tensor) -> Tensor:
    """What is added to the scores of each image, head and pair of positions, (len(x), 2, 5, 5)."""
    return torch.linspace(-1.0, 1.0, 50).to(x.dtype).view(1, 2, 5, 5).expand(len(x), -1, -1, -1)


def _weighted(module: Any, x: Tensor) -> Tensor:
    """Attention whose weights are an output, too, with a mask for each image and head."""
    mask = _head_mask(x).flatten(0, 1)
    found, weights = module.inner(x, x, x, need_weights=True, attn_mask=mask)
    return torch.cat([found, weights], dim=-1)


def _masked_by_head(module: Any, x: Tensor) -> Tensor:
    mask = _head_mask(x).flatten(0, 1)
    return module.inner(x, x, x, need_weights=False, attn_mask=mask)[0]


def _scaled(module: Any, x: Tensor) -> Tensor:
    """Attention as timm writes it, with a learned bias for every head and pair of positions."""
    q, k, v = module.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    bias = module.bias[None] if hasattr(module, "bias") else _head_mask(x)
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return module.out(found.transpose(1, 2).flatten(2))


def _scaled_attention(n: int, **parts: Any) -> nn.Module:
    return Does(_scaled, qkv=nn.Linear(4 * n, 12 * n), out=nn.Linear(4 * n, 3), **parts)


def _class_token(module: Any, x: Tensor) -> Tensor:
    """As the older towers put a token before the rows, and add positions to all of them."""
    token = module.token.to(x.dtype) + x.new_zeros(x.shape[0], 1, x.shape[-1])
    rows = torch.cat([token, x], dim=1)
    return rows + module.positions[: rows.shape[1]].to(x.dtype)


def _expanded_token(module: Any, x: Tensor) -> Tensor:
    """As the newer ones do."""
    token = module.token.view(1, 1, -1).expand(x.shape[0], -1, -1)
    return torch.cat([token, x], dim=1) + module.positions[None, : x.shape[1] + 1, :]


def _conv(dims: int, size: int, *args: Any, **options: Any) -> Case:
    """A convolution whose channels grow with n: `args` are (in, out, kernel)."""
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]

    def case(n: int) -> tuple[nn.Module, tuple[int, ...]]:
        inputs, outputs, *kernel = args
        grown = {**options, "groups": options.get("groups", 1)}
        if options.get("groups") == inputs:
            grown["groups"] = n * inputs
        return layer(n * inputs, n * outputs, *kernel, **grown), (n * inputs, *[size] * dims)

    return case


CONVOLUTIONS: dict[str, Case] = {
    "conv1d": _conv(1, 7, 2, 3, 3),
    "conv1d, stride and padding": _conv(1, 7, 2, 3, 3, stride=2, padding=1),
    "conv1d, groups and dilation": _conv(1, 9, 4, 6, 3, groups=2, dilation=2),
    "conv2d": _conv(2, 6, 2, 3, 3),
    "conv2d, stride": _conv(2, 6, 2, 3, 3, stride=2),
    "conv2d, uneven": _conv(2, 6, 2, 3, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
    "conv2d, padding 'same'": _conv(2, 6, 2, 3, 3, padding="same", dilation=2),
    "conv2d, padding 'valid'": _conv(2, 6, 2, 3, 3, padding="valid", stride=2),
    "conv2d, no bias": _conv(2, 6, 2, 3, 3, padding=1, bias=False),
    "conv2d, groups": _conv(2, 6, 4, 6, 3, groups=2, padding=1),
    "conv2d, depthwise": _conv(2, 6, 3, 3, 3, groups=3, padding=1),
    "conv2d, two outputs a channel": _conv(2, 6, 2, 4, 3, groups=2, stride=2),
    "conv2d, pointwise": _conv(2, 5, 3, 4, 1),
    "conv2d, pointwise with stride": _conv(2, 5, 3, 4, 1, stride=2),
    "conv2d, pointwise with padding": _conv(2, 4, 3, 4, 1, padding=1),
    "conv2d, patches": _conv(2, 8, 3, 5, 4, stride=4),
    "conv2d, patches with a rest": _conv(2, 7, 3, 5, 3, stride=3),
    "conv3d": _conv(3, 4, 2, 2, 2),
    "conv3d, stride and padding": _conv(3, 4, 2, 3, 3, stride=2, padding=1),
    "conv3d, pointwise": _conv(3, 3, 2, 3, 1),
    "conv3d, depthwise": _conv(3, 4, 2, 2, 3, groups=2, padding="same"),
}
BATCH_NORMS: dict[str, Case] = {
    "batch norm of vectors": lambda n: (nn.BatchNorm1d(3 * n), (3 * n,)),
    "batch norm of rows": lambda n: (nn.BatchNorm1d(2 * n), (2 * n, 4)),
    "batch norm of maps": lambda n: (nn.BatchNorm2d(2 * n), (2 * n, 3, 3)),
    "batch norm of volumes": lambda n: (nn.BatchNorm3d(n), (n, 2, 3, 2)),
    "batch norm without weights": lambda n: (nn.BatchNorm2d(n, affine=False), (n, 3, 3)),
    "convolution and batch norm": lambda n: (
        nn.Sequential(nn.Conv2d(2, n, 3, bias=False), nn.BatchNorm2d(n), nn.GELU()),
        (2, 6, 6),
    ),
    "instance norm by statistics": lambda n: (
        nn.InstanceNorm2d(2 * n, affine=True, track_running_stats=True),
        (2 * n, 3, 3),
    ),
}
OTHERS: dict[str, Case] = {
    "linear": lambda n: (nn.Linear(2 * n + 1, 3 * n), (2 * n + 1,)),
    "linear of rows": lambda n: (nn.Linear(2 * n + 1, 3 * n), (4, 2 * n + 1)),
    "linear of a grid": lambda n: (nn.Linear(2 * n, 3), (2, 3, 2 * n)),
    "linear, no bias": lambda n: (nn.Linear(2 * n, 5, bias=False), (2 * n,)),
    "mlp": lambda n: (nn.Sequential(nn.Linear(4, 4 * n), nn.GELU(), nn.Linear(4 * n, 3)), (4,)),
    "attention": lambda n: (_attention(n), (5, 4 * n)),
    "attention with a mask": lambda n: (_attention(n, mask=True), (5, 4 * n)),
    "causal attention": lambda n: (_attention(n, causal=True), (5, 4 * n)),
    "attention, no bias": lambda n: (_attention(n, bias=False), (5, 4 * n)),
    "attention to others": lambda n: (_attention(n), (5, 8 * n)),
    "attention, separate projections": lambda n: (_attention(n, kdim=3), (5, 4 * n + 3)),
    "attention, separate, no bias": lambda n: (_attention(n, kdim=3, bias=False), (5, 4 * n + 3)),
    "attention, a mask for each head": lambda n: (
        Does(_masked_by_head, inner=nn.MultiheadAttention(4 * n, 2, batch_first=True)),
        (5, 4 * n),
    ),
    "attention and its weights": lambda n: (
        Does(_weighted, inner=nn.MultiheadAttention(4 * n, 2, batch_first=True)),
        (5, 4 * n),
    ),
    "scaled dot-product attention": lambda n: (_scaled_attention(n), (5, 4 * n)),
    "scaled attention, learned bias": lambda n: (
        _scaled_attention(n, bias=torch.randn(2, 5, 5)),
        (5, 4 * n),
    ),
    "layer norm": lambda n: (nn.LayerNorm(3 * n), (4, 3 * n)),
    "layer norm without weights": lambda n: (
        nn.Sequential(nn.Linear(3, 3 * n), nn.LayerNorm(3 * n, elementwise_affine=False)),
        (4, 3),
    ),
    "group norm": lambda n: (nn.GroupNorm(2, 4 * n), (4 * n, 3, 3)),
    "instance norm": lambda n: (nn.InstanceNorm2d(2 * n, affine=True), (2 * n, 3, 3)),
    "rms norm": lambda n: (nn.RMSNorm(3 * n), (4, 3 * n)),
    "prelu": lambda n: (nn.PReLU(), (3 * n,)),
    "prelu of channels": lambda n: (nn.PReLU(2 * n), (2 * n, 3)),
    "x @ projection": lambda n: (
        Does(lambda m, x: x @ m.projection, projection=torch.randn(2 * n, 3)),
        (4, 2 * n),
    ),
    "addition": lambda n: (Does(lambda m, x: x + m.bias, bias=torch.randn(3 * n)), (4, 3 * n)),
    "layer scale": lambda n: (Does(lambda m, x: x * m.gamma, gamma=torch.ones(3 * n)), (4, 3 * n)),
    "scalar and buffers": lambda n: (Shifted(n), (4, 3 * n)),
    "class token": lambda n: (
        Does(_class_token, token=torch.randn(2 * n), positions=torch.randn(7, 2 * n)),
        (4, 2 * n),
    ),
    "expanded class token": lambda n: (
        Does(_expanded_token, token=torch.randn(2 * n), positions=torch.randn(7, 2 * n)),
        (4, 2 * n),
    ),
    "a module used twice": lambda n: (
        Does(lambda m, x: m.layer(torch.tanh(m.layer(x))), layer=nn.Linear(3 * n, 3 * n)),
        (3 * n,),
    ),
    "a module with two names": lambda n: (_two_names(n), (3 * n,)),
    "a parameter of two modules": lambda n: (_shared(n), (3 * n,)),
    "average pooling of the channels last": lambda n: (
        Does(_pooled, norm=nn.LayerNorm(2 * n), pool=nn.AdaptiveAvgPool2d(1)),
        (2 * n, 3, 3),
    ),
    "dropout": lambda n: (nn.Sequential(nn.Linear(4, 3 * n), nn.Dropout(0.5)), (4,)),
}


def _pooled(module: Any, x: Tensor) -> Tensor:
    """As ConvNeXt ends: a norm over the channels, which are last, then the mean of the map."""
    return module.pool(module.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).square()).flatten(1)


def _two_names(n: int) -> nn.Module:
    layer = nn.Linear(3 * n, 3 * n)
    return Does(lambda m, x: m.two(torch.tanh(m.one(x))), one=layer, two=layer)


def _shared(n: int) -> nn.Module:
    module = nn.Sequential(nn.Linear(3 * n, 3 * n), nn.Tanh(), nn.Linear(3 * n, 3 * n))
    module[2].weight = module[0].weight
    return module


OPERATIONS = {**OTHERS, **CONVOLUTIONS, **BATCH_NORMS}


def made(name: str, size: int = 2) -> tuple[nn.Module, tuple[int, ...]]:
    """The same module, values included, at every call; and the shape of one input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return OPERATIONS[name](size)
