"""Real, tiny models for the contract of merge methods: a ViT and a ResNet, with their statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import tiny
import torch
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.merging import fisher, gram, methods
from neulig_fl.merging.methods import Given, Needs, Queries, StateDicts
from neulig_fl.models.families import open_family

ARCHITECTURES = ("deep-vit", "tiny-rn")
QUICK = {
    "adamerging": {"steps": 3},
    "wemoe": {"steps": 3},
    "git-rebasin": {"sweeps": 3},
}
"""Options with which a method takes little time; none of them changes what kind of thing it does."""


@cache
def encoder(name: str) -> nn.Module:
    """theta_0 of a tiny model."""
    tiny.register_model()
    return open_family(Model(name=name, pretrained="none"), 0).encoder()


def start(name: str) -> dict[str, Tensor]:
    """The state dict of theta_0, with numbers in every entry."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for key, value in encoder(name).state_dict().items():
        noise = 0.05 * torch.randn(value.shape, generator=generator)
        found[key] = value.clone() if not value.is_floating_point() else value + noise.abs()
    return found


def expert(name: str, seed: int, spread: float = 0.02) -> dict[str, Tensor]:
    """theta_0 with some noise; running variances stay above 0."""
    generator = torch.Generator().manual_seed(100 + seed)
    found = {}
    for key, value in start(name).items():
        noise = spread * torch.randn(value.shape, generator=generator)
        found[key] = value + noise if value.is_floating_point() else value + seed
        if key.endswith("running_var"):
            found[key] = found[key].clamp_min(0.01)
    return found


def queries(name: str) -> list[Queries]:
    """Two tasks' unlabelled queries."""
    generator = torch.Generator().manual_seed(5)
    size, dim = 32, int(start(name)["proj" if "vit" in name else "attnpool.c_proj.bias"].shape[-1])
    return [
        Queries(
            task,
            torch.randn(6, 3, size, size, generator=generator),
            partial(_logits, 10 * torch.randn(classes, dim, generator=generator)),
        )
        for task, classes in (("first", 3), ("second", 4))
    ]


def _logits(head: Tensor, features: Tensor) -> Tensor:
    return nn.functional.normalize(features, dim=-1) @ head.T


def with_weights(name: str, state: dict[str, Tensor]) -> nn.Module:
    """The encoder with an expert's weights."""
    found = open_family(Model(name=name, pretrained="none"), 0).encoder()
    found.load_state_dict(state)
    return found


def source(name: str, models: Sequence[dict[str, Tensor]] | None = None) -> StateDicts:
    """Three experts, or those that are given, with everything that a method can need."""
    found = [expert(name, seed) for seed in range(3)] if models is None else list(models)
    named = {"abcdef"[at]: model for at, model in enumerate(found)}
    inputs = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    head = torch.randn(3, 16, generator=torch.Generator().manual_seed(10))
    records: dict[str, dict[str, Any]] = {"gram": {}, "fisher": {}}
    for key, model in named.items():
        network = with_weights(name, model)
        records["gram"][key] = _tensors(gram.measured(network, inputs))
        records["fisher"][key] = _tensors(fisher.measured(network, inputs, 10 * head))
    architecture: Callable[[], nn.Module] = partial(with_weights, name, start(name))
    return StateDicts(named, start(name), records, architecture, queries(name), seed=4)


def _tensors(arrays: Any) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def cut(method: str, whole: StateDicts) -> StateDicts:
    """As many experts as a method merges, and only what it declared."""
    needs: Needs = methods.load(method).NEEDS
    keep = list(whole.models)[: needs.experts]
    kinds = {*needs.each, *needs.sums}
    return replace(
        whole,
        models={key: whole.models[key] for key in keep},
        checkpoint=whole.checkpoint if needs.start else None,
        records={
            kind: {key: found[key] for key in keep}
            for kind, found in whole.records.items()
            if kind in kinds
        },
        pool=whole.pool if needs.queries else (),
    )


def options(method: str) -> dict[str, Any]:
    """The method's options, quick where it would take long."""
    return methods.settings(methods.load(method), QUICK.get(method, {}))


def made(method: str, of: StateDicts, needs: Needs | None = None) -> dict[str, Tensor] | nn.Module:
    """What a method makes of some experts: the merged entries, or a model."""
    module = methods.load(method)
    rule = methods.rule(module)
    given = Given(of, needs or module.NEEDS, method)
    found = rule(given, **methods.arguments(rule, options(method)))
    return found if isinstance(found, nn.Module) else dict(found)


def outputs(name: str, found: dict[str, Tensor] | nn.Module) -> Tensor:
    """What the merged model answers to some queries."""
    inputs = torch.cat([each.inputs for each in queries(name)])
    network = found
    if isinstance(found, dict):
        network = with_weights(name, {**start(name), **found})
    assert isinstance(network, nn.Module)
    with torch.no_grad():
        answer: Tensor = network.eval()(inputs)
    return answer
