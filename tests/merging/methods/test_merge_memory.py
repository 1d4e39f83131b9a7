"""Memory of the methods that read no data: the experts, and 1.5 copies of the largest stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
from live import Live
from torch import Tensor, nn

from neulig_fl.merging import methods
from neulig_fl.merging.methods import Given, Queries

MOST = 1.5
"""Copies of the largest stack, (experts, entry), that a merge may make at a time."""

BESIDE = {
    "git-rebasin": "assigns units by a matrix of (units, units), beside the stacks it permutes",
}
"""Methods that take more, and why."""

FREE = [
    name
    for name in methods.names()
    if not methods.load(name).NEEDS.queries
    and set(methods.load(name).NEEDS.each + methods.load(name).NEEDS.sums) <= {"parameters"}
]
SHAPES = {
    "transformer.resblocks.0.mlp.c_fc.weight": (1536, 768),
    "transformer.resblocks.0.mlp.c_fc.bias": (1536,),
    "transformer.resblocks.1.mlp.c_fc.weight": (512, 512),
}


@dataclass(frozen=True)
class Views:
    """A `Source` that hands out views of what is there, as a run's does."""

    experts: tuple[str, ...]
    stacks: Mapping[str, Tensor]
    checkpoint: Mapping[str, Tensor]
    seed: int = 0

    @property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """As `merges.Source`."""
        return SHAPES

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """As `merges.Source`."""
        raise NotImplementedError(kind)

    def own(self, kind: str, name: str) -> Tensor:
        """As `merges.Source`."""
        assert kind == "parameters"
        return self.stacks[name]

    def mean(self, kind: str, name: str) -> Tensor:
        """As `merges.Source`."""
        return self.own(kind, name).mean(dim=0)

    def start(self, name: str) -> Tensor:
        """As `merges.Source`."""
        return self.checkpoint[name]

    def network(self) -> nn.Module:
        """As `merges.Source`."""
        raise NotImplementedError

    def queries(self) -> Sequence[Queries]:
        """As `merges.Source`."""
        raise NotImplementedError


def source(count: int) -> Views:
    """Experts around a checkpoint, with one entry that is much larger than a piece."""
    generator = torch.Generator().manual_seed(0)
    start = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    stacks = {
        name: value + 0.1 * torch.randn((count, *value.shape), generator=generator)
        for name, value in start.items()
    }
    return Views(tuple("abcdefgh"[:count]), stacks, start)


def copies(method: str, of: Views) -> float:
    """The most that a merge holds at a time, over the largest stack; what came out is dropped."""
    module = methods.load(method)
    options = methods.arguments(module.merge, methods.settings(module, {}))
    largest = max(stack.nbytes for stack in of.stacks.values())
    with Live([*of.stacks.values(), *of.checkpoint.values()]) as live:
        for _name, _value in module.merge(Given(of, module.NEEDS, method), **options):
            del _value
    return live.peak / largest


def test_the_count_sees_copies() -> None:
    """If this fails, no method could be found to take too much."""
    one = torch.zeros(1000)
    with Live([one]) as live:
        first = one + 1
        second = one.view(10, 100) * 2
        assert live.peak == 2 * one.nbytes
        del first
        third = second + one.view(10, 100)
        fourth = third.clone()
        del second, third, fourth
        again = one + 2
        del again
    assert live.peak == 3 * one.nbytes


@pytest.mark.parametrize("method", [name for name in FREE if name not in BESIDE])
def test_a_merge_takes_little_beside_the_experts(method: str) -> None:
    """Five large experts that fit into memory could not be merged in it."""
    assert 0 < copies(method, source(methods.load(method).NEEDS.experts or 5)) <= MOST


def test_every_method_without_data_is_measured_or_named() -> None:
    """A new method could take any memory."""
    assert set(BESIDE) <= set(FREE)
    assert len(FREE) >= 12
