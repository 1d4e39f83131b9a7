"""What a mixture does in each operation that models apply to parameters.

Three kinds, all exact:

- large weights that are multiplied (`linear`, `conv`, attention's projections) are mixed and
  multiplied block by block, for all samples at once;
- `batch_norm` becomes one multiplication and one addition for each channel and sample;
- small parameters in `WHOLE` operations are mixed first, and torch does the rest.

Everything else is refused by `Mixture`, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from neulig_fl.merging.inference.attention import attention
from neulig_fl.merging.inference.blockwise import Operation, sample_by_sample
from neulig_fl.merging.inference.kernels import CONVOLUTIONS, Convolution, Linear
from neulig_fl.merging.inference.mixture import RULES, Mixture, NotCovered, Rule, mixed


def rule(*funcs: Any) -> Callable[[Any], Any]:
    """Make a function the rule of some torch functions."""

    def register(found: Any) -> Any:
        RULES.update(dict.fromkeys(funcs, found))
        return found

    return register


def _apply(operation: Operation, x: Any, weight: Mixture, bias: Any) -> Tensor:
    now = weight.evaluation
    found: Tensor = sample_by_sample(
        operation, mixed(x), now.coopvec, weight.experts, now.buffer_bytes, mixed(bias)
    )
    return found


# ---------------------------------------------------------------- multiplied, block by block


@rule(functional.linear)
def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """A linear layer, x W^T + b."""
    if not isinstance(weight, Mixture):
        return functional.linear(mixed(input), weight, mixed(bias))
    return _apply(Linear(tuple(weight.shape)), input, weight, bias)


def _convolution(
    dims: int,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    if not isinstance(weight, Mixture):
        options = (stride, padding, dilation, groups)
        return CONVOLUTIONS[dims - 1](mixed(input), weight, mixed(bias), *options)
    each = Convolution(
        tuple(weight.shape), _each(stride, dims), _padding(padding, dims, weight, dilation),
        _each(dilation, dims), groups,
    )  # fmt: skip
    return _apply(each, input, weight, bias)


for _dims, _function in enumerate((torch.conv1d, torch.conv2d, torch.conv3d), start=1):
    rule(_function)(partial(_convolution, _dims))


def _each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    return (value,) * dims if isinstance(value, int) else tuple(value) * (dims // len(value))


def _padding(
    padding: str | int | Sequence[int],
    dims: int,
    weight: Mixture,
    dilation: int | Sequence[int],
) -> tuple[int, ...]:
    """Zeros on both sides of each dimension.

    Raises:
        NotCovered: `same` needs more zeros on one side than on the other.
    """
    if not isinstance(padding, str):
        return _each(padding, dims)
    if padding == "valid":
        return (0,) * dims
    spans = [d * (k - 1) for k, d in zip(weight.shape[2:], _each(dilation, dims), strict=True)]
    if any(span % 2 for span in spans):
        raise NotCovered(f"conv{dims}d of {weight.entry} with padding 'same' and an even kernel")
    return tuple(span // 2 for span in spans)


@rule(functional.multi_head_attention_forward)
def multi_head_attention(
    query: Any, key: Any, value: Any, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Any, in_proj_bias: Any, bias_k: Any, bias_v: Any, add_zero_attn: bool,
    dropout_p: float, out_proj_weight: Any, out_proj_bias: Any, training: bool = True,
    key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Scaled dot-product attention with packed or separate projections; (length, batch, dim)."""
    refused = {
        "bias_k and bias_v": bias_k is not None or bias_v is not None,
        "add_zero_attn": add_zero_attn,
        "static keys or values": static_k is not None or static_v is not None,
        "key_padding_mask": key_padding_mask is not None,
        "dropout": training and dropout_p > 0.0,
        "an input without a batch": query.ndim != 3,
    }
    for what, asked in refused.items():
        if asked:
            raise NotCovered(f"multi-head attention with {what}")
    query, key, value, bias = mixed(query), mixed(key), mixed(value), mixed(in_proj_bias)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        projected = [
            linear(*each) for each in zip((query, key, value), weights, biases, strict=True)
        ]
    elif query is key and key is value:
        projected = list(linear(query, in_proj_weight, bias).chunk(3, dim=-1))
    else:
        # Each input through the packed projection, of which it needs a third.
        every = [
            linear(each, in_proj_weight, bias).chunk(3, dim=-1) for each in (query, key, value)
        ]
        projected = [every[i][i] for i in range(3)]
    q, k, v = (p.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3) for p in projected)
    mask = None if attn_mask is None else _added(attn_mask, q)
    shares: Tensor | None = None
    if need_weights:
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        shares = (scores if mask is None else scores + mask).softmax(dim=-1)
        found = shares @ v
        shares = shares.mean(dim=1) if average_attn_weights else shares
    else:
        found = attention(q, k, v, mask, is_causal=is_causal and mask is None)
    return linear(found.permute(2, 0, 1, 3).flatten(2), out_proj_weight, out_proj_bias), shares


