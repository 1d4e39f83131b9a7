"""Every covered operation against the slow, obvious way: a network per sample, its state loaded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from superposed_cases import EXACT, coopvecs, error, experts, normal, slowly, stacked
from superposed_modules import CONVOLUTIONS, OPERATIONS, Case
from torch import nn

from neulig_fl.merging.inference import costs, merged_outputs, superposed
from neulig_fl.merging.inference.kernels import Linear
from neulig_fl.merging.inference.layout import laid_out

SIZES = st.integers(1, 3)
EXPERTS = st.integers(1, 6)
SAMPLES = st.integers(1, 5)
SEEDS = st.integers(0, 2**31)
SHARPNESS = st.sampled_from([0.1, 2.0, 20.0])


def _error(
    case: Case, size: int, count: int, samples: int, seed: int, sharpness: float = 2.0
) -> float:
    shape: tuple[int, ...] = ()

    def make() -> nn.Module:
        nonlocal shape
        module, shape = case(size)
        return module

    encoder, states = experts(make, count, seed)
    inputs, beta = normal((samples, *shape), seed), coopvecs(samples, count, seed, sharpness)
    with torch.no_grad():
        found = superposed(encoder, stacked(states), beta, inputs)
    return error(found, slowly(encoder, states, beta, inputs))


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=12, deadline=None)
@given(size=SIZES, count=EXPERTS, samples=SAMPLES, seed=SEEDS, sharpness=SHARPNESS)
def test_an_operation_is_that_of_each_samples_own_network(
    name: str, size: int, count: int, samples: int, seed: int, sharpness: float
) -> None:
    """Without it per-sample merging would not be the paper's for models that do this."""
    assert _error(OPERATIONS[name], size, count, samples, seed, sharpness) <= EXACT


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_the_same_on_many_queries_with_equal_coopvecs(name: str) -> None:
    """Without it queries that share a network, or that have an expert's own, would get another."""
    shape: tuple[int, ...] = ()

    def make() -> nn.Module:
        nonlocal shape
        module, shape = OPERATIONS[name](2)
        return module

    encoder, states = experts(make)
    inputs, beta = normal((7, *shape)), coopvecs(3, 3)[[0, 1, 2, 0, 1, 2, 2]]
    beta[5:] = torch.eye(3)[2]
    found = merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def _ways(name: str) -> list[str]:
    """The ways that a convolution can go: columns are cut out of a plane, for all channels."""
    layer = CONVOLUTIONS[name](1)[0]
    plane = isinstance(layer, nn.Conv2d) or set(layer.kernel_size) == {1}
    return ["grouped", "single"] + ["columns"] * (plane and layer.groups == 1)


WAYS = [(name, way) for name in CONVOLUTIONS for way in _ways(name)]


@pytest.mark.parametrize(("name", "way"), WAYS)
@settings(max_examples=6, deadline=None)
@given(size=SIZES, count=EXPERTS, samples=SAMPLES, seed=SEEDS)
def test_a_convolution_is_the_same_whichever_way_it_goes(
    name: str, way: str, size: int, count: int, samples: int, seed: int
) -> None:
    """Without it a result would depend on which way was measured to be fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "way", lambda layer, positions, cuda: way)
        patch.setattr(costs, "BLOCK_ENTRIES", 32)
        assert _error(CONVOLUTIONS[name], size, count, samples, seed) <= EXACT


def test_a_spectral_norm_is_that_of_the_mixed_matrix() -> None:
    """Without it a parametrised layer would divide by the experts' norms, not its own."""
    encoder, states = experts(
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), spread=0.05
    )
    inputs, beta = normal((5, 4)), coopvecs(5, 3)
    found = superposed(encoder, stacked(states), beta, inputs)
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_convolutions_of_models_go_all_three_ways() -> None:
    """Without it a way could be tested that no layer takes, or one taken that is not."""

    def way(size: int, *args: int, **options: int) -> str:
        found: list[str] = []
        honest = costs.way

        def seen(*asked: object) -> str:
            found.append(honest(*asked))  # type: ignore[arg-type]
            return found[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(costs, "way", seen)
            encoder, states = experts(lambda: nn.Conv2d(*args, **options), 2)  # type: ignore[arg-type]
            inputs, beta = normal((2, args[0], size, size)), coopvecs(2, 2)
            slow = slowly(encoder, states, beta, inputs)
            assert error(superposed(encoder, stacked(states), beta, inputs), slow) <= EXACT
        return found[0]

    assert way(14, 8, 16, 1) == "columns"
    assert way(16, 3, 16, 8, stride=8) == "columns"
    assert way(7, 64, 64, 3, padding=1) == "columns"
    assert way(14, 64, 64, 3, padding=1) == "grouped"
    assert way(14, 32, 32, 3, padding=1, groups=32) == "grouped"
    assert way(14, 256, 256, 3, padding=1) == "single"


BLOCKED: dict[str, Case] = {
    "linear": lambda n: (nn.Linear(8 + n, 3 * n), (8 + n,)),
    "linear of rows": lambda n: (nn.Linear(16 + n, 5), (3, 16 + n)),
    "without bias": lambda n: (nn.Linear(8 * n, 3, bias=False), (2, 8 * n)),
    "attention": lambda n: OPERATIONS["attention"](4 * n),
    "x @ projection": lambda n: OPERATIONS["x @ projection"](10 * n),
    "one input": lambda n: (nn.Linear(1, 3 * n), (5, 1)),
}


@pytest.mark.parametrize("name", BLOCKED)
@settings(max_examples=6, deadline=None)
@given(size=SIZES, count=EXPERTS, samples=SAMPLES, seed=SEEDS)
def test_a_matrix_in_several_blocks_is_the_same_matrix(
    name: str, size: int, count: int, samples: int, seed: int
) -> None:
    """Without it large layers, of which no tiny model has one, would leave out inputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "BLOCK_ENTRIES", 16)
        patch.setattr(costs, "LEAST_INPUTS", 3)
        assert _error(BLOCKED[name], size, count, samples, seed) <= EXACT


def test_a_short_last_block_is_among_the_tested() -> None:
    """Without it the test above could have whole layers for blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "BLOCK_ENTRIES", 16)
        patch.setattr(costs, "LEAST_INPUTS", 3)
        parts = list(Linear((5, 8)).parts(torch.ones(2, 8), torch.ones(3, 40), 4 * 15))
    assert {(p.stop - p.start) for _, (_, p), _, _ in parts} == {2, 3}
    assert len({(s.start, p.start) for s, (_, p), _, _ in parts}) == len(parts) == 6


@given(outputs=st.integers(1, 120), inputs=st.integers(1, 9), seed=SEEDS)
def test_the_stack_gives_back_a_matrix_that_it_holds(outputs: int, inputs: int, seed: int) -> None:
    """Without it a merged network that is built as a whole would be another one."""
    weight = normal((outputs, inputs), seed)
    stack = stacked([{"weight": weight}])
    (row,) = stack.matrix
    assert torch.equal(laid_out(row, (outputs, inputs)), weight)
    found = stack.entry("weight", row)
    assert torch.equal(found, weight)
    assert found.is_contiguous()
    assert torch.equal(row.view(inputs, outputs), weight.T)
