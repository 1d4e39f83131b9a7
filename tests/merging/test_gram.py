"""Gram matrices of layers' inputs, against inputs that are written out one by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import NotCovered, RunError
from neulig_fl.merging import gram
from neulig_fl.models.families import open_family

MODELS = ("micro-vit", "micro-rn")
Rows = dict[str, NDArray[np.float64]]


def encoder(name: str) -> nn.Module:
    """A bundled model."""
    return open_family(Model(name=name), 0).encoder()


def images(count: int = 5, size: int = 32) -> Tensor:
    """Random inputs."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def caught(network: nn.Module, kind: type[nn.Module], inputs: Tensor) -> Rows:
    """The inputs of every module of a kind, by name, as torch's own hooks see them."""
    found: Rows = {}

    def catch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            given = args[0] if args else kwargs["query"]
            found[name] = given.double().numpy()

        return hook

    modules = [(n, m) for n, m in network.named_modules() if isinstance(m, kind)]
    handles = [m.register_forward_pre_hook(catch(n), with_kwargs=True) for n, m in modules]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    return found


def weights(network: nn.Module) -> Rows:
    """Every floating entry, float64."""
    state = network.state_dict().items()
    return {k: v.double().numpy() for k, v in state if v.is_floating_point()}


def patches(x: NDArray[np.float64], layer: nn.Conv2d) -> NDArray[np.float64]:
    """What a convolution sees, a position at a time, (rows, channels * height * width)."""
    (h, w), (down, right), (top, left) = layer.kernel_size, layer.stride, layer.padding
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    return np.concatenate(
        [
            x[:, :, i : i + h, j : j + w].reshape(len(x), -1)
            for i in range(0, x.shape[2] - h + 1, down)
            for j in range(0, x.shape[3] - w + 1, right)
        ]
    )


def attention(x: NDArray[np.float64], q: Rows, k: Rows, v: Rows, heads: int) -> NDArray[np.float64]:
    """What attention's last projection gets, image by image and head by head; x (n, length, dim)."""
    whole = []
    for image in x:
        queries, keys, values = (image @ p["weight"].T + p["bias"] for p in (q, k, v))
        size = queries.shape[1] // heads
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = queries[:, own] @ keys[:, own].T / math.sqrt(size)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            parts.append(shares / shares.sum(axis=1, keepdims=True) @ values[:, own])
        whole.append(np.concatenate(parts, axis=1))
    return np.stack(whole)


def of_vit(network: nn.Module, inputs: Tensor) -> Rows:
    """The inputs of every weight of a ViT; its patch embedding is left out."""
    state = weights(network)
    found = {f"{k}.weight": v for k, v in caught(network, nn.Linear, inputs).items()}
    found = {k: v for k, v in found.items() if "out_proj" not in k}
    for name, x in caught(network, nn.MultiheadAttention, inputs).items():
        packed, bias = state[f"{name}.in_proj_weight"], state[f"{name}.in_proj_bias"]
        parts = zip(np.split(packed, 3), np.split(bias, 3), strict=True)
        q, k, v = ({"weight": w, "bias": b} for w, b in parts)
        heads = network.get_submodule(name).num_heads
        assert isinstance(heads, int)
        found[f"{name}.in_proj_weight"] = x
        found[f"{name}.out_proj.weight"] = attention(x, q, k, v, heads)
    norm = network.get_submodule("ln_post")
    with torch.no_grad():
        last = norm(torch.from_numpy(caught(network, nn.LayerNorm, inputs)["ln_post"]).float())
    found["proj"] = last[:, 0].double().numpy()
    return found


def of_resnet(network: nn.Module, inputs: Tensor) -> Rows:
    """The inputs of every weight of a ResNet with attention pooling."""
    state, found = weights(network), {}
    for name, x in caught(network, nn.Conv2d, inputs).items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        found[f"{name}.weight"] = patches(x, layer)
    pool = network.get_submodule("attnpool")
    (x,) = caught(network, type(pool), inputs).values()
    tokens = x.reshape(*x.shape[:2], -1).transpose(0, 2, 1)
    tokens = np.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)
    tokens = tokens + state["attnpool.positional_embedding"]
    parts = {
        p: {k: state[f"attnpool.{p}_proj.{k}"] for k in ("weight", "bias")} for p in ("q", "k", "v")
    }
    assert isinstance(pool.num_heads, int)
    found |= {f"attnpool.{p}_proj.weight": tokens for p in parts}
    found["attnpool.c_proj.weight"] = attention(tokens, **parts, heads=pool.num_heads)
    return found


