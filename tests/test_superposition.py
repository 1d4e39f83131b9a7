"""Merged inference against the slow, obvious way: build a network per query and load its state."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from neulig_fl.families import open_family
from neulig_fl.scenario import Model
from neulig_fl.superposition import ExpertStack, merged_outputs, recalibrated

States = list[dict[str, Tensor]]


class Attention(nn.Module):
    """Self-attention over the rows of its input; packed weights and an output projection."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.inner(x, x, x, need_weights=False)[0].mean(dim=1)


class Odd(nn.Module):
    """A bare parameter, a scalar, a buffer that is saved, one that is not, and an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 4))
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.register_buffer("shift", torch.randn(3))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_buffer("count", torch.tensor(2))

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.scale * x @ self.matrix.T + self.shift * self.scratch * self.count


class Tied(nn.Module):
    """One module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.layer(torch.tanh(self.layer(x)))


class Recurrent(nn.Module):
    """A GRU's last output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.gru(x)[0][:, -1]


IMAGE, VECTOR, ROWS = (2, 6, 6), (4,), (5, 4)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(4, 3), VECTOR),
    "no bias": (lambda: nn.Linear(4, 3, bias=False), VECTOR),
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)), VECTOR),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)), VECTOR),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten()),
        IMAGE,
    ),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.Flatten()), IMAGE),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()),
        IMAGE,
    ),
    "batch norm without weights": (
        lambda: nn.Sequential(nn.BatchNorm2d(2, affine=False), nn.Conv2d(2, 1, 6), nn.Flatten()),
        IMAGE,
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2)), VECTOR),
    "attention": (Attention, ROWS),
    "recurrent": (Recurrent, ROWS),
    "odd": (Odd, VECTOR),
    "tied": (Tied, VECTOR),
}


def _experts(
    make: Callable[[], nn.Module], count: int = 3, seed: int = 0
) -> tuple[nn.Module, States]:
    """A module, and states of its architecture with random entries (positive variances)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = make().eval().requires_grad_(False)
        states = []
        for _ in range(count):
            state = {
                k: v + 0.3 * torch.randn_like(v) if v.is_floating_point() else v.clone()
                for k, v in encoder.state_dict().items()
            }
            states.append({k: v.abs() + 0.5 if "var" in k else v for k, v in state.items()})
    return encoder, states


def _stack(states: States, names: tuple[str, ...] | None = None) -> ExpertStack:
    names = names or tuple(f"e{i}" for i in range(len(states)))
    shapes = {k: tuple(v.shape) for k, v in states[0].items() if v.is_floating_point()}
    stack = ExpertStack(shapes, names)
    for name, state in zip(names, states, strict=True):
        stack.put(name, state)
    return stack


def _coopvecs(queries: int, experts: int, seed: int = 1) -> Tensor:
    scores = 2 * torch.randn(queries, experts, generator=torch.Generator().manual_seed(seed))
    return torch.softmax(scores, dim=1)


def _merged_state(encoder: nn.Module, states: States, weights: Tensor) -> dict[str, Tensor]:
    return {
        k: sum(w * s[k] for w, s in zip(weights.tolist(), states, strict=True))  # type: ignore[misc]
        if v.is_floating_point()
        else v
        for k, v in encoder.state_dict().items()
    }


def _slowly(encoder: nn.Module, states: States, beta: Tensor, inputs: Tensor) -> Tensor:
    rows = []
    for weights, query in zip(beta, inputs, strict=True):
        network = copy.deepcopy(encoder)
        network.load_state_dict(_merged_state(encoder, states, weights))
        rows.append(network.eval()(query[None]))
    return torch.cat(rows)


def _error(found: Tensor, slow: Tensor) -> float:
    return float((found - slow).abs().max() / slow.abs().max())


def _inputs(shape: tuple[int, ...], queries: int = 6) -> Tensor:
    return torch.randn(queries, *shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", MODULES)
def test_every_layer_type_is_merged_as_if_one_query_at_a_time(name: str) -> None:
    """Without it per-sample merging would not be the paper's for some architecture."""
    make, shape = MODULES[name]
    encoder, states = _experts(make)
    inputs, beta = _inputs(shape), _coopvecs(6, 3)
    beta[4] = beta[1]
    found = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows])
    assert _error(found, _slowly(encoder, states, beta, inputs)) < 1e-4


@pytest.mark.parametrize("model", ["micro-vit", "micro-rn"])
def test_the_bundled_models_are_merged_as_if_one_query_at_a_time(model: str) -> None:
    """Without it the figures of the bundled models would be those of other networks."""
    family = open_family(Model(name=model, pretrained="none"), 0)
    encoder, states = _experts(family.encoder)
    inputs, beta = _inputs((3, 32, 32), 4), _coopvecs(4, 3)
    stack = _stack(states)
    assert stack.shapes == dict(family.entries())
    found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert _error(found, _slowly(encoder, states, beta, inputs)) < 1e-4


