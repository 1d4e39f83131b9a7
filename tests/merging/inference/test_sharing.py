"""What samples and experts share is done once: equal entries, one-hot and equal CoopVecs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from superposed_cases import (
    EXACT,
    States,
    coopvecs,
    error,
    experts,
    mixed_entries,
    normal,
    slowly,
    stacked,
)
from superposed_modules import OPERATIONS, made
from torch import Tensor, nn
from torch.func import functional_call

from neulig_fl.merging.inference import ExpertStack, merged_outputs, superposed


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))


SHARED = ("0.weight", "1.bias", "3.bias")


def _partly_alike(count: int = 3) -> tuple[nn.Module, States]:
    """Experts that were trained in some entries only."""
    encoder, states = experts(_mlp, count)
    for state in states[1:]:
        state.update({name: states[0][name].clone() for name in SHARED})
    return encoder, states


class Counted(nn.Module):
    """Counts calls and the samples of each, as its parts see them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = _mlp()
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        self.calls.append(len(x))
        return self.inner(x)


# ---------------------------------------------------------------- equal entries


def test_entries_that_are_equal_in_all_experts_are_not_mixed() -> None:
    """Without it experts of which only a head was trained would cost as much as any."""
    encoder, states = _partly_alike()
    stack = stacked(states)
    inputs, beta = normal((5, 4)), coopvecs(5, 3)
    with mixed_entries(stack) as mixed:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert mixed == set(stack.shapes) - set(SHARED)
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_entries_that_differ_in_one_expert_are_mixed() -> None:
    """Without it an expert that alone was trained would be taken for the others."""
    encoder, states = _partly_alike()
    states[2]["0.weight"][1, 2] += 0.5
    stack = stacked(states)
    inputs, beta = normal((5, 4)), coopvecs(5, 3)
    with mixed_entries(stack) as mixed:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert "0.weight" in mixed
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_a_new_expert_ends_what_was_shared() -> None:
    """Without it what was found alike for two experts would be kept for a third."""
    encoder, states = experts(_mlp)
    stack = ExpertStack(stacked(states).shapes, ("e0", "e1", "e2"))
    for name in ("e0", "e1"):
        stack.put(name, states[0])
    assert all(stack.alike().values())
    stack.put("e2", states[2])
    assert not any(stack.alike().values())
    inputs, beta = normal((5, 4)), coopvecs(5, 3)
    found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    slow = slowly(encoder, [states[0], states[0], states[2]], beta, inputs)
    assert error(found, slow) <= EXACT


@pytest.mark.parametrize("sums", [0.5, 1.001, 3.0, -1.0])
@pytest.mark.parametrize("alike", [False, True])
def test_coopvecs_that_do_not_sum_to_1_scale_every_entry(sums: float, alike: bool) -> None:
    """Without it shared entries would keep their value under weights that scale the others."""
    encoder, states = _partly_alike() if alike else experts(_mlp)
    inputs, beta = normal((5, 4)), coopvecs(5, 3)
    beta[2:] *= sums
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_weights_outside_0_and_1_are_extrapolated() -> None:
    """Without it a CoopVec with one entry of 1 and others that cancel would be one expert."""
    encoder, states = experts(_mlp)
    inputs = normal((3, 4))
    beta = torch.tensor([[1.0, -0.5, 0.5], [1.5, -0.5, 0.0], [1.0, 0.25, 0.0]])
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


# ---------------------------------------------------------------- one-hot CoopVecs


