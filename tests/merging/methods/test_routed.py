"""Blocks whose weights are mixed anew for every sample; `test_wemoe` compares whole models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neulig_fl.merging.methods._routed import RoutedBlock, Router


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 2, 3)])
def test_a_router_averages_over_positions(shape: tuple[int, ...]) -> None:
    """Tokens, or places of an image, would be mixed up before the router reads them."""
    generator = torch.Generator().manual_seed(0)
    router = Router(4, 2)
    for value in router.parameters():
        value.data.normal_(generator=generator)
    states = torch.randn(shape, generator=generator)
    first, last = router.first, router.last
    for found, state in zip(router(states), states, strict=True):
        at = state if state.ndim == 2 else [state[:, i, j] for i in range(2) for j in range(3)]
        hidden = [(first.weight @ h + first.bias).clamp(min=0) for h in at]
        said = [last.weight @ h + last.bias for h in hidden]
        torch.testing.assert_close(found, sum(said) / len(said))


def test_sequences_can_come_first() -> None:
    """In a transformer whose states are (tokens, samples, width), tokens would be routed."""
    generator = torch.Generator().manual_seed(0)
    stacks = {
        "c_fc.weight": torch.randn(3, 8, 4, generator=generator),
        "c_fc.bias": torch.randn(3, 8, generator=generator),
    }
    router = Router(4, 2)
    for value in router.parameters():
        value.data.normal_(generator=generator)

    def block(*, batch_first: bool) -> nn.Module:
        plain = nn.Sequential()
        plain.add_module("c_fc", nn.Linear(4, 8))
        return RoutedBlock(plain, router, stacks.__getitem__, batch_first)

    states = torch.randn(5, 7, 4, generator=generator)
    with torch.no_grad():
        found = block(batch_first=False)(states.transpose(0, 1)).transpose(0, 1)
        torch.testing.assert_close(found, block(batch_first=True)(states))
        assert found.std() > 0