def _added(mask: Tensor, q: Tensor) -> Tensor:
    """A mask as what is added to the scores; as a boolean it says what is left out."""
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(mask, -torch.inf)
    apart: Tensor = mask.unflatten(0, q.shape[:2]) if mask.ndim == 3 else mask
    return apart


# ---------------------------------------------------------------- batch norm


@rule(functional.batch_norm)
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, as x * scale + shift.

    In training mode mean and variance are those of this sample's images, and are written down.
    """
    x = mixed(input)
    if training:
        mean, var = _estimated(x, running_mean, running_var)
    else:
        mean, var = mixed(running_mean), mixed(running_var)
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * mixed(weight)
    shift = -mean * scale if bias is None else mixed(bias) - mean * scale
    shape = (-1, *[1] * (input.ndim - 2))
    return torch.addcmul(shift.view(shape), x, scale.view(shape))


def _estimated(x: Tensor, running_mean: Any, running_var: Any) -> tuple[Tensor, Tensor]:
    """Mean and variance over images and positions; the running variance is the unbiased one."""
    if not isinstance(running_mean, Mixture) or not isinstance(running_var, Mixture):
        raise NotCovered("batch_norm in training mode without running statistics")
    over, count = [0, *range(2, x.ndim)], x.numel() // x.shape[1]
    mean, var = x.mean(dim=over), x.var(dim=over, unbiased=False)
    statistics = running_mean.evaluation.statistics
    statistics[running_mean.entry] = mean
    statistics[running_var.entry] = var * (count / (count - 1))
    return mean, var


@rule(functional.instance_norm)
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """By each image's own statistics, or, as batch norm, by running ones."""
    if use_input_stats:
        affine = (mixed(weight), mixed(bias))
        return functional.instance_norm(mixed(input), None, None, *affine, eps=eps)
    running = (running_mean, running_var, weight, bias)
    found: Tensor = batch_norm(input, *running, False, momentum, eps)
    return found


# ---------------------------------------------------------------- layer norm


@rule(functional.layer_norm)
def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Normalised, then times weight plus bias in one go."""
    found: Tensor = functional.layer_norm(mixed(input), normalized_shape, None, None, eps)
    if weight is None:
        return found if bias is None else found + mixed(bias)
    if bias is None:
        scaled: Tensor = found * mixed(weight)
        return scaled
    return torch.addcmul(mixed(bias), found, mixed(weight))


# ---------------------------------------------------------------- mixed first

_METHODS = """
    __add__ __radd__ add sub __sub__ __rsub__ mul __mul__ __rmul__ div __truediv__ __rtruediv__
    true_divide neg __neg__ pow __pow__ exp log sqrt rsqrt abs sigmoid tanh softmax clamp
    to type_as float half bfloat16 clone contiguous detach
    view reshape flatten unflatten unsqueeze squeeze expand expand_as repeat permute transpose t
    chunk split unbind select narrow __getitem__ mean sum norm
    matmul mm __matmul__ __rmatmul__
"""
_FUNCTIONS = """
    add sub mul div neg pow exp log sqrt rsqrt abs sigmoid tanh softmax clamp
    cat stack concat reshape flatten unflatten unsqueeze squeeze permute transpose t chunk split
    addcmul where tile broadcast_to matmul mm
"""
WHOLE = [
    *(getattr(torch.Tensor, name) for name in _METHODS.split()),
    *(getattr(torch, name) for name in _FUNCTIONS.split()),
    *(getattr(torch.Tensor, name).__get__ for name in ("T", "mT")),
    functional.group_norm,
    functional.rms_norm,
    functional.prelu,
    functional.softplus,
    functional.normalize,
]
"""Operations in which a parameter is mixed first; its values for all samples fit the buffer."""


def _mixed_first(func: Any) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        return func(*(mixed(a) for a in args), **{k: mixed(v) for k, v in kwargs.items()})

    return called


@rule(functional.scaled_dot_product_attention)
def scaled_dot_product(*args: Any, **kwargs: Any) -> Any:
    """Attention of parameters themselves, such as learnt queries."""
    return attention(*(mixed(a) for a in args), **{k: mixed(v) for k, v in kwargs.items()})


for _func in WHOLE:
    RULES.setdefault(_func, _mixed_first(_func))


# ---------------------------------------------------------------- without mixtures


def _average_pool(x: Tensor, output_size: Any) -> Tensor:
    """Torch's own way to a single value keeps the memory's order, which `vmap` does not know."""
    if output_size in (1, (1, 1), [1, 1]):
        return x.mean(dim=(-2, -1), keepdim=True)
    return functional.adaptive_avg_pool2d(x, output_size)


class Unweighted(TorchFunctionMode):
    """While it is on, operations that `vmap` would take apart go their own way on plain tensors."""

    WAYS: ClassVar[dict[Any, Rule]] = {
        functional.scaled_dot_product_attention: attention,
        functional.multi_head_attention_forward: multi_head_attention,
        functional.adaptive_avg_pool2d: _average_pool,
    }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked."""
        return self.WAYS.get(func, func)(*args, **(kwargs or {}))
