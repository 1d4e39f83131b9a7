"""What merging is measured on: a model, experts that differ a little from it, and random images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.config.scenario import Model
from neulig_fl.core.progress import Progress
from neulig_fl.core.randomness import numpy_generator, torch_generator
from neulig_fl.merging.inference import ExpertStack
from neulig_fl.merging.portland import Portland
from neulig_fl.models.families import Family, device, open_family

SPREAD = 0.02
"""How far experts lie from the model: times each value, and times the deviation of its entry."""

FLOOR = 0.01
"""The least deviation: fresh biases are all 0, and would stay the same in every expert."""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        encoder: the model; eval mode, no gradients.
        stack: the experts, all present.
        coopvecs: (samples, experts); all different, each entry below 0.9.
        inputs: (samples, 3, size, size).
        portland: gives every sample a CoopVec of its own.
    """

    encoder: nn.Module
    stack: ExpertStack
    coopvecs: Tensor
    inputs: Tensor
    portland: Portland

    @cached_property
    def plain(self) -> Tensor:
        """The experts once more, each entry in its usual order, (experts, entries).

        The stack has an order of its own, for the engine; whoever merges without it would have
        experts as they are, and is not to pay for putting them into order.
        """
        rows = torch.empty_like(self.stack.matrix)
        for row, name in zip(rows, self.stack.experts, strict=True):
            own = self.named(row)
            for entry, value in self.stack.of(name).items():
                own[entry].copy_(value)
        return rows

    @cached_property
    def states(self) -> list[dict[str, Tensor]]:
        """Each expert's entries; views of `plain`."""
        return [self.named(row) for row in self.plain]

    @cached_property
    def buffer(self) -> Tensor:
        """Room for one merged network, (1, entries)."""
        return torch.empty_like(self.plain[:1])

    @property
    def entries(self) -> int:
        """Numbers in one expert."""
        return self.stack.matrix.shape[1]

    def named(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows of `plain`, or mixtures of them, (..., entries), as entries (..., *shape); views."""
        shapes = self.stack.shapes
        parts = rows.split([math.prod(shape) for shape in shapes.values()], dim=-1)
        named = zip(parts, shapes.items(), strict=True)
        return {name: part.view(*rows.shape[:-1], *shape) for part, (name, shape) in named}


class Perturbed(Mapping[str, Tensor]):
    """An expert near a model: v + SPREAD * n * (|v| + deviation of the entry), n standard normal.

    Entries are made when they are asked for, so that the expert is nowhere as a whole. Running
    variances stay positive: v * exp(SPREAD * n).

    Args:
        base: the model's entries; not changed.
        seed: with the expert's name it decides every value.
        expert: the name.
    """

    def __init__(self, base: Mapping[str, Tensor], seed: int, expert: str) -> None:
        self._base = base
        self._seed = seed
        self._expert = expert

    def __getitem__(self, name: str) -> Tensor:
        value = self._base[name]
        generator = torch_generator(self._seed, "bench-expert", f"{self._expert}/{name}")
        noise = torch.randn(value.shape, generator=generator).mul_(SPREAD)
        if name.endswith("running_var"):
            return noise.exp_().mul_(value)
        deviation = max(float(value.std(unbiased=False)), FLOOR)
        return noise.mul_(value.abs() + deviation).add_(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def make(model: Model, experts: int, batch: int, seed: int, progress: Progress) -> Subject:
    """A subject, the same for the same seed; on a GPU where this process sees one.

    Args:
        model: the scenario's `model`, paths absolute.
        experts: how many.
        batch: samples.
        seed: of random weights, experts, CoopVecs and images.
        progress: takes progress events.

    Raises:
        CheckpointError: the weights cannot be fetched or do not fit the model.
    """
    where = device()
    family = open_family(model, seed)
    inputs = _images(family, batch, seed).to(where)
    encoder = family.encoder()
    stack = _stack(family.entries(), encoder, experts, seed, progress)
    encoder.to(where)
    stack.matrix = stack.matrix.to(where)
    generator = torch_generator(seed, "bench-coopvecs")
    scores = torch.rand(batch, experts, generator=generator).mul_(2.0).sub_(1.0)
    coopvecs = torch.softmax(scores, dim=1).to(where)
    outputs = expert_outputs(encoder, (stack.of(name) for name in stack.experts), inputs)
    portland = _portland(outputs, stack.experts, generator)
    return Subject(encoder, stack, coopvecs, inputs, portland)


def _images(family: Family, batch: int, seed: int) -> Tensor:
    size = (batch, 3, family.image_size, family.image_size)
    generator = numpy_generator(seed, "bench-images")
    return family.normalise(generator.integers(0, 256, size, dtype=np.uint8))


def _stack(
    shapes: Mapping[str, tuple[int, ...]],
    encoder: nn.Module,
    experts: int,
    seed: int,
    progress: Progress,
) -> ExpertStack:
    names = tuple(f"expert-{i}" for i in range(experts))
    state = encoder.state_dict()
    base = {name: state[name] for name in shapes}
    stack = ExpertStack(shapes, names)
    bar = progress.task("making experts", experts)
    for name in names:
        stack.put(name, Perturbed(base, seed, name))
        bar.advance()
    return stack


def expert_outputs(
    encoder: nn.Module, states: Iterable[dict[str, Tensor]], inputs: Tensor
) -> Tensor:
    """Every expert's outputs on every sample, (samples, experts, dim)."""
    return torch.stack([functional_call(encoder, each, (inputs,)) for each in states], dim=1)


def _portland(outputs: Tensor, experts: tuple[str, ...], generator: torch.Generator) -> Portland:
    """A Portland whose scores vary over these outputs: mean 0, deviation 1."""
    flat = outputs.flatten(1)
    weight = torch.randn(len(experts), flat.shape[1], generator=generator).to(flat.device)
    scores = flat @ weight.T
    deviation = scores.std(dim=0, unbiased=False)
    scale = torch.where(deviation > 0, 1.0 / deviation, torch.ones_like(deviation))
    return Portland(weight * scale[:, None], -scores.mean(dim=0) * scale, experts)
