"""Gram matrices of the inputs of a model's weight matrices: what a client computes for RegMean.

A client that keeps its inputs X of a layer can still say G = X'X / n, their second moments. With
the sums over clients of G, of W G and of W diag(G), the layer that is closest to all the clients'
layers on all their inputs follows, for any weight of what stands off the diagonal.

Which entries: weights of linear layers, attention's projections, and `proj` of a ViT. Convolutions
are an extension, made where a model has more than one: then each is a matrix whose inputs are the
patches that it sees. A single convolution is a ViT's patch embedding, which RegMean on ViTs
averages; so nothing of the images' pixels leaves a client for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import NotCovered, RunError
from neulig_fl.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neulig_fl.merging.layer_inputs import InputProducts

GRAM, MOMENT, DIAGONAL = "gram:", "moment:", "diagonal:"

Shape = tuple[int, ...]


def layout(entries: Mapping[str, Shape]) -> dict[str, Shape]:
    """Name and shape of every array, from the names and shapes of a model's entries.

    Args:
        entries: shape of every floating state-dict entry.

    Returns:
        For each entry NAME that multiplies inputs: `gram:NAME` (inputs, inputs), and `moment:NAME`
        and `diagonal:NAME` of the entry's shape.

    Example:
        >>> layout({"fc.weight": (2, 3), "fc.bias": (2,)})
        {'gram:fc.weight': (3, 3), 'moment:fc.weight': (2, 3), 'diagonal:fc.weight': (2, 3)}
    """
    found: dict[str, Shape] = {}
    for name in multiplied(entries):
        shape = entries[name]
        inputs = shape[0] if _input_first(name) else math.prod(shape[1:])
        found |= {GRAM + name: (inputs, inputs), MOMENT + name: shape, DIAGONAL + name: shape}
    return found


def multiplied(entries: Mapping[str, Shape]) -> list[str]:
    """The entries that multiply inputs, and of which Gram matrices are made.

    Args:
        entries: shape of every floating state-dict entry.

    Example:
        >>> multiplied({"conv1.weight": (8, 3, 4, 4), "ln.weight": (8,), "proj": (8, 2)})
        ['proj']
    """
    made = convolutions(entries)
    return [
        name
        for name, shape in entries.items()
        if name in made or (len(shape) == 2 and (_weight(name) or _input_first(name)))
    ]


def convolutions(entries: Mapping[str, Shape]) -> list[str]:
    """The weights of convolutions that are merged as matrices: all, or none where there is but one.

    Example:
        >>> convolutions({"conv1.weight": (8, 3, 4, 4), "conv2.weight": (8, 8, 3, 3)})
        ['conv1.weight', 'conv2.weight']
    """
    found = [name for name, shape in entries.items() if _weight(name) and len(shape) == 4]
    return found if len(found) > 1 else []


def as_matrix(name: str, value: Tensor) -> Tensor:
    """An entry as a matrix (outputs, inputs)."""
    return value.T if _input_first(name) else value.flatten(1)


def from_matrix(name: str, matrix: Tensor, shape: Shape) -> Tensor:
    """A matrix (outputs, inputs) as the entry that it is; undoes `as_matrix`."""
    return matrix.T if _input_first(name) else matrix.reshape(shape)


def _weight(name: str) -> bool:
    return name.endswith("weight")


def _input_first(name: str) -> bool:
    """A ViT's last projection is used as x @ proj; all other entries as x @ W'."""
    return name.rpartition(".")[2] == "proj"


def measured(encoder: nn.Module, inputs: Tensor, batch: int = 32) -> dict[str, NDArray[np.float32]]:
    """A client's Gram matrices, and its weights times them.

    G = X'X / n, where the n rows of X are all inputs of the layer: every token or position of every
    example. W G and W diag(G) are for W (outputs, inputs), and given back in the entry's own shape.
    Products of a batch are float32; they are added up in float64.

    Args:
        encoder: in eval mode; nothing of it is changed.
        inputs: examples as the encoder takes them, (examples, 3, size, size).
        batch: examples at a time; decides memory, and nothing else but rounding.

    Returns:
        Every array of `layout`, float32.

    Raises:
        RunError: the encoder is in training mode, or there is no example.
        NotCovered: the model uses a weight in a way that is not covered; names the entry.

    Source: arXiv:2212.09849, section 3.2; normalised by the rows, as its official code does.
    """
    if encoder.training or not len(inputs):
        what = "an encoder in training mode" if encoder.training else "no examples"
        raise RunError(f"Gram matrices of {what}; they need eval mode and 1 example or more")
    state = {k: v for k, v in encoder.state_dict().items() if v.is_floating_point()}
    names = multiplied({name: tuple(value.shape) for name, value in state.items()})
    seen = _seen(encoder, names, inputs, batch)
    found: dict[str, NDArray[np.float32]] = {}
    for name in names:
        gram = seen.products[name] / seen.rows[name]
        weight = as_matrix(name, state[name]).double()
        moments = {MOMENT: weight @ gram, DIAGONAL: weight * gram.diagonal()}
        found[GRAM + name] = _array(gram)
        for kind, value in moments.items():
            found[kind + name] = _array(from_matrix(name, value, tuple(state[name].shape)))
    return found


def _seen(encoder: nn.Module, names: list[str], inputs: Tensor, batch: int) -> InputProducts:
    """Run the encoder on all examples, and look at what these entries multiply."""
    from neulig_fl.merging.layer_inputs import InputProducts

    parameters = dict(encoder.named_parameters(remove_duplicate=False))
    where = next(iter(parameters.values())).device
    seen = InputProducts({name: parameters[name] for name in names if name in parameters})
    try:
        with torch.no_grad(), seen:
            for some in inputs.split(batch):
                encoder(some.to(where))
        for name in names:
            if name not in seen.products:
                raise NotCovered(f"no multiplication of inputs by {name} was seen")
    except NotCovered as error:
        said = f"Gram matrices do not cover this model: {error}; leave regmean out of `methods`"
        raise NotCovered.public(said) from error
    return seen


def _array(value: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = value.float().cpu().contiguous().numpy()
    return found
