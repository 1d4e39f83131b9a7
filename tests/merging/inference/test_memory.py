"""How much memory mixed weights take, and that everything is left as it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from superposed_cases import EXACT, coopvecs, error, experts, normal, slowly, stacked
from superposed_modules import OPERATIONS, Does
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from neulig_fl.core.errors import NotCovered
from neulig_fl.merging.inference import ExpertStack, Merging, kernels, merged_outputs, superposed

MIB = 2**20


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(samples, entries) of everything that is mixed block by block."""
    found: list[tuple[int, int]] = []
    honest = kernels.mix

    def mix(beta: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
        result = honest(beta, values, out)
        found.append((result.shape[0], result.shape[1]))
        return result

    monkeypatch.setattr(kernels, "mix", mix)
    return found


Made = tuple[Callable[[], nn.Module], tuple[int, ...]]
LAYERS: dict[str, Made] = {
    "linear": (lambda: nn.Linear(256, 256), (256,)),
    "single convolutions": (lambda: nn.Conv2d(64, 64, 3, padding=1), (64, 9, 9)),
    "columns": (lambda: nn.Conv2d(64, 64, 3, padding=1), (64, 4, 4)),
    "pointwise": (lambda: nn.Conv2d(256, 256, 1), (256, 3, 3)),
    "attention": (lambda: OPERATIONS["attention"](32)[0], (5, 128)),
}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_mixed_weights_stay_within_the_buffer(
    name: str, gradients: bool, mixed: list[tuple[int, int]]
) -> None:
    """Without it a large batch could end a run for want of memory."""
    make, shape = LAYERS[name]
    encoder, states = experts(make, 2)
    beta, inputs = coopvecs(16, 2).requires_grad_(gradients), normal((16, *shape))
    found = superposed(encoder, stacked(states), beta, inputs, Merging(buffer_mib=1))
    if gradients:
        found.sum().backward()
    assert max(4 * samples * entries for samples, entries in mixed) <= MIB
    assert max(samples for samples, _ in mixed) > 1, "the buffer is not made use of"
    assert error(found.detach(), slowly(encoder, states, beta.detach(), inputs)) <= EXACT


def test_a_larger_buffer_holds_more_samples(mixed: list[tuple[int, int]]) -> None:
    """Without it `buffer_mib` would be read and not used."""
    encoder, states = experts(LAYERS["linear"][0], 2)
    beta, inputs = coopvecs(16, 2), normal((16, 256))
    most = []
    for mib in (1, 2, 3):
        mixed.clear()
        superposed(encoder, stacked(states), beta, inputs, Merging(buffer_mib=mib))
        most.append(max(samples for samples, _ in mixed))
    assert most == [4, 8, 8], "16 samples in steps of nearly the same length"


def test_one_sample_is_mixed_even_where_the_buffer_is_too_small(
    mixed: list[tuple[int, int]],
) -> None:
    """Without it a layer larger than the buffer could not be run at all."""
    encoder, states = experts(lambda: nn.Conv2d(256, 256, 3, padding=1), 2)
    beta, inputs = coopvecs(3, 2), normal((3, 256, 9, 9))
    found = superposed(encoder, stacked(states), beta, inputs, Merging(buffer_mib=1))
    assert mixed == 3 * [(1, 256 * 256 * 9)]
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


class _Made(TorchDispatchMode):
    """The largest tensor that any operation makes, bytes; views of the stack are none."""

    def __init__(self, stack: ExpertStack) -> None:
        super().__init__()
        self.own = stack.matrix.untyped_storage().data_ptr()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation, all samples together."""
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, Tensor) and each.untyped_storage().data_ptr() != self.own:
                self.largest = max(self.largest, each.untyped_storage().nbytes())
        return found


BIG: dict[str, Made] = {
    "linear": (lambda: nn.Sequential(*(nn.Linear(512, 512) for _ in range(4))), (512,)),
    "convolution": (
        lambda: nn.Sequential(*(nn.Conv2d(128, 128, 3, padding=1) for _ in range(6))),
        (128, 3, 3),
    ),
}


@pytest.mark.parametrize("where", ["in memory", "of a matrix that was given"])
@pytest.mark.parametrize("name", BIG)
def test_the_stack_is_never_copied(name: str, where: str) -> None:
    """Without it experts that just fit into memory would not fit any more."""
    make, shape = BIG[name]
    encoder, states = experts(make, 8, spread=0.02)
    stack = stacked(states)
    if where != "in memory":
        given = torch.zeros_like(stack.matrix)
        stack = ExpertStack(stack.shapes, stack.experts, given)
        for expert, state in zip(stack.experts, states, strict=True):
            stack.put(expert, state)
        assert stack.matrix is given
    inputs, beta = normal((4, *shape)), coopvecs(4, 8)
    with _Made(stack) as made:
        found = merged_outputs(
            encoder, stack, beta, lambda rows: inputs[rows], merging=Merging(buffer_mib=1)
        )
    assert 0 < made.largest <= 2 * MIB
    assert stack.matrix.nbytes > 12 * made.largest
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


class _Fails(nn.Module):
    """Stops in the middle."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:  # noqa: ARG002  # what a module has
        """No output."""
        raise self.error


STOPS: dict[str, tuple[Callable[[], nn.Module], type[BaseException], str]] = {
    "an error of the model": (lambda: _Fails(ValueError("of its own")), ValueError, "of its own"),
    "a runtime error": (lambda: _Fails(RuntimeError("no memory")), RuntimeError, "no memory"),
    "what is not covered": (
        lambda: Does(lambda m, x: torch.einsum("bi,oi->bo", x, m.w), w=torch.ones(2, 8)),
        NotCovered,
        "einsum",
    ),
    "an interruption": (lambda: _Fails(KeyboardInterrupt("enough")), KeyboardInterrupt, "enough"),
}


@pytest.mark.parametrize("name", STOPS)
def test_the_encoder_is_whole_after_an_error(name: str) -> None:
    """Without it an encoder would be left with parameters that have no values."""
    make, kind, words = STOPS[name]
    encoder, states = experts(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), make(), nn.Linear(8, 2))
    )
    before = dict(encoder.named_parameters()) | dict(encoder.named_buffers())
    values = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(kind, match=words) as caught:
        superposed(encoder, stacked(states), coopvecs(3, 3), normal((3, 4)))
    assert caught.type is kind
    after = dict(encoder.named_parameters()) | dict(encoder.named_buffers())
    assert after.keys() == before.keys()
    assert all(after[k] is before[k] for k in before)
    assert all(torch.equal(v, values[k]) for k, v in encoder.state_dict().items())
    encoder[2] = nn.Identity()
    assert encoder(normal((3, 4))).shape == (3, 2)
