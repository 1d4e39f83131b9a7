"""Gradients to CoopVecs and inputs, against autograd through a network per sample."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from superposed_cases import EXACT, States, coopvecs, error, experts, normal, stacked
from superposed_modules import BATCH_NORMS, OPERATIONS, made
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.merging.inference import Merging, costs, superposed

STEP = 1e-5
"""Of central differences in float64, whose error is about 1e-10."""


def _by_networks(encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor) -> Tensor:
    """A network per sample in float64, which torch differentiates, but for running statistics."""
    network = copy.deepcopy(encoder).double()
    rows = []
    for weights, query in zip(beta, inputs, strict=True):
        state = {
            k: sum(w * s[k].double() for w, s in zip(_of(weights, k), states, strict=True))
            for k, v in states[0].items()
            if v.is_floating_point()
        }
        rows.append(functional_call(network, state, (query[None],), tie_weights=False))
    return torch.cat(rows)


def _of(weights: Tensor, name: str) -> Tensor:
    return weights.detach() if "running_" in name else weights


def _differences(
    encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor, weight: Tensor
) -> Tensor:
    """Central differences in float64 of sum(weight * output) by each entry of the CoopVecs."""
    found = torch.zeros_like(beta)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in beta.shape)).tolist():
        step = torch.zeros_like(beta)
        step[tuple(place)] = STEP
        ends = [
            (weight * _by_networks(encoder, states, each, inputs)).sum()
            for each in (beta + step, beta - step)
        ]
        found[tuple(place)] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def _gradients(
    encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a weighted sum of the outputs, by CoopVecs and inputs; and the weights."""
    beta, inputs = beta.clone().requires_grad_(), inputs.clone().requires_grad_()
    found = superposed(encoder, stacked(states), beta, inputs, **options)
    weight = normal(tuple(found.shape), 3)
    one, two = torch.autograd.grad((weight * found).sum(), [beta, inputs])
    return one, two, weight.double()


def _compare(
    encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor, statistics: bool = False
) -> None:
    """Both gradients against autograd in float64, or differences where statistics take part."""
    by_beta, by_inputs, weight = _gradients(encoder, states, beta, inputs)
    beta, inputs = beta.double().requires_grad_(), inputs.double().requires_grad_()
    slow = (weight * _by_networks(encoder, states, beta, inputs)).sum()
    expected, inputs_expected = torch.autograd.grad(slow, [beta, inputs], allow_unused=True)
    if statistics:
        expected = _differences(encoder, states, beta.detach(), inputs.detach(), weight)
    assert error(by_beta, expected) <= EXACT
    assert error(by_inputs, inputs_expected) <= EXACT


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_are_those_of_each_samples_own_network(name: str) -> None:
    """Without it a Portland that is trained through the merged model would learn something else."""
    module, shape = made(name)
    encoder, states = experts(lambda: module)
    beta, inputs = coopvecs(4, 3), normal((4, *shape))
    _compare(encoder, states, beta, inputs, statistics=name in BATCH_NORMS)


def test_entries_that_experts_share_have_gradients_as_well() -> None:
    """Without it CoopVecs would get a gradient as if the sum of their entries could not change."""
    encoder, states = experts(lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)))
    for state in states[1:]:
        state.update({k: v.clone() for k, v in states[0].items() if k.startswith("0.")})
    beta, inputs = coopvecs(4, 3), normal((4, 4))
    _compare(encoder, states, beta, inputs)


WAYS = {
    "columns": "conv2d, stride",
    "single": "conv2d, uneven",
    "grouped": "conv2d, groups",
}


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_the_same_whichever_way_a_convolution_went(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the way forward could differ from what is differentiated."""
    module, shape = made(WAYS[way])
    encoder, states = experts(lambda: module)
    beta, inputs = coopvecs(4, 3), normal((4, *shape))
    monkeypatch.setattr(costs, "way", lambda layer, positions, cuda: way)
    monkeypatch.setattr(costs, "CACHE_BYTES", 4)
    _compare(encoder, states, beta, inputs)


@pytest.mark.parametrize("name", ["linear of rows", "attention", "x @ projection"])
def test_gradients_add_up_over_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a large layer would have the gradient of its last inputs only."""
    monkeypatch.setattr(costs, "BLOCK_ENTRIES", 16)
    monkeypatch.setattr(costs, "LEAST_INPUTS", 3)
    module, shape = made(name, 8)
    encoder, states = experts(lambda: module)
    beta, inputs = coopvecs(4, 3), normal((4, *shape))
    _compare(encoder, states, beta, inputs)


@pytest.mark.parametrize("which", ["coopvecs", "inputs"])
def test_gradients_of_one_of_the_two(which: str) -> None:
    """Without it training Portland, whose images need no gradient, would fail or cost twice."""
    module, shape = made("conv2d", 1)
    encoder, states = experts(lambda: module)
    beta, inputs = coopvecs(4, 3), normal((4, *shape))
    both = _gradients(encoder, states, beta, inputs)
    asked = (beta if which == "coopvecs" else inputs).requires_grad_()
    found = superposed(encoder, stacked(states), beta, inputs)
    (alone,) = torch.autograd.grad((both[2].float() * found).sum(), [asked])
    assert torch.equal(alone, both[0 if which == "coopvecs" else 1])


def test_without_gradients_nothing_is_recorded() -> None:
    """Without it an evaluation would keep every activation."""
    encoder, states = experts(lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)))
    beta = coopvecs(4, 3)
    assert not superposed(encoder, stacked(states), beta, normal((4, 4))).requires_grad
    with torch.no_grad():
        found = superposed(encoder, stacked(states), beta.requires_grad_(), normal((4, 4)))
    assert not found.requires_grad


LAYERS = {
    "linear": (lambda: nn.Linear(256, 256, bias=False), (2, 256)),
    "convolution": (lambda: nn.Conv2d(64, 128, 3, bias=False), (64, 4, 4)),
    "attention": (lambda: OPERATIONS["attention"](48)[0], (5, 192)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_mixed_weights_are_not_kept_for_the_gradients(name: str) -> None:
    """Without it training through the merge would take a network's memory for every sample."""
    make, shape = LAYERS[name]
    encoder, states = experts(make, 2)
    stack = stacked(states)
    own = stack.matrix.untyped_storage().data_ptr()
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    beta, inputs = coopvecs(8, 2).requires_grad_(), normal((8, *shape)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        superposed(encoder, stack, beta, inputs, Merging()).sum()
    kept.pop(own, None)
    one = stack.matrix[0].nbytes
    assert kept, "nothing was seen"
    assert sum(kept.values()) < one, "of 8 samples, whose mixed weights are 8 times as much"
