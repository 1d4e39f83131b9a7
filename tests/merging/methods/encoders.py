"""Small image encoders of OpenCLIP's classes with lively weights, and their units in other orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Answers, Given, Needs, Queries, StateDicts
from neulig_fl.merging.methods._units import Bundle, Units, reordered, units_of
from neulig_fl.models.families import open_family

Maker = Callable[[], nn.Module]
State = dict[str, Tensor]


def vit(
    width: int = 16, layers: int = 2, heads: int = 2, size: int = 16, ratio: float = 2.0
) -> Maker:
    """Makes a vision transformer."""
    return partial(VisionTransformer, size, 8, width, layers, heads, ratio, output_dim=6)


def resnet(layers: Sequence[int] = (1, 2, 1, 1), width: int = 4, size: int = 32) -> Maker:
    """Makes a ResNet of CLIP's."""
    return partial(ModifiedResNet, list(layers), 6, 2, size, width)


def bundled(name: str) -> Maker:
    """Makes a bundled model's encoder, at theta_0."""
    return lambda: open_family(Model(name=name), 0).encoder()


CASES = {
    "vit": (vit(width=32), 16),
    "resnet": (resnet(width=8), 32),
    "micro-vit": (bundled("micro-vit"), 32),
    "micro-rn": (bundled("micro-rn"), 32),
}
"""Makers, each with the side of its inputs."""


def lively(make: Maker, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model in which nothing is zero, one or alike, as fresh norms, biases and statistics are."""
    generator = torch.Generator().manual_seed(seed)
    model = make().eval().requires_grad_(False).to(dtype)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(dtype)
        if value.dim() == 1:
            positive = name.endswith(("weight", "running_var", "gamma"))
            noise = 0.5 + noise.abs() if positive else 0.3 * noise
        elif "embedding" not in name:
            noise = noise * 1.5 / value[0].numel() ** 0.5
        value.copy_(noise)
    return model


def calibrated(model: nn.Module, queries: Tensor) -> nn.Module:
    """The model with BatchNorm's statistics of some queries, and with biases that keep units alive."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.bias.add_(1.5)
    model.train()(queries)
    return model.eval()


def state(model: nn.Module) -> State:
    """A copy of a model's state dict."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def source(make: Maker, *models: State, inputs: Tensor | None = None, seed: int = 0) -> StateDicts:
    """A source of some experts of one architecture."""
    named = {f"e{i}": model for i, model in enumerate(models)}
    pool = [] if inputs is None else [Queries("task", inputs, lambda features: features)]
    return StateDicts(named, architecture=make, pool=pool, seed=seed)


def by_rule(method: str, source: StateDicts) -> State:
    """What a rule alone makes of experts, with the first expert's counters; no estimation after it."""
    module = methods.load(method)
    return dict(next(iter(source.models.values()))) | dict(
        module.merge(Given(source, module.NEEDS, method))
    )


class Kept(StateDicts):
    """A source that hands out the same tensors again, as a run's may."""

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every expert's, the same each time."""
        if name not in self.kept:
            self.kept[name] = super().own(kind, name)
        return self.kept[name]

    @cached_property
    def kept(self) -> State:
        """What was handed out, by name."""
        return {}

    def changed(self) -> list[str]:
        """The entries that are no longer what they were."""
        now = {name: StateDicts.own(self, "parameters", name) for name in self.entries}
        return [name for name, value in now.items() if not torch.equal(value, self.kept[name])]


def units(make: Maker) -> Units:
    """The units of an architecture."""
    model = state(make())
    return units_of(Given(source(make, model, model), Needs(each=("parameters",)), "test"))


def shuffled(found: Units, seed: int) -> dict[str, Tensor]:
    """A random order of every set of units, whole heads and units inside of heads."""
    generator = torch.Generator().manual_seed(seed)
    orders = {}
    for bundle in found.bundles:
        orders.update(_bundle_shuffled(found, bundle, generator))
    return orders


def _bundle_shuffled(found: Units, bundle: Bundle, generator: torch.Generator) -> State:
    heads = torch.randperm(bundle.heads, generator=generator).tolist()
    orders = {}
    for name in bundle.sets:
        size = found.sizes[name] // bundle.heads
        parts = [h * size + torch.randperm(size, generator=generator) for h in heads]
        orders[name] = torch.cat(parts)
    return orders


def permuted(found: Units, model: State, orders: State) -> State:
    """A model with its units in other orders."""
    return {k: reordered(v, found.axes.get(k, ()), orders) for k, v in model.items()}


def outputs(make: Maker, model: State, inputs: Tensor) -> Tensor:
    """What a model with these entries answers."""
    network = make().eval().requires_grad_(False).to(inputs.dtype)
    network.load_state_dict(model)
    return network(inputs)


def worst(make: Maker, model: State, want: State, size: int, count: int) -> float:
    """The largest difference of two models' outputs on so many inputs, over the largest output."""
    queries = inputs(count, size)
    answer = outputs(make, want, queries)
    difference = outputs(make, model, queries) - answer
    return float(difference.abs().max() / answer.abs().max())


def answers(seed: int, size: int, experts: int = 3) -> Answers:
    """A task's outputs, 4 numbers each, with 5 classes."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(size, experts, 4, generator=generator)
    base = torch.randn(size, 4, generator=generator)
    columns = torch.randn(4, 5, generator=generator)
    return Answers(f"t{seed}", outputs, base, lambda mixed: mixed @ columns.to(mixed.dtype))


def inputs(count: int, size: int, seed: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random inputs of an encoder."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    )