@contextmanager
def _weights_in_use(encoder: nn.Module) -> Iterator[list[dict[str, Tensor]]]:
    """What stands in the module at each of its calls."""
    found: list[dict[str, Tensor]] = []

    def seen(module: nn.Module, args: Any) -> None:
        found.append({k: v.clone() for k, v in module.state_dict().items()})

    handle = encoder.register_forward_pre_hook(seen)
    yield found
    handle.remove()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_one_hot_coopvec_takes_that_experts_own_weights(name: str) -> None:
    """Without it law 2 would hold for mixed weights only, which are rounded."""
    module, shape = made(name)
    encoder, states = experts(lambda: module)
    inputs, chosen = normal((6, *shape)), torch.tensor([0, 2, 1, 1, 2, 2])
    stack, beta = stacked(states), torch.eye(3)[chosen]
    with mixed_entries(stack) as mixed, _weights_in_use(encoder) as used:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert not mixed
    assert len(used) == 3, "a network for each expert"
    for expert, state in enumerate(states):
        assert any(all(torch.equal(each[k], state[k]) for k in stack.shapes) for each in used)
        rows = chosen == expert
        own = functional_call(encoder, stack.of(f"e{expert}"), (inputs[rows],), tie_weights=False)
        assert torch.equal(found[rows], own)
        own = functional_call(encoder, state, (inputs[rows],), tie_weights=False)
        assert error(found[rows], own) <= 1e-6, "the order of a matrix in memory changes rounding"


def test_an_experts_entries_come_back_to_the_bit() -> None:
    """Without it rounding or the order of a matrix would be lost in the stack."""
    _, states = experts(lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(700, 900)))
    stack = stacked(states)
    for name, state in zip(stack.experts, states, strict=True):
        found = stack.of(name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[k], state[k]) for k in state)


def test_a_coopvec_that_is_one_hot_to_rounding_takes_that_experts_weights() -> None:
    """Without it a softmax that is as sure as it can be would be mixed."""
    encoder, states = experts(_mlp)
    stack = stacked(states)
    inputs = normal((2, 4))
    beta = torch.softmax(torch.tensor([[40.0, 0.0, -3.0], [0.0, 30.0, 1.0]]), dim=1)
    assert float(beta.sum(dim=1).max()) == 1.0
    assert bool((beta != 0.0).all())
    with mixed_entries(stack) as mixed:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert not mixed
    own = [functional_call(encoder, stack.of(f"e{e}"), (inputs[e : e + 1],)) for e in (0, 1)]
    assert torch.equal(found, torch.cat(own))


# ---------------------------------------------------------------- equal CoopVecs


def test_samples_with_equal_coopvecs_run_together() -> None:
    """Without it the granularities `task` and `global` would mix a network for every query."""
    encoder, states = experts(Counted)
    inputs, beta = normal((12, 4)), coopvecs(2, 3)[[0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0]]
    assert isinstance(encoder, Counted)
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert encoder.calls == [6], "two networks side by side, with six queries each"
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_one_coopvec_for_all_is_one_network() -> None:
    """Without it the granularity `global` would cost a network per batch of queries."""
    encoder, states = experts(Counted)
    inputs, beta = normal((10, 4)), coopvecs(1, 3).expand(10, -1)
    assert isinstance(encoder, Counted)
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows], batch_size=4)
    assert encoder.calls == [4, 4, 2]
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_one_hot_queries_of_an_expert_run_together() -> None:
    """Without it hard routing would run its queries one by one."""
    encoder, states = experts(Counted)
    inputs, beta = normal((9, 4)), torch.eye(3)[[1, 1, 0, 1, 1, 0, 0, 1, 0]]
    assert isinstance(encoder, Counted)
    merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert sorted(encoder.calls) == [4, 5]


# ---------------------------------------------------------------- absent experts


@pytest.mark.parametrize("alike", [False, True])
def test_an_absent_expert_is_left_out_of_the_mixture(alike: bool) -> None:
    """Without it a client that shared nothing would take part with zeros, or shift the others."""
    encoder, states = _partly_alike() if alike else experts(_mlp)
    stack = ExpertStack(stacked(states).shapes, ("absent", "e0", "gone", "e2"))
    stack.put("e2", states[2])
    stack.put("e0", states[0])
    assert stack.present == ("e0", "e2")
    inputs, beta = normal((6, 4)), coopvecs(6, 2)
    beta[5] = torch.tensor([0.0, 1.0])
    with mixed_entries(stack) as mixed:
        found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    present = [states[0], states[2]]
    assert mixed == set(stack.shapes) - set(SHARED if alike else ())
    assert error(found, slowly(encoder, present, beta, inputs)) <= EXACT
    with torch.no_grad():
        at_once = superposed(encoder, stack, beta, inputs)
    assert error(at_once, slowly(encoder, present, beta, inputs)) <= EXACT
