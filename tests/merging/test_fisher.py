"""Diagonal Fisher information, against a loop of backward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import RunError
from neulig_fl.merging import fisher
from neulig_fl.models.families import open_family

MODELS = ("micro-vit", "micro-rn")
Arrays = dict[str, NDArray[np.float32]]


def encoder(name: str) -> nn.Module:
    """A bundled model."""
    return open_family(Model(name=name), 0).encoder()


def images(count: int = 3) -> Tensor:
    """Random inputs."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def head(classes: int = 4, scale: float = 1.0) -> Tensor:
    """Random text features; the larger their scale, the surer the model."""
    return scale * torch.randn(classes, 128, generator=torch.Generator().manual_seed(4))


def slow(network: nn.Module, inputs: Tensor, text: Tensor) -> dict[str, Tensor]:
    """An example and a class at a time, by torch's own backward pass, float64."""
    network = network.double().requires_grad_(True)
    parameters = dict(network.named_parameters())
    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for one in inputs.double():
        features = network(one[None])[0]
        likelihood = torch.log_softmax(text.double() @ (features / features.norm()), dim=0)
        for label in range(len(text)):
            gradients = torch.autograd.grad(
                likelihood[label], list(parameters.values()), retain_graph=True
            )
            share = float(likelihood[label].detach().exp()) / len(inputs)
            for name, value in zip(parameters, gradients, strict=True):
                found[name] += share * value**2
    return found


def near(found: NDArray[np.float32], wanted: Tensor) -> bool:
    """Equal to rounding, in relation to the largest number."""
    assert found.shape == tuple(wanted.shape)
    assert found.dtype == np.float32
    return float(np.abs(found - wanted.numpy()).max()) <= 1e-4 * float(wanted.abs().max())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [None, 3])
def test_it_is_that_of_a_loop_of_backward_passes(name: str, chunk: int | None) -> None:
    """Parameters would be merged by something else than the model's own information on them."""
    floor = 1e-9
    found = fisher.measured(
        encoder(name), images(), head(), floor=floor, chunk=chunk, normalise=False
    )
    network = encoder(name)
    state = network.state_dict()
    for entry, value in slow(network, images(), head()).items():
        wanted = value.clamp_min(floor)
        assert near(found[f"fisher:{entry}"], wanted), entry
        assert near(found[f"moment:{entry}"], wanted * state[entry].double()), entry


@pytest.mark.parametrize("name", MODELS)
def test_the_layout_is_what_is_measured(name: str) -> None:
    """A client's record would have another size than the server expects, and be refused."""
    family = open_family(Model(name=name), 0)
    found = fisher.measured(family.encoder(), images(1), head())
    wanted = fisher.layout(family.entries())

    assert list(found) == list(wanted)
    assert {k: v.shape for k, v in found.items()} == wanted


def parts(found: Arrays) -> NDArray[np.float64]:
    """All information on entries that have a gradient, as one vector."""
    kept = [v.flatten() for k, v in found.items() if k.startswith("fisher:") and "running" not in k]
    return np.concatenate(kept).astype(np.float64)


def test_information_has_length_1_and_is_in_proportion() -> None:
    """A model that is unsure everywhere would outweigh all others."""
    plain, whole = (
        fisher.measured(encoder("micro-rn"), images(), head(), normalise=n) for n in (False, True)
    )
    norm = np.linalg.norm(parts(plain))
    assert np.linalg.norm(parts(whole)) == pytest.approx(1.0, rel=1e-5)
    assert norm != pytest.approx(1.0, rel=0.1)
    assert np.allclose(parts(whole) * norm, parts(plain), rtol=1e-5, atol=0)
    moments = [whole[k.replace("fisher:", "moment:")] / v for k, v in whole.items() if k[0] == "f"]
    state = [v.numpy() for v in encoder("micro-rn").state_dict().values() if v.is_floating_point()]
    assert all(np.allclose(m, v, rtol=1e-5) for m, v in zip(moments, state, strict=True))


def test_running_statistics_weigh_one() -> None:
    """They have no gradient, and would be divided by 0 or be lost."""
    found = fisher.measured(encoder("micro-rn"), images(1), head())
    running = [k for k in found if k.startswith("fisher:") and "running" in k]
    assert running
    assert all((found[k] == 1.0).all() for k in running)


def test_nothing_is_below_the_floor() -> None:
    """Parameters that no prediction depends on would be divided by 0."""
    found = fisher.measured(
        encoder("micro-vit"), images(1), head(scale=1e3), floor=1e-2, normalise=False
    )
    assert float(parts(found).min()) == pytest.approx(1e-2)
    default = fisher.measured(encoder("micro-vit"), images(1), head(), normalise=False)
    assert float(parts(default).min()) == pytest.approx(1e-6)


def test_a_sure_model_has_little_information() -> None:
    """Where one class has all the probability, nothing would be left to learn."""
    unsure, sure = (
        fisher.measured(encoder("micro-vit"), images(1), head(scale=s), 1e-30, normalise=False)
        for s in (1.0, 1e4)
    )
    assert parts(sure).max() < 1e-6 * parts(unsure).max()


class Idle(nn.Module):
    """A parameter on which no output depends."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(128, 3))
        self.idle = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        """(images, 128)."""
        return x.mean(dim=(2, 3)) @ self.weight.T


def test_a_parameter_that_does_nothing_has_the_floor() -> None:
    """A layer that is not used would stop the client."""
    found = fisher.measured(Idle().eval(), images(2), head(), normalise=False)
    assert (found["fisher:idle"] == np.float32(1e-6)).all()
    assert float(found["fisher:weight"].max()) > 1e-6


def test_the_encoder_stays_as_it_is() -> None:
    """A client's expert would not be the same after it was measured."""
    network = encoder("micro-rn")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fisher.measured(network, images(1), head())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_training_mode_and_no_examples_are_refused() -> None:
    """BatchNorm would be changed by being measured, or 0 be divided by 0."""
    with pytest.raises(RunError, match="an encoder in training mode"):
        fisher.measured(encoder("micro-rn").train(), images(2), head())
    with pytest.raises(RunError, match="no examples"):
        fisher.measured(encoder("micro-rn"), images(0), head())
