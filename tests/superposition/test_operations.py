"""Every covered operation against the slow, obvious way: a network per sample, its state loaded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from superposed_cases import EXACT, coopvecs, error, experts, normal, slowly, stacked
from superposed_modules import CONVOLUTIONS, OPERATIONS, Case
from torch import nn

from neulig_fl.superposition import costs, merged_outputs, panels, superposed

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
        patch.setattr(costs, "ROWS_ENTRIES", 32)
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


PANELLED: dict[str, Case] = {
    "linear": lambda n: (nn.Linear(2 * n, 33 + n), (2 * n,)),
    "linear of rows": lambda n: (nn.Linear(2 * n, 17), (3, 2 * n)),
    "attention": lambda n: OPERATIONS["attention"](4 * n),
    "x @ projection": lambda n: OPERATIONS["x @ projection"](10 * n),
    "one output": lambda n: (nn.Linear(3 * n, 1), (5, 3 * n)),
}


@pytest.mark.parametrize("name", PANELLED)
@settings(max_examples=8, deadline=None)
@given(size=SIZES, count=EXPERTS, samples=SAMPLES, seed=SEEDS)
def test_a_matrix_in_several_panels_is_the_same_matrix(
    name: str, size: int, count: int, samples: int, seed: int
) -> None:
    """Without it large layers, of which no tiny model has one, would have their rows mixed up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "ENTRIES", 16)
        patch.setattr(panels, "LEAST_WIDTH", 16)
        assert _error(PANELLED[name], size, count, samples, seed) <= EXACT


@given(outputs=st.integers(1, 120), inputs=st.integers(1, 9), seed=SEEDS)
def test_panels_hold_a_matrix_and_give_it_back(outputs: int, inputs: int, seed: int) -> None:
    """Without it a merged network that is built as a whole would be another one."""
    weight, flat = normal((outputs, inputs), seed), torch.empty(outputs * inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "ENTRIES", 64)
        patch.setattr(panels, "LEAST_WIDTH", 16)
        panels.fold(weight, flat)
        places = list(panels.widths((outputs, inputs)))
        assert torch.equal(panels.unfold(flat, (outputs, inputs)), weight)
    assert [p.start for p in places] == [0, *(p.stop for p in places[:-1])]
    assert places[-1].stop == outputs
    assert sorted(flat.tolist()) == sorted(weight.flatten().tolist())


def test_a_narrow_last_panel_is_among_the_tested() -> None:
    """Without it the tests above could all have panels of one width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "ENTRIES", 16)
        patch.setattr(panels, "LEAST_WIDTH", 16)
        found = [p.stop - p.start for p in panels.widths((34, 2))]
    assert found == [16, 16, 2]
