"""A parameter that is another one for every sample: sum_t beta_t theta_t, never written out whole.

`Mixture` stands in a module where a parameter was. It has the parameter's shape and dtype, and it
answers the operations that models apply to parameters. Large weights of linear layers,
convolutions and attention are mixed block by block where they are multiplied (`kernels`); small
ones (biases, norms, positions) are mixed whole and go on as ordinary tensors.

Everything runs under `torch.vmap` over the samples: the model sees one sample and one CoopVec, and
torch keeps track of which dimension of an activation counts samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neulig_fl.core.errors import NotCovered as NotCovered
from neulig_fl.merging.inference.layout import laid_out


@dataclass
class Evaluation:
    """One batch's evaluation.

    Args:
        samples: how many samples run at once.
        buffer_bytes: the most that mixed weights may take at a time.
        coopvec: the CoopVec of the sample, (experts,), inside `torch.vmap`; all samples' to it.
        operation: what is done with a mixture just now, for errors.
        statistics: those of BatchNorm layers that estimate them, by entry; filled as they run.
    """

    samples: int
    buffer_bytes: int
    coopvec: Tensor
    operation: str = ""
    statistics: dict[str, Tensor] = field(default_factory=dict)


Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
"""What is done for a torch function that has its own way with mixtures; filled by `operations`."""

_PROPERTIES = "shape dtype device ndim requires_grad layout is_cuda is_meta is_nested grad_fn"
_METHODS = "size dim numel is_floating_point is_complex stride is_contiguous __len__"
METADATA = {getattr(torch.Tensor, name).__get__ for name in _PROPERTIES.split()} | {
    getattr(torch.Tensor, name) for name in _METHODS.split()
}
"""What is the same for a mixture and for the parameter that it stands for."""


class Mixture(torch.Tensor):
    """The values of one entry in T experts, to be mixed by the CoopVec of each sample.

    Args:
        entry: the entry's name in the state dict.
        experts: its values, (T, numel), as the stack holds them; a view.
        shape: of the parameter that it stands for.
        dtype: of that parameter.
        evaluation: what it is a part of.
    """

    entry: str
    experts: Tensor
    evaluation: Evaluation

    @staticmethod
    def __new__(
        cls,
        entry: str,
        experts: Tensor,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        evaluation: Evaluation,
    ) -> Mixture:
        """A tensor with the parameter's shape and no memory."""
        self: Mixture = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=evaluation.coopvec.device
        )
        self.entry, self.experts, self.evaluation = entry, experts, evaluation
        return self

    def __repr__(self) -> str:  # type: ignore[override]
        """What it is, without its values."""
        return f"Mixture({self.entry}, {tuple(self.shape)}, of {len(self.experts)})"

    def whole(self) -> Tensor:
        """The mixed values of this sample, (*shape).

        Raises:
            NotCovered: those of all samples are more than the buffer holds.
        """
        now = self.evaluation
        if 4 * self.numel() * now.samples > now.buffer_bytes:
            raise NotCovered(
                f"{now.operation} of {self.entry}, which of shape {tuple(self.shape)} would have "
                f"to be mixed as a whole for {now.samples} samples, and does not fit into "
                f"{now.buffer_bytes / 2**20:.0f} MiB; raise merging.buffer_mib"
            )
        experts = self.experts.to(self.evaluation.coopvec.device, torch.float32)
        flat = self.evaluation.coopvec @ experts
        return laid_out(flat, tuple(self.shape)).to(self.dtype)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what the model asked for, or say that it cannot be done."""
        kwargs = kwargs or {}
        if func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is None:
            raise NotCovered(f"{_called(func)} of {', '.join(_entries((args, kwargs)))}")
        for mixture in _mixtures((args, kwargs)):
            mixture.evaluation.operation = _called(func)
        return rule(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub has no `func`
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Nothing may reach the memory that a mixture does not have."""
        raise NotCovered(f"{func} of {', '.join(_entries((args, kwargs)))}")


def mixed(value: Any) -> Any:
    """A value with every mixture in it replaced by the sample's own values."""
    if isinstance(value, Mixture):
        return value.whole()
    if isinstance(value, (list, tuple)) and any(isinstance(each, Mixture) for each in value):
        return type(value)(mixed(each) for each in value)
    return value


def _called(func: Any) -> str:
    return str(getattr(func, "__qualname__", None) or getattr(func, "__name__", None) or func)


def _entries(value: Any) -> list[str]:
    """Names of the entries of the mixtures in a call's arguments."""
    return [mixture.entry for mixture in _mixtures(value)]


def _mixtures(value: Any) -> list[Mixture]:
    if isinstance(value, Mixture):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [found for each in value for found in _mixtures(each)]
    return []
