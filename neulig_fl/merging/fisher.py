"""Diagonal Fisher information of a model's parameters: what a client computes for Fisher merging.

F says how much the predicted distribution changes with a parameter. A client that keeps its
examples can still say F and F * theta; their sums over clients give the weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import RunError
from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

FISHER, MOMENT = "fisher:", "moment:"

FLOOR = 1e-6
"""The least F: that of the official code."""

GRADIENT_BYTES = 256 * 2**20
"""Gradients that are held at a time, unless it is said how many."""

Tensors = dict[str, "Tensor"]


def layout(entries: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array, from the names and shapes of a model's entries.

    Args:
        entries: shape of every floating state-dict entry.

    Example:
        >>> layout({"fc.bias": (2,)})
        {'fisher:fc.bias': (2,), 'moment:fc.bias': (2,)}
    """
    return {kind + name: shape for name, shape in entries.items() for kind in (FISHER, MOMENT)}


def measured(
    encoder: nn.Module,
    inputs: Tensor,
    head: Tensor,
    floor: float = FLOOR,
    chunk: int | None = None,
    normalise: bool = True,
) -> dict[str, NDArray[np.float32]]:
    """A client's diagonal Fisher information, and its parameters times it.

    F = max(mean_x E_{y ~ p(y|x)} (d log p(y|x) / d theta)^2, floor): the expectation is over the
    model's own prediction and exact, a gradient for every class; no label is read. Then F is
    divided by its norm over all entries: an unsure model has gradients that are many times as large
    and would outweigh the others. Entries without a gradient (BatchNorm's running statistics) have
    F = 1, so that they are averaged.

    Args:
        encoder: in eval mode; nothing of it is changed.
        inputs: examples as the encoder takes them, (examples, 3, size, size).
        head: of the classes that compete, those of the client's own task, (classes, dim).
        floor: the least F, before F is divided by its norm. The official code takes the norm of F
            as it is, and raises F to the floor after that; it does so for the first model alone,
            unless it is told otherwise. No model is the first here, so all are raised.
        chunk: gradients at a time; decides memory, and nothing else. None: what fits 256 MiB.
        normalise: whether F is divided by its norm. The official code does, the paper's formula
            does not.

    Returns:
        Every array of `layout`, float32.

    Raises:
        RunError: the encoder is in training mode, or there is no example.

    Source: arXiv:2111.09832, section 3 and equation 3; github.com/mmatena/model_merging.
    """
    if encoder.training or not len(inputs):
        what = "an encoder in training mode" if encoder.training else "no examples"
        raise RunError(f"Fisher information of {what}; it needs eval mode and 1 example or more")
    sums = _squares(encoder, inputs, head, chunk)
    own = {name: (value / len(inputs)).clamp_min(floor) for name, value in sums.items()}
    norm = torch.stack([value.double().norm() for value in own.values()]).norm()
    found: dict[str, NDArray[np.float32]] = {}
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():
            fisher = own.get(name, torch.ones_like(value)).double()
            fisher = fisher / norm if normalise and name in own else fisher
            found[FISHER + name] = _array(fisher)
            found[MOMENT + name] = _array(fisher * value)
    return found


def _squares(encoder: nn.Module, inputs: Tensor, head: Tensor, chunk: int | None) -> Tensors:
    """The sums over examples and classes of p(y|x) times the squared gradient of log p(y|x)."""
    parameters = {name: value.detach() for name, value in encoder.named_parameters()}
    where = next(iter(parameters.values())).device
    size = sum(value.numel() * value.element_size() for value in parameters.values())
    classes = torch.eye(len(head), device=where).split(chunk or max(1, GRADIENT_BYTES // size))
    likelihood = _likelihood(encoder, head.to(where))
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    # The fused attention has no gradient for many classes at once.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for example in inputs:
            query = example[None].to(where)
            found, pull = torch.func.vjp(partial(likelihood, query), parameters)[:2]
            # The square of sqrt(p) * gradient is p * gradient^2.
            root = (found / 2).exp()
            for some in classes:
                (gradients,) = torch.func.vmap(pull)(some * root)
                for name, value in gradients.items():
                    sums[name] += _squared(value).sum(dim=0)
    return sums


def _squared(value: Tensor) -> Tensor:
    """In place, which takes half the time; not where zeros of one class stand for all classes."""
    return value.square_() if value.is_contiguous() else value.square()


def _likelihood(encoder: nn.Module, head: Tensor) -> Callable[[Tensor, Tensors], Tensor]:
    """A function of one example and the parameters: log p(y|x) of all classes, (classes,)."""
    from neulig_fl.models.outputs import classify

    buffers = dict(encoder.named_buffers())

    def likelihood(query: Tensor, parameters: Tensors) -> Tensor:
        features = torch.func.functional_call(encoder, (parameters, buffers), (query,))
        return classify(features, head)[0].log_softmax(dim=-1)

    return likelihood


def _array(value: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = value.float().cpu().contiguous().numpy()
    return found
