"""BatchNorm's statistics: mixed, or estimated again on calibration inputs."""

from __future__ import annotations

import copy

import pytest
import torch
from superposed_cases import (
    EXACT,
    coopvecs,
    error,
    experts,
    merged_state,
    normal,
    perturbed,
    slowly,
    stacked,
)
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.merging.inference import Merging, merged_outputs, recalibrated
from neulig_fl.models.families import open_family

IMAGE = (2, 6, 6)


def _network() -> nn.Module:
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.BatchNorm2d(3, affine=False)]
    return nn.Sequential(*layers, nn.Flatten())


def _micro_rn() -> nn.Module:
    return open_family(Model(name="micro-rn", pretrained="bundled"), 0).encoder()


def _estimated_by_torch(
    encoder: nn.Module, state: dict[str, Tensor], calibration: Tensor
) -> nn.Module:
    """Torch's own way: reset the statistics, then one pass in which BatchNorm alone trains."""
    network = copy.deepcopy(encoder)
    network.load_state_dict({**network.state_dict(), **state})
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    network(calibration)
    return network.eval()


def test_statistics_are_estimated_as_torch_does_it() -> None:
    """Without it `batch_norm: re-estimate` would normalise by other statistics."""
    encoder = _micro_rn()
    stack = stacked(perturbed(encoder, 3, 0, 0.05))
    merged = stack.entries(stack.mixtures(coopvecs(1, 3))[0])
    kept = {k: v.clone() for k, v in merged.items()}
    calibration = normal((8, 3, 32, 32))
    found = recalibrated(encoder, merged, calibration)
    expected = _estimated_by_torch(encoder, merged, calibration).state_dict()
    statistics = [k for k in found if k.endswith(("running_mean", "running_var"))]
    assert len(statistics) >= 20
    for name in found:
        assert torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5), name
        assert torch.equal(merged[name], kept[name]), f"{name} of the argument was changed"
    assert not any(torch.equal(found[name], kept[name]) for name in statistics)


@pytest.mark.parametrize("method", ["batched", "one-at-a-time"])
def test_merged_outputs_are_those_of_recalibrated_networks(method: str) -> None:
    """Without it the statistics would be estimated but not used."""
    encoder, states = experts(_network)
    inputs, beta, calibration = normal((6, *IMAGE)), coopvecs(6, 3), normal((9, *IMAGE), 8)
    beta[4], beta[5] = beta[1], torch.eye(3)[2]
    merging = Merging(method=method)  # type: ignore[arg-type]
    found = merged_outputs(
        encoder, stacked(states), beta, lambda rows: inputs[rows], calibration, merging=merging
    )
    networks = [
        _estimated_by_torch(encoder, merged_state(states, weights), calibration) for weights in beta
    ]
    slow = torch.cat([net(x[None]) for net, x in zip(networks, inputs, strict=True)])
    assert error(found, slow) <= EXACT
    plain = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert error(plain, slow) > 1e-2
    assert error(plain, slowly(encoder, states, beta, inputs)) <= EXACT


@pytest.mark.parametrize("alike", ["running_", "1."])
def test_statistics_that_experts_share_are_estimated_as_well(alike: str) -> None:
    """Without it experts that kept the first model's BatchNorm could not be calibrated."""
    encoder, states = experts(_network)
    for state in states[1:]:
        state.update({k: v.clone() for k, v in states[0].items() if alike in k})
    stack = stacked(states)
    matrix = stack.matrix.clone()
    inputs, beta, calibration = normal((4, *IMAGE)), coopvecs(4, 3), normal((9, *IMAGE), 8)
    found = [
        merged_outputs(
            encoder, stack, beta, lambda rows: inputs[rows], calibration, merging=merging
        )
        for merging in (Merging(), Merging(method="one-at-a-time"))
    ]
    assert error(*found) <= EXACT
    assert torch.equal(stack.matrix, matrix)


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_residual_network_is_the_same_either_way(calibrated: bool) -> None:
    """Without it BatchNorm would be right by itself and wrong in a network."""
    encoder = _micro_rn()
    stack = stacked(perturbed(encoder, 3, 0, 0.05))
    inputs, beta = normal((5, 3, 32, 32)), coopvecs(5, 3)
    beta[4] = beta[1]
    calibration = normal((6, 3, 32, 32), 8) if calibrated else None
    found = [
        merged_outputs(
            encoder, stack, beta, lambda rows: inputs[rows], calibration, merging=merging
        )
        for merging in (Merging(), Merging(method="one-at-a-time"))
    ]
    assert error(*found) <= EXACT


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("method", ["batched", "one-at-a-time"])
def test_the_encoder_stays_as_it_was_and_in_eval_mode(calibrated: bool, method: str) -> None:
    """Without it one merge would change the next one's network or BatchNorm's statistics."""
    encoder, states = experts(_network)
    encoder.train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    own = {id(p) for p in (*encoder.parameters(), *encoder.buffers())}
    stack = stacked(states)
    matrix = stack.matrix.clone()
    inputs = normal((6, *IMAGE))
    calibration = normal((4, *IMAGE), 8) if calibrated else None
    merging = Merging(method=method)  # type: ignore[arg-type]
    merged_outputs(
        encoder, stack, coopvecs(6, 3), lambda rows: inputs[rows], calibration, merging=merging
    )
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert {id(p) for p in (*encoder.parameters(), *encoder.buffers())} == own
    assert torch.equal(stack.matrix, matrix)
    momenta = [m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == [0.1, 0.1]


def test_a_layer_without_statistics_has_nothing_to_estimate() -> None:
    """Without it BatchNorm that never keeps statistics would end a merge."""
    encoder, states = experts(
        lambda: nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten())
    )
    stack = stacked(states)
    state = stack.entries(stack.mixtures(coopvecs(1, 3))[0])
    found = recalibrated(encoder, state, normal((3, *IMAGE)))
    assert all(torch.equal(found[k], state[k]) for k in state)
