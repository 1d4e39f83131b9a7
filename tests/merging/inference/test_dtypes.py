"""Half-precision encoders: their dtype comes out, and experts are added up in float32."""

from __future__ import annotations

import copy

import pytest
import torch
from superposed_cases import coopvecs, error, experts, normal, slowly, stacked
from superposed_modules import OPERATIONS, made
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.merging.inference import ExpertStack, Merging, costs, merged_outputs, superposed
from neulig_fl.models.families import open_family

HALVES = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Largest relative error of rounding a number."""


def _tower() -> nn.Module:
    return open_family(Model(name="tiny-vit", pretrained="none"), 0).encoder()


def _halved(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(encoder).to(dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_in_half_precision_is_right_to_its_rounding(
    name: str, dtype: torch.dtype
) -> None:
    """Without it an encoder of half the size would give other outputs, or none."""
    module, shape = made(name)
    encoder, states = experts(lambda: module)
    beta, inputs = coopvecs(4, 3), normal((4, *shape))
    with torch.no_grad():
        found = superposed(_halved(encoder, dtype), stacked(states), beta, inputs.to(dtype))
    assert found.dtype == dtype
    slow = slowly(encoder, states, beta, inputs)
    assert error(found, slow) <= 16 * HALVES[dtype]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("method", ["batched", "one-at-a-time"])
def test_a_tower_in_half_precision(dtype: torch.dtype, method: str) -> None:
    """Without it a user's checkpoint in half precision could not be merged."""
    encoder, states = experts(_tower, spread=0.05)
    beta, inputs = coopvecs(4, 3), normal((4, 3, 32, 32))
    beta[3] = torch.eye(3)[1]
    found = merged_outputs(
        _halved(encoder, dtype),
        stacked(states),
        beta,
        lambda rows: inputs[rows].to(dtype),
        merging=Merging(method=method),  # type: ignore[arg-type]
    )
    assert found.dtype == torch.float32
    assert error(found, slowly(encoder, states, beta, inputs)) <= 32 * HALVES[dtype]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", HALVES)
def test_blocks_of_a_matrix_add_up_in_float32(
    dtype: torch.dtype, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every block of a large layer would add a rounding of the whole output."""
    encoder, states = experts(lambda: nn.Linear(512, 6, bias=bias))
    beta, inputs = coopvecs(4, 3), normal((4, 512))
    slow = slowly(encoder, states, beta, inputs)
    errors = []
    for least in (512, 2):
        monkeypatch.setattr(costs, "BLOCK_ENTRIES", 1)
        monkeypatch.setattr(costs, "LEAST_INPUTS", least)
        found = superposed(_halved(encoder, dtype), stacked(states), beta, inputs.to(dtype))
        errors.append(error(found, slow))
    assert errors[1] <= 2 * errors[0] <= 8 * HALVES[dtype]


CANCELLING = {
    "multiplied": lambda: nn.Linear(4, 3, bias=False),
    "convolved": lambda: nn.Conv1d(4, 3, 1, bias=False),
    "mixed whole": lambda: nn.LayerNorm(4, bias=False),
}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", CANCELLING)
def test_experts_are_added_up_in_float32(name: str, dtype: torch.dtype) -> None:
    """Without it experts with large entries of both signs would cancel to a few digits."""
    encoder, states = experts(CANCELLING[name])
    far = {k: 1000.0 * normal(tuple(v.shape), 5) for k, v in states[0].items()}
    states = [
        {k: s[k] + sign * far[k] for k in s} for sign, s in zip((1, -1), states, strict=False)
    ]
    beta = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    inputs = normal((2, 4, 2) if name == "convolved" else (2, 4))
    slow = slowly(encoder, states, beta, inputs)
    with torch.no_grad():
        found = superposed(_halved(encoder, dtype), stacked(states), beta, inputs.to(dtype))
    assert error(found, slow) <= 16 * HALVES[dtype]
    rounded = [{k: v.to(dtype).float() for k, v in s.items()} for s in states]
    far_off = slowly(encoder, rounded, beta, inputs)
    assert error(far_off, slow) > 50 * HALVES[dtype], "this case would not show it"


def test_gradients_in_half_precision_are_right_to_its_rounding() -> None:
    """Without it Portland could not be trained through an encoder of half the size."""
    encoder, states = experts(_tower, spread=0.05)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        beta = coopvecs(3, 3).requires_grad_()
        inputs = normal((3, 3, 32, 32)).to(dtype)
        output = superposed(_halved(encoder, dtype), stacked(states), beta, inputs)
        found += torch.autograd.grad(output.float().square().sum(), [beta])
    assert found[1].dtype == torch.float32
    assert error(found[1], found[0]) <= 0.1


def _alike(encoder: nn.Module, stack: ExpertStack, beta: Tensor, inputs: Tensor) -> list[Tensor]:
    """The outputs and both gradients, wherever the encoder is, on the CPU."""
    device = next(encoder.parameters()).device
    asked = [each.to(device).requires_grad_() for each in (beta, inputs)]
    found = superposed(encoder, stack, *asked)
    assert found.device == device
    return [t.cpu() for t in (found.detach(), *torch.autograd.grad(found.sum(), asked))]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("name", ["tiny-vit", "micro-vit", "micro-rn"])
def test_a_gpu_gives_what_a_cpu_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the engine would be right on the machines that it was written on only."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    encoder, states = experts(
        lambda: open_family(Model(name=name, pretrained="none"), 0).encoder(), spread=0.05
    )
    stack, beta, inputs = stacked(states), coopvecs(5, 3), normal((5, 3, 32, 32))
    beta[4] = torch.eye(3)[2]
    there = copy.deepcopy(encoder).cuda()
    both = [_alike(each, stack, beta, inputs) for each in (encoder, there)]
    for here, elsewhere in zip(*both, strict=True):
        assert error(elsewhere, here) <= 1e-3
    outputs = [
        merged_outputs(each, stack, beta, lambda rows: inputs[rows]) for each in (encoder, there)
    ]
    assert error(outputs[1], outputs[0]) <= 1e-3
