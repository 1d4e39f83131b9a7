"""What batched merged inference does not cover is refused by name, and runs one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from superposed_cases import EXACT, coopvecs, error, experts, normal, slowly, stacked
from superposed_modules import Does
from torch import Tensor, nn

from neulig_fl.core.errors import NeuligError, NotCovered
from neulig_fl.merging.inference import Merging, merged_outputs, superposed

ONE_AT_A_TIME = Merging(method="one-at-a-time")


class Recurrent(nn.Module):
    """A GRU's last output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self.gru(x)[0][:, -1]


def _words(module: Any, x: Tensor) -> Tensor:
    return module.table((x.abs() * 3).long().clamp(max=9)).sum(dim=1)


def _einsum(module: Any, x: Tensor) -> Tensor:
    return torch.einsum("bi,oi->bo", x, module.weight)


def _histogram(module: Any, x: Tensor) -> Tensor:
    return torch.histc(module.layer(x), 4)[None]


def _decides(module: Any, x: Tensor) -> Tensor:
    found = module.layer(x)
    return found if float(found.sum()) > 0.0 else -found


def _weightless(module: Any, x: Tensor) -> Tensor:
    return module.inner(x, x, x, need_weights=False)[0]


def _padded(module: Any, x: Tensor) -> Tensor:
    padding = torch.arange(5)[None].expand(len(x), -1) > 3
    return module.inner(x, x, x, key_padding_mask=padding, need_weights=False)[0]


def _attention(**options: Any) -> nn.Module:
    return nn.MultiheadAttention(4, 2, batch_first=True, **options)


class Twice(nn.Sequential):
    """Hands its input on twice, as a bilinear layer wants it."""

    def forward(self, x: Tensor) -> Tensor:
        """The output."""
        return self[1](self[0](x, x))


def _normalised() -> nn.Module:
    return nn.Sequential(nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))


Made = tuple[Callable[[], nn.Module], tuple[int, ...], str, str]
MODELS: dict[str, Made] = {
    "a GRU": (Recurrent, (5, 4), "module gru (GRU)", "gru"),
    "an embedding": (
        lambda: Does(_words, table=nn.Embedding(10, 4)),
        (3,),
        "module table (Embedding)",
        "embedding",
    ),
    "an einsum": (
        lambda: nn.Sequential(Does(_einsum, weight=torch.randn(3, 4))),
        (4,),
        "module 0 (Does)",
        "einsum",
    ),
    "weight norm": (
        _normalised,
        (4,),
        "module 1.parametrizations.weight.0 (_WeightNorm)",
        "_weight_norm",
    ),
    "no rule of vmap": (
        lambda: nn.Sequential(Does(_histogram, layer=nn.Linear(4, 3))),
        (4,),
        "module 0 (Does)",
        "aten::histc",
    ),
    "a decision on values": (
        lambda: nn.Sequential(Does(_decides, layer=nn.Linear(4, 3))),
        (4,),
        "module 0 (Does)",
        r"\.item\(\)",
    ),
    "padded keys": (
        lambda: Does(_padded, inner=_attention()),
        (5, 4),
        "module inner (MultiheadAttention)",
        "multi-head attention with key_padding_mask",
    ),
    "a token for no key": (
        lambda: Does(_weightless, inner=_attention(add_zero_attn=True)),
        (5, 4),
        "module inner (MultiheadAttention)",
        "multi-head attention with add_zero_attn",
    ),
    "learned keys": (
        lambda: Does(_weightless, inner=_attention(add_bias_kv=True)),
        (5, 4),
        "module inner (MultiheadAttention)",
        "multi-head attention with bias_k and bias_v",
    ),
    "an even kernel with padding 'same'": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2, padding="same")),
        (2, 5, 5),
        "module 0 (Conv2d)",
        "conv2d of 0.weight with padding 'same' and an even kernel",
    ),
    "a bilinear layer": (
        lambda: Twice(nn.Bilinear(4, 4, 3), nn.Tanh()),
        (4,),
        "module 0 (Bilinear)",
        "bilinear",
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_it_is_refused_by_module_and_operation(name: str) -> None:
    """Without it a user would have to guess what in a model stands in the way."""
    make, shape, module, operation = MODELS[name]
    encoder, states = experts(make)
    inputs, beta = normal((3, *shape)), coopvecs(3, 3)
    for _ in range(2):  # torch says some things only once
        with pytest.raises(NotCovered, match=f"what {re.escape(module)} does: ") as caught:
            merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows])
        assert re.search(operation, str(caught.value))
        assert "merging.method: one-at-a-time" in str(caught.value)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_one_at_a_time_runs_it(name: str) -> None:
    """Without it the error would send users to a way that does not work."""
    make, shape, *_ = MODELS[name]
    encoder, states = experts(make)
    inputs, beta = normal((3, *shape)), coopvecs(3, 3)
    found = merged_outputs(
        encoder, stacked(states), beta, lambda rows: inputs[rows], merging=ONE_AT_A_TIME
    )
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_one_at_a_time_is_the_same_on_covered_models() -> None:
    """Without it the two methods could not be compared."""
    encoder, states = experts(lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)))
    inputs, beta = normal((6, 4)), coopvecs(6, 3)
    beta[3], beta[4] = beta[1], torch.eye(3)[0]
    found = [
        merged_outputs(encoder, stacked(states), beta, lambda rows: inputs[rows], merging=each)
        for each in (Merging(), ONE_AT_A_TIME)
    ]
    assert error(*found) <= EXACT
    assert error(found[1], slowly(encoder, states, beta, inputs)) <= EXACT


