"""Whole models, as OpenCLIP builds them, against a network per sample."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
import torch
from superposed_cases import (
    EXACT,
    coopvecs,
    error,
    mixed_entries,
    normal,
    perturbed,
    slowly,
    stacked,
)
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.merging.inference import ExpertStack, merged_outputs, superposed
from neulig_fl.models.families import open_clip, open_family

BUNDLED = {"micro-vit": "bundled", "micro-rn": "bundled", "tiny-vit": "none"}
LARGE = {
    "RN50": 1.0,
    "ViT-B-32": 2.0,
    "convnext_base": 2.0,
    "EVA02-B-16": 2.0,
    "ViT-B-16-SigLIP": 2.5,
}
"""GiB of memory that a model, two experts and one batch of 2 take."""


@pytest.mark.parametrize("name", BUNDLED)
def test_a_small_model_is_that_of_each_samples_own_network(name: str) -> None:
    """Without it the figures of the bundled models would be those of other networks."""
    family = open_family(Model(name=name, pretrained=BUNDLED[name]), 0)
    encoder = family.encoder()
    states = perturbed(encoder, 3, 0, 0.05)
    inputs, beta = normal((5, 3, 32, 32)), coopvecs(5, 3)
    beta[3] = beta[1]
    stack = stacked(states)
    assert stack.shapes == dict(family.entries())
    with mixed_entries(stack) as mixed:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert mixed == set(stack.shapes), "something was not merged"
    slow = slowly(encoder, states, beta, inputs)
    assert error(found, slow) <= EXACT
    assert error(found[:1], slow[1:2]) > 100 * EXACT, "all samples have the same output"


def _around(encoder: nn.Module, seed: int) -> Iterator[tuple[str, Tensor]]:
    """One expert's entries, made one at a time."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():
            spread = 0.3 * float(value.std(unbiased=False)) + 0.02 * (value.ndim < 2)
            value = value + spread * torch.randn(value.shape, generator=generator)
            yield name, value.abs() + 0.5 if name.endswith("running_var") else value


@torch.no_grad()
def _slowly_in_place(
    encoder: nn.Module, stack: ExpertStack, beta: Tensor, inputs: Tensor
) -> Tensor:
    """A network per sample, without a copy of a model of a gigabyte."""
    rows = []
    for weights, query in zip(beta, inputs, strict=True):
        state = stack.entries(stack.mixtures(weights[None])[0])
        encoder.load_state_dict({**encoder.state_dict(), **state})
        rows.append(encoder(query[None]))
    return torch.cat(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_model_is_that_of_each_samples_own_network(name: str) -> None:
    """Without it merging would be tested on toys, and wrong for what people have."""
    there = psutil.virtual_memory().available / 2**30
    if there < LARGE[name]:
        pytest.skip(f"{name} takes {LARGE[name]} GiB, and {there:.1f} GiB are available")
    encoder = open_clip.create(name, 0).visual.eval().requires_grad_(False)
    shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items() if v.is_floating_point()}
    stack = ExpertStack(shapes, ("a", "b"))
    for seed, expert in enumerate(stack.experts):
        stack.put(expert, dict(_around(encoder, seed)))
    inputs, beta = normal((2, 3, 224, 224)), torch.tensor([[0.3, 0.7], [0.85, 0.15]])
    with torch.no_grad():
        found = superposed(encoder, stack, beta, inputs)
    slow = _slowly_in_place(encoder, stack, beta, inputs)
    assert error(found, slow) <= EXACT
    assert error(found[:1], slow[1:]) > 100 * EXACT, "both samples have the same output"
