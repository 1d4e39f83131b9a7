"""Experts, CoopVecs, and the slow, obvious way to merge: a network per sample, its state loaded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from neulig_fl.merging.inference import ExpertStack, kernels
from neulig_fl.merging.inference.mixture import Mixture

States = list[dict[str, Tensor]]
EXACT = 1e-4
"""The largest relative error in float32."""


def experts(
    make: Callable[[], nn.Module], count: int = 3, seed: int = 0, spread: float = 0.3
) -> tuple[nn.Module, States]:
    """A module in eval mode, and states of its architecture around it (positive variances).

    Args:
        make: builds the module.
        count: of the states.
        seed: of the module's and the states' values.
        spread: standard deviation of an entry between states.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = make().eval().requires_grad_(False)
    return encoder, perturbed(encoder, count, seed, spread)


def perturbed(encoder: nn.Module, count: int, seed: int, spread: float = 0.3) -> States:
    """States around a module's own; a parameter with two names keeps one value."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        state: dict[str, Tensor] = {}
        made: dict[int, Tensor] = {}
        for name, value in encoder.state_dict().items():
            if value.is_floating_point() and value.data_ptr() not in made:
                noise = torch.randn(value.shape, generator=generator).to(value.dtype)
                made[value.data_ptr()] = value + spread * noise
            new = made.get(value.data_ptr(), value)
            state[name] = new.abs() + 0.5 if "running_var" in name else new.clone()
        found.append(state)
    return found


def stacked(states: States, names: tuple[str, ...] = ()) -> ExpertStack:
    """The states as experts e0, e1, ..., or of other names."""
    names = names or tuple(f"e{i}" for i in range(len(states)))
    shapes = {k: tuple(v.shape) for k, v in states[0].items() if v.is_floating_point()}
    stack = ExpertStack(shapes, names)
    for name, state in zip(names, states, strict=True):
        stack.put(name, state)
    return stack


def coopvecs(samples: int, count: int, seed: int = 1, sharpness: float = 2.0) -> Tensor:
    """Random CoopVecs, (samples, count)."""
    return torch.softmax(sharpness * normal((samples, count), seed), dim=1)


def normal(shape: tuple[int, ...], seed: int = 7) -> Tensor:
    """Standard normal values."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def merged_state(states: States, weights: Tensor) -> dict[str, Tensor]:
    """sum_t beta_t theta_t; integers as they are in the first."""
    found = {}
    for name, value in states[0].items():
        parts = zip(weights.tolist(), states, strict=True)
        sums = sum(weight * state[name].double() for weight, state in parts)
        found[name] = sums if value.is_floating_point() else value
    return found


@torch.no_grad()
def slowly(encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor) -> Tensor:
    """One network per sample, its mixed state loaded, in the encoder's dtype."""
    rows = []
    for weights, query in zip(beta, inputs, strict=True):
        network = copy.deepcopy(encoder)
        network.load_state_dict(merged_state(states, weights))
        rows.append(network.eval()(query[None]))
    return torch.cat(rows)


def error(found: Tensor, slow: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == slow.shape
    assert bool(found.isfinite().all())
    return float((found.double() - slow.double()).abs().max() / slow.double().abs().max())


@contextmanager
def mixed_entries(stack: ExpertStack) -> Iterator[set[str]]:
    """The names of the entries that are mixed meanwhile, block by block or whole."""
    found: set[str] = set()
    places = {}
    for name, entry in stack.stacked().items():
        first = entry.storage_offset()
        places[name] = range(first, first + entry.shape[1])
    mix, whole = kernels.mix, Mixture.whole

    def mix_seen(beta: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
        found.update(name for name, place in places.items() if values.storage_offset() in place)
        return mix(beta, values, out)

    def whole_seen(self: Mixture) -> Tensor:
        found.add(self.entry)
        return whole(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "mix", mix_seen)
        patch.setattr(Mixture, "whole", whole_seen)
        yield found