@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.integers(1, 4),
)
def test_any_mixture_of_equal_and_different_coopvecs(
    queries: int, experts: int, distinct: int, seed: int, batch_size: int
) -> None:
    """Without it queries that share a CoopVec could get one another's outputs."""
    encoder, states = _experts(MODULES["mlp"][0], experts)
    inputs = _inputs(VECTOR, queries)
    pick = torch.randint(distinct, (queries,), generator=torch.Generator().manual_seed(seed))
    beta = _coopvecs(distinct, experts, seed)[pick]
    done: list[int] = []
    found = merged_outputs(
        encoder, _stack(states), beta, lambda rows: inputs[rows], None, done.append, batch_size
    )
    assert _error(found, _slowly(encoder, states, beta, inputs)) < 1e-4
    assert sum(done) == queries


def test_more_networks_than_are_made_at_once() -> None:
    """Without it the seventeenth merged network would be another one."""
    encoder, states = _experts(MODULES["mlp"][0])
    inputs, beta = _inputs(VECTOR, 40), _coopvecs(40, 3)
    found = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows])
    assert _error(found, _slowly(encoder, states, beta, inputs)) < 1e-4


def test_no_query_gives_no_output() -> None:
    """Without it an empty task would end the run."""
    encoder, states = _experts(MODULES["linear"][0])
    found = merged_outputs(encoder, _stack(states), torch.zeros(0, 3), lambda rows: rows)
    assert len(found) == 0


def test_a_missing_expert_is_left_out_of_the_mixture() -> None:
    """Without it a client that shared nothing would take part with zeros, or shift the others."""
    encoder, states = _experts(MODULES["mlp"][0])
    stack = ExpertStack(_stack(states).shapes, ("e0", "absent", "e2"))
    stack.put("e2", states[2])
    stack.put("e0", states[0])
    assert stack.present == ("e0", "e2")
    inputs, beta = _inputs(VECTOR), _coopvecs(6, 2)
    found = merged_outputs(encoder, stack, beta, lambda rows: inputs[rows])
    assert _error(found, _slowly(encoder, [states[0], states[2]], beta, inputs)) < 1e-4


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_encoder_stays_as_it_was_and_in_eval_mode(calibrated: bool) -> None:
    """Without it one merge would change the next one's network or BatchNorm's statistics."""
    encoder, states = _experts(MODULES["batch norm"][0])
    encoder.train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    stack = _stack(states)
    matrix = stack.matrix.clone()
    inputs = _inputs(IMAGE)
    calibration = _inputs(IMAGE, 4) if calibrated else None
    merged_outputs(encoder, stack, _coopvecs(6, 3), lambda rows: inputs[rows], calibration)
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert torch.equal(stack.matrix, matrix)
    assert [m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)] == [0.1]


def test_dropout_never_acts() -> None:
    """Without it a merged model in training mode would give other outputs each time."""
    encoder, states = _experts(MODULES["dropout"][0])
    encoder.train()
    inputs, beta = _inputs(VECTOR), _coopvecs(6, 3)
    one = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows])
    two = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows])
    assert torch.equal(one, two)


# ---------------------------------------------------------------- BatchNorm


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
    family = open_family(Model(name="micro-rn", pretrained="none"), 0)
    encoder, states = _experts(family.encoder)
    merged = _stack(states).entries(_stack(states).mixtures(_coopvecs(1, 3))[0])
    kept = {k: v.clone() for k, v in merged.items()}
    calibration = _inputs((3, 32, 32), 8)
    found = recalibrated(encoder, merged, calibration)
    expected = _estimated_by_torch(encoder, merged, calibration).state_dict()
    statistics = [k for k in found if k.endswith(("running_mean", "running_var"))]
    assert len(statistics) >= 20
    for name in found:
        assert torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6), name
        assert torch.equal(merged[name], kept[name]), f"{name} of the argument was changed"
    assert not any(torch.equal(found[name], kept[name]) for name in statistics)


def test_merged_outputs_are_those_of_recalibrated_networks() -> None:
    """Without it the statistics would be estimated but not used."""
    encoder, states = _experts(MODULES["batch norm"][0])
    inputs, beta, calibration = _inputs(IMAGE), _coopvecs(6, 3), _inputs(IMAGE, 9)
    found = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows], calibration)
    slow = torch.cat(
        [
            _estimated_by_torch(encoder, _merged_state(encoder, states, weights), calibration)(
                query[None]
            )
            for weights, query in zip(beta, inputs, strict=True)
        ]
    )
    assert _error(found, slow) < 1e-4
    plain = merged_outputs(encoder, _stack(states), beta, lambda rows: inputs[rows])
    assert _error(plain, slow) > 1e-2


def test_a_layer_without_statistics_has_nothing_to_estimate() -> None:
    """Without it BatchNorm that never keeps statistics would end a merge."""
    encoder, states = _experts(
        lambda: nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten())
    )
    state = _stack(states).entries(_stack(states).mixtures(_coopvecs(1, 3))[0])
    found = recalibrated(encoder, state, _inputs(IMAGE, 3))
    assert all(torch.equal(found[k], state[k]) for k in state)
