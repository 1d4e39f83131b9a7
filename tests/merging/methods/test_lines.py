"""LiNeS: scaled with depth."""

from __future__ import annotations

from typing import Any

import pytest
import three_layers as model
import torch
from torch import Tensor

from neulig_fl.config.scenario import Model
from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged
from neulig_fl.merging.methods._depths import depths
from neulig_fl.merging.methods.lines import extension, unfit
from neulig_fl.models.families import open_family


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
    generator = torch.Generator().manual_seed(layers)

    def values(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    blocks = {f"transformer.resblocks.{i}.mlp.weight": values(3, 2) for i in range(layers)}
    return {"class_embedding": values(3), **blocks, "proj": values(2)}


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


VIT_PYTORCH = {
    0: ("norm.weight", "norm.bias", "to_qkv.weight", "to_out.0.weight"),
    1: ("net.0.weight", "net.0.bias", "net.1.weight", "net.4.weight"),
}
PRE_NORM = {
    0: ("norm.weight", "norm.bias", "fn.to_qkv.weight", "fn.to_out.0.weight"),
    1: ("norm.weight", "norm.bias", "fn.net.0.weight", "fn.net.3.weight"),
}
X_TRANSFORMERS = {0: ("0.weight",), 1: ("to_q.weight", "to_k.weight", "to_out.weight")}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("where", ["transformer.layers.", "attn_layers.layers.", "vit.blocks."])
@pytest.mark.parametrize("parts", [VIT_PYTORCH, PRE_NORM, X_TRANSFORMERS])
def test_numbered_parts_of_a_block_have_its_depth(
    parts: dict[int, tuple[str, ...]], where: str, order: int
) -> None:
    """Attention and MLP of one block would have two depths, as if they were blocks of a stage."""
    wanted = {
        f"{where}{block}.{part}.{name}": block / 11
        for block in range(12)
        for part, names in parts.items()
        for name in names
    }
    wanted |= {"cls_token": 0.0, "to_patch_embedding.1.weight": 0.0, "mlp_head.weight": 0.0}
    entries = sorted(wanted)[::order]
    assert depths(entries) == pytest.approx({name: wanted[name] for name in entries})
    assert extension(dict.fromkeys(entries, ())) is None


@pytest.mark.parametrize("counts", [(2, 2, 2, 2), (1, 2, 3), (1, 1, 2)])
def test_numbered_blocks_of_a_stage_have_their_own_depths(counts: tuple[int, ...]) -> None:
    """A small network's second block of a stage would be taken for a part of the first."""
    blocks = [(stage, block) for stage, count in enumerate(counts) for block in range(count)]
    wanted = {}
    for place, (stage, block) in enumerate(blocks):
        more = ("downsample.weight",) if block == 0 else ()
        for name in ("conv1.weight", "conv2.weight", *more):
            wanted[f"layers.{stage}.{block}.{name}"] = place / (len(blocks) - 1)
    assert depths(wanted) == pytest.approx(wanted)


def in_order(*blocks: str) -> dict[str, float]:
    """Blocks in the order in which they run, with their depths."""
    return {name: place / (len(blocks) - 1) for place, name in enumerate(blocks)}


SWIN = [(stage, block) for stage, count in enumerate((2, 2, 18, 2)) for block in range(count)]
NAMES = {
    "BERT": in_order(*(f"bert.encoder.layer.{i}." for i in range(12))),
    "GPT-2": in_order(*(f"transformer.h.{i}." for i in range(12))),
    "CLIP of Hugging Face": in_order(*(f"vision_model.encoder.layers.{i}." for i in range(12))),
    "T5 encoder": in_order(*(f"encoder.block.{i}." for i in range(12))),
    "OpenCLIP ViT": in_order(*(f"transformer.resblocks.{i}." for i in range(12))),
    "timm ViT": in_order(*(f"trunk.blocks.{i}." for i in range(12))),
    "torchvision ViT": in_order(*(f"encoder.layers.encoder_layer_{i}." for i in range(12))),
    "timm Swin": in_order(*(f"trunk.layers.{s}.blocks.{b}." for s, b in SWIN)),
    "ConvNeXt": in_order(*(f"stages.{s}.blocks.{b}." for s, b in SWIN)),
    "ConvNeXt of Hugging Face": in_order(*(f"encoder.stages.{s}.layers.{b}." for s, b in SWIN)),
    "ResNet": in_order(*(f"layer{s + 1}.{b}." for s, b in SWIN)),
    "EfficientNet": in_order(*(f"blocks.{s}.{b}." for s, b in SWIN)),
}
INSIDE = ("attention.weight", "layer.0.SelfAttention.q.weight", "mlp.2.bias", "norm1.weight")
OUTSIDE = (
    "stem.0.weight", "conv1.weight", "patch_embed.backbone.stages.1.0.weight",
    "patch_embed.backbone.3.weight", "head.mlp.fc1.weight", "attnpool.c_proj.bias", "proj",
)  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("family", NAMES)
def test_depth_follows_the_order_in_which_blocks_run(family: str, order: int) -> None:
    """A model would be averaged without a word, or a deep block be taken for a shallow one."""
    wanted = {f"{b}{name}": depth for b, depth in NAMES[family].items() for name in INSIDE}
    entries = sorted([*wanted, *OUTSIDE])[::order]  # as files have them, not in the order of blocks
    assert depths(entries) == pytest.approx({n: wanted.get(n, 0.0) for n in entries})


def test_what_is_between_stages_goes_with_the_block_beside_it() -> None:
    """A downsampling layer before 18 blocks or after them would have the depth of the others."""
    blocks = [f"layers.{s}.blocks.{b}.w" for s, b in SWIN]
    before = depths([*blocks, *(f"layers.{s}.downsample.w" for s in (1, 2, 3))])
    after = depths([*blocks, *(f"layers.{s}.downsample.w" for s in (0, 1, 2))])
    for stage in (1, 2, 3):
        assert before[f"layers.{stage}.downsample.w"] == before[f"layers.{stage}.blocks.0.w"]
    for stage, last in ((0, 1), (1, 1), (2, 17)):
        assert after[f"layers.{stage}.downsample.w"] == after[f"layers.{stage}.blocks.{last}.w"]


UNKNOWN: dict[str, tuple[list[str], str]] = {
    "no blocks": (["w", "fc.weight"], "no two blocks are known.*: w, fc.weight; known are resbl"),
    "one block": (["w", "resblocks.0.w"], "no two blocks are known.*: w, resblocks.0.w; known"),
    "numbers alone": (["features.1.0.block.0.w", "features.1.1.block.0.w"], "features.1.0.block"),
    "two towers": (
        ["visual.transformer.resblocks.0.w", "transformer.resblocks.0.w", "transformer.resblocks.1.w"],
        "several places.*: visual.transformer.resblocks.0.w, transformer.resblocks.0.w; known",
    ),
    "class attention": (
        ["blocks.0.w", "blocks.1.w", "blocks_token_only.0.w"],
        "several places.*: blocks.0.w, blocks_token_only.0.w",
    ),
    "class attention by another name": (
        ["blocks.0.w", "blocks.1.w", "cls_attn_blocks.0.w", "cls_attn_blocks.1.w"],
        "several places.*: blocks.0.w, cls_attn_blocks.0.w",
    ),
    "branches": (
        ["blocks.0.blocks.0.0.w", "blocks.0.blocks.1.0.w", "blocks.1.blocks.0.0.w"],
        "side by side: blocks.0.blocks.0.0.w",
    ),
    "encoder and decoder": (
        ["encoder.block.0.w", "encoder.block.1.w", "decoder.block.0.w"],
        "several places.*: encoder.block.0.w, decoder.block.0.w",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_whose_order_is_not_known_is_refused(name: str) -> None:
    """Its blocks would have one weight, or that of another network's, without a word."""
    names, words = UNKNOWN[name]
    with pytest.raises(InputError, match=f"lines scales a model by depth, and .*{words}"):
        merged("lines", around({each: torch.randn(2) for each in names}, 3))
    assert "take task-arithmetic" in str(unfit(dict.fromkeys(names, ())))
    assert extension(dict.fromkeys(names, ())) is None


def test_without_a_slope_it_is_simple_averaging_or_task_arithmetic() -> None:
    """The sum of the task vectors would be scaled wrongly."""
    source = around(encoder("micro-vit"), 3)
    assert model.same(merged("lines", source, beta=0.0), merged("simple-average", source))
    flat = merged("lines", source, alpha=0.3, beta=0.0)
    assert model.same(flat, merged("task-arithmetic", source))


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = around(ladder(3), 4)
    start = source.checkpoint
    assert start is not None
    plain = merged("lines", source)
    for factor in (-1.0, 3.0):
        moved = {
            client: {k: start[k] + factor * (v - start[k]) for k, v in one.items()}
            for client, one in source.models.items()
        }
        wanted = {k: start[k] + factor * (v - start[k]) for k, v in plain.items()}
        assert model.same(merged("lines", StateDicts(moved, start)), wanted)
    turned = StateDicts(dict(reversed(source.models.items())), start)
    assert model.same(merged("lines", turned), plain)


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    names = [
        f"layer{i}.0.bn.{what}"
        for i in (1, 2)
        for what in ("weight", "running_mean", "running_var")
    ]
    source = around({name: torch.rand(4) for name in names}, 3)
    found, mean = merged("lines", source), merged("simple-average", source)
    for name in names:
        assert torch.equal(found[name], mean[name]) == ("running" in name or "layer1" in name)


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
        merged("lines", around(ladder(2), 3), **options)