def near(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> bool:
    """Equal to rounding, in relation to the largest number."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    return bool(np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", MODELS)
def test_every_array_is_that_of_inputs_written_out(name: str) -> None:
    """A layer would be merged by the inputs of another, or by a part of its own."""
    network, inputs = encoder(name), images()
    found = gram.measured(network, inputs, batch=2)
    rows = (of_vit if name == "micro-vit" else of_resnet)(network, inputs)
    state = weights(network)

    assert {f"gram:{k}" for k in rows} == {k for k in found if k.startswith("gram:")}
    for entry, x in rows.items():
        flat = x.reshape(-1, x.shape[-1])
        wanted = flat.T @ flat / len(flat)
        assert near(found[f"gram:{entry}"], wanted), entry
        weight = state[entry]
        matrix = weight.T if entry == "proj" else weight.reshape(len(weight), -1)
        for kind, other in (("moment", wanted), ("diagonal", np.diag(np.diag(wanted)))):
            moment = matrix @ other
            moment = moment.T if entry == "proj" else moment.reshape(weight.shape)
            assert near(found[f"{kind}:{entry}"], moment), (kind, entry)


@pytest.mark.parametrize("name", MODELS)
def test_the_layout_is_what_is_measured(name: str) -> None:
    """A client's record would have another size than the server expects, and be refused."""
    family = open_family(Model(name=name), 0)
    found = gram.measured(family.encoder(), images(2))
    wanted = gram.layout(family.entries())

    assert list(found) == list(wanted)
    assert {k: v.shape for k, v in found.items()} == wanted


def test_the_layout_names_what_multiplies_inputs() -> None:
    """An embedding or a norm would be taken for a layer, or a layer be left out."""
    entries = {
        "class_embedding": (4,),
        "positional_embedding": (5, 4),
        "conv1.weight": (4, 3, 2, 2),
        "attn.in_proj_weight": (12, 4),
        "attn.in_proj_bias": (12,),
        "ln.weight": (4,),
        "proj": (4, 2),
    }
    named = ("attn.in_proj_weight", "proj")
    assert gram.multiplied(entries) == list(named)
    assert gram.multiplied({**entries, "conv2.weight": (4, 4, 1, 1)}) == [
        "conv1.weight", *named, "conv2.weight"
    ]  # fmt: skip
    assert gram.layout(entries)["gram:proj"] == (4, 4)
    assert gram.layout(entries)["gram:attn.in_proj_weight"] == (4, 4)


def test_batches_change_nothing_but_rounding() -> None:
    """What a client gives away would depend on its memory, or the last batch count more."""
    network, inputs = encoder("micro-rn"), images(7)
    whole, parts = (gram.measured(network, inputs, batch=n) for n in (7, 3))
    assert all(near(parts[k], v.astype(np.float64)) for k, v in whole.items())


def test_the_encoder_stays_as_it_is() -> None:
    """A client's expert would not be the same after it was measured."""
    network = encoder("micro-rn")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    gram.measured(network, images(2))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not network.training


class Grouped(nn.Module):
    """Two convolutions, of which one has groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        """(images, dim)."""
        return self.second(self.first(x)).mean(dim=(2, 3))  # type: ignore[no-any-return]


class Transposed(nn.Module):
    """A weight in a way that no layer of torch's uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(images, dim)."""
        return x.mean(dim=(2, 3)) @ self.weight.T


def pooled() -> nn.Module:
    """A ViT whose last attention has queries of its own, as CoCa's."""
    return VisionTransformer(32, 16, 16, 1, 2, 2.0, attentional_pool=True, output_dim=16)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Grouped, r"second\.weight is a convolution with 2 groups"),
        (Transposed, "no multiplication of inputs by weight was seen"),
        (pooled, r"attn_pool\.attn\.in_proj_weight multiplies queries and keys that differ"),
    ],
)
def test_what_is_not_covered_is_refused_by_name(make: Callable[[], nn.Module], words: str) -> None:
    """A layer would be merged by Gram matrices that are not those of its inputs."""
    with pytest.raises(NotCovered, match=words) as caught_error:
        gram.measured(make().eval(), images(2))
    assert "leave regmean out" in str(caught_error.value.public_reason)


def test_training_mode_and_no_examples_are_refused() -> None:
    """BatchNorm would be changed by being measured, or 0 be divided by 0."""
    with pytest.raises(RunError, match="an encoder in training mode"):
        gram.measured(encoder("micro-rn").train(), images(2))
    with pytest.raises(RunError, match="no examples"):
        gram.measured(encoder("micro-rn"), images(0))
