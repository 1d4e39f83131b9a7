"""LiNeS: scaled with depth."""

from __future__ import annotations

from typing import Any

import pytest
import three_layers as model
import torch
from torch import Tensor

from neulig_fl.errors import InputError
from neulig_fl.families import open_family
from neulig_fl.merges import StateDicts, merged
from neulig_fl.merges.lines import depths, extension
from neulig_fl.scenario import Model


def encoder(name: str) -> dict[str, Tensor]:
    return dict(open_family(Model(name=name), 0).encoder().state_dict())


def around(start: dict[str, Tensor], count: int, seed: int = 0) -> StateDicts:
    """Experts near a checkpoint."""
    generator = torch.Generator().manual_seed(seed)

    def moved(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        return value + 0.01 * torch.rand(value.shape, generator=generator)

    models = {
        f"client-{i}": {name: moved(value) for name, value in start.items()} for i in range(count)
    }
    return StateDicts(models, checkpoint=start)


def ladder(layers: int) -> dict[str, Tensor]:
    """A transformer with so many blocks, an embedding before them and a projection after."""
    blocks = {f"transformer.resblocks.{i}.mlp.weight": torch.randn(3, 2) for i in range(layers)}
    return {"class_embedding": torch.randn(3), **blocks, "proj": torch.randn(2)}


def slow(source: StateDicts, layers: int, alpha: float, beta: float) -> list[float]:
    """The paper's formula, a layer and a number at a time, float64; layers are counted from 1."""
    assert source.checkpoint is not None
    found = []
    for name, value in source.checkpoint.items():
        scale = alpha
        for layer in range(1, layers + 1):
            if f".{layer - 1}." in name:
                scale = alpha + beta * (layer - 1) / (layers - 1)
        rows = [one[name].double().flatten().tolist() for one in source.models.values()]
        for place, start in enumerate(value.double().flatten().tolist()):
            found.append(start + scale * sum(row[place] - start for row in rows))
    return found


@pytest.mark.parametrize("layers", [2, 3, 12])
@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.5), (0.0, 1.0), (0.4, -0.3)])
def test_lines_is_the_papers(layers: int, alpha: float, beta: float) -> None:
    """A layer would have another weight than the paper's."""
    source = around(ladder(layers), 4)
    found = merged("lines", source, alpha=alpha, beta=beta)
    assert model.close(found, slow(source, layers, alpha, beta))


def test_the_defaults_are_those_of_the_docstring() -> None:
    """The option alpha would not be one over the number of experts, or beta not 0.5."""
    source = around(ladder(3), 5)
    assert model.close(merged("lines", source), slow(source, 3, 1 / 5, 0.5))


def test_every_entry_of_the_vit_has_its_blocks_depth() -> None:
    """A block's entry would be scaled as if it were elsewhere."""
    start = encoder("micro-vit")
    for name, depth in depths(dict.fromkeys(start, ())).items():
        number = name.split("resblocks.")[1].split(".")[0] if "resblocks" in name else "0"
        assert depth == int(number) / 5, name
    assert extension(dict.fromkeys(start, ())) is None


def test_the_resnets_blocks_are_in_the_order_in_which_they_run() -> None:
    """A residual block's entry would be scaled as if it were elsewhere, or not be said to differ."""
    entries: dict[str, tuple[int, ...]] = dict.fromkeys(encoder("micro-rn"), ())
    order = ["layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0"]
    for name, depth in depths(entries).items():
        block = ".".join(name.split(".")[:2])
        assert depth == (order.index(block) / 5 if block in order else 0), name
    said = extension(entries)
    assert said is not None
    assert "ResNet" in said


def test_more_than_ten_blocks_are_in_order() -> None:
    """Block 10 would come after block 1, as words are sorted."""
    found = depths({f"trunk.blocks.{i}.w": () for i in range(12)})
    assert list(found.values()) == pytest.approx([i / 11 for i in range(12)])


def test_a_model_without_blocks_is_said_to_be_one() -> None:
    """A model whose blocks are not found would be scaled evenly without a word."""
    said = extension({"w": (), "resblocks.0.w": ()})
    assert said is not None
    assert "no blocks" in said
    assert depths({"w": (), "resblocks.0.w": ()}) == {"w": 0.0, "resblocks.0.w": 0.0}


def test_without_a_slope_it_is_simple_averaging_or_task_arithmetic() -> None:
    """The sum of the task vectors would be scaled wrongly."""
    source = around(encoder("micro-vit"), 3)
    assert model.same(merged("lines", source, beta=0.0), merged("simple-average", source))
    flat = merged("lines", source, alpha=0.3, beta=0.0)
    assert model.same(flat, merged("task-arithmetic", source))


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(4, spread=0.01)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("lines", source)) - start
    for factor in (-1.0, 3.0):
        found = merged("lines", model.scaled(source, factor))
        assert model.close(found, start + factor * plain)
    found = merged("lines", model.permuted(source, [1, 3, 0, 2]))
    assert model.same(found, merged("lines", source))


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("lines", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"alpha": "1/T"}, "alpha of lines"),
        ({"beta": None}, "beta of lines"),
        ({"beta": float("nan")}, "beta of lines"),
        ({"lambda": 0.3}, "no option 'lambda'; allowed: alpha, beta"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=match):
        merged("lines", model.source(), **options)