DROPOUTS = {
    "a layer": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), "1 (Dropout)", "random"),
    "attention": (
        lambda: Does(_weightless, inner=_attention(dropout=0.5)),
        "inner (MultiheadAttention)",
        "multi-head attention with dropout",
    ),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_in_training_mode_is_refused(name: str) -> None:
    """Without it a merged model would give another output each time."""
    make, module, operation = DROPOUTS[name]
    encoder, states = experts(make)
    encoder.train()
    with pytest.raises(NotCovered, match=f"module {re.escape(module)} does: .*{operation}"):
        superposed(encoder, stacked(states), coopvecs(3, 3), normal((3, 5, 4)))


def _positions() -> nn.Module:
    return nn.Sequential(
        Does(lambda m, x: x + m.position, position=torch.randn(512, 256)), nn.LayerNorm(256)
    )


def test_a_whole_mixture_that_exceeds_the_buffer_is_refused() -> None:
    """Without it `buffer_mib` would bound some of the mixed weights only."""
    encoder, states = experts(_positions, 2)
    inputs, beta = normal((3, 512, 256)), coopvecs(3, 2)
    with pytest.raises(NotCovered, match=r"0 \(Does\) does: .*add.*0\.position") as caught:
        superposed(encoder, stacked(states), beta, inputs, Merging(buffer_mib=1))
    for what in ("(512, 256)", "3 samples", "1 MiB", "merging.buffer_mib"):
        assert what in str(caught.value)
    assert "merging.method: one-at-a-time" in str(caught.value)
    assert str(caught.value).count("one-at-a-time") == 1
    found = superposed(encoder, stacked(states), beta, inputs, Merging(buffer_mib=2))
    assert error(found, slowly(encoder, states, beta, inputs)) <= EXACT


def test_the_error_ends_a_run_with_1() -> None:
    """Without it the command line would show a traceback, or say that the input is wrong."""
    assert issubclass(NotCovered, NeuligError)
    assert NotCovered.exit_code == 1


def test_errors_of_the_model_itself_stay_what_they_are() -> None:
    """Without it a model's own mistake would be blamed on merging."""
    encoder, states = experts(lambda: nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match=r"size|shape") as caught:
        superposed(encoder, stacked(states), coopvecs(2, 3), normal((2, 5)))
    assert not isinstance(caught.value, NotCovered)
