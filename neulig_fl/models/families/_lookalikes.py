"""Which OpenCLIP models have an image encoder of a checkpoint's names and shapes.

Several can: twins with QuickGELU, or with another text tower. Configurations are narrowed by what
the tensors say (width, layers, patch size), and what is left is built without memory and compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import open_clip
import torch
from torch import nn

from neulig_fl.models.checkpoints import StoredTensor
from neulig_fl.models.checkpoints.fitting import Shapes, differences, plainest, standing

_SMALL_TEXT = {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
_LAYER = re.compile(r"^(transformer\.resblocks|layer[1-4])\.(\d+)\.")
_VIT = ("class_embedding", "conv1.weight")
_RESNET = ("attnpool.positional_embedding", "conv1.weight")
_TIMM = "trunk."
_HEADS = {"linear": ".head.proj.weight", "mlp": ".head.mlp.fc2.weight"}


@dataclass(frozen=True)
class Lookalikes:
    """OpenCLIP's models like a checkpoint, the plainest first.

    Args:
        same: those whose image encoder has exactly its names and shapes.
        close: those of its width, layers and patch size, where none is the same.
        prefix: under which the image encoder stands.
        encoder: its entries, without the prefix; all entries where no model is like it.
    """

    same: tuple[str, ...]
    close: tuple[str, ...]
    prefix: str
    encoder: Mapping[str, StoredTensor]


def find(entries: Mapping[str, StoredTensor]) -> Lookalikes:
    """The models that a checkpoint's image encoder could be."""
    close: list[str] = []
    same: list[str] = []
    prefix, encoder = "", dict(entries)
    for config, names in _groups():
        if not _could_be(json.loads(config), entries):
            continue
        shapes = visual_shapes(config)
        found_prefix, found = plainest(entries, shapes)
        if not shapes:
            continue
        if not differences(found, shapes):
            same += names
            prefix, encoder = found_prefix, found
        elif _TIMM not in "".join(shapes):
            close += names
            if not same:
                prefix, encoder = found_prefix, found
    nearest = () if same else _plainest_first(close)
    return Lookalikes(_plainest_first(same), nearest, prefix, encoder)


def _plainest_first(names: list[str]) -> tuple[str, ...]:
    """By name; those with CLIP's own text tower before those with another."""

    def rank(name: str) -> tuple[bool, str]:
        config = open_clip.get_model_config(name)
        return "multimodal_cfg" in config or "hf_model_name" in config["text_cfg"], name

    return tuple(sorted(names, key=rank))


def quick_gelu(name: str) -> bool:
    """Whether a model's configuration says QuickGELU."""
    return bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))


def _groups() -> list[tuple[str, list[str]]]:
    """Every visual configuration as JSON, with the names of the models that have it."""
    groups: dict[str, list[str]] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        said = {"embed_dim": config["embed_dim"], "vision_cfg": config["vision_cfg"]}
        groups.setdefault(json.dumps(said, sort_keys=True), []).append(name)
    return list(groups.items())


@cache
def visual_shapes(config: str) -> Shapes:
    """Names and shapes of an image encoder, from its configuration as JSON; {} if it has none."""
    visual = visual_tower(json.loads(config))
    return {k: tuple(v.shape) for k, v in visual.state_dict().items()} if visual else {}


def visual_tower(said: Mapping[str, Any], *, quick_gelu: bool = False) -> nn.Module | None:
    """An image encoder on the meta device; None where this version of timm has none such.

    Args:
        said: a configuration's `embed_dim` and `vision_cfg`.
        quick_gelu: its activation.
    """
    vision = {k: v for k, v in said["vision_cfg"].items() if k != "timm_model_pretrained"}
    try:
        with torch.device("meta"):  # nothing is fetched
            model = open_clip.CLIP(said["embed_dim"], vision, dict(_SMALL_TEXT), quick_gelu)
    except Exception:  # a model of timm's that this version of timm does not have
        return None
    visual: nn.Module = model.visual
    return visual


def _could_be(config: Mapping[str, Any], entries: Mapping[str, StoredTensor]) -> bool:
    """Whether the checkpoint's sizes are the configuration's; cheap, and never wrongly no."""
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        return _of_timm(vision.get("timm_proj", "linear"), config["embed_dim"], entries)
    layers = vision.get("layers", 12)
    anchors = _RESNET if isinstance(layers, list) else _VIT
    found = standing(entries, anchors)
    return any(_sizes_are(vision, held) for held in found)


def _sizes_are(vision: Mapping[str, Any], held: Mapping[str, StoredTensor]) -> bool:
    """Whether width, layers and patch size of a tower are those of a configuration."""
    layers, conv = vision.get("layers", 12), held["conv1.weight"].shape
    if not conv:
        return False
    if isinstance(layers, list):
        return _depths(held) == layers and conv[0] * 2 == vision.get("width", 64)
    found = [conv[0], conv[-1], *_depths(held)]
    return found == [vision.get("width", 768), vision.get("patch_size", 16), layers]


def _of_timm(projection: str, dim: int, entries: Mapping[str, StoredTensor]) -> bool:
    """Whether a trunk of timm's ends in this projection to so many features."""
    own = [(f".{name}", entry.shape) for name, entry in entries.items() if ".text." not in name]
    if not any(f".{_TIMM}" in name for name, _ in own):
        return False
    last = {end: shape for end in _HEADS.values() for n, shape in own if n.endswith(end) and shape}
    end = _HEADS.get(projection)
    if end is None:
        return not last and any(dim in shape for _, shape in own)
    return list(last) == [end] and last[end][0] == dim


def _depths(entries: Mapping[str, StoredTensor]) -> list[int]:
    """How many layers each stage has, in order."""
    seen: dict[str, set[str]] = {}
    for name in entries:
        found = _LAYER.match(name)
        if found:
            seen.setdefault(found[1], set()).add(found[2])
    return [len(seen[stage]) for stage in sorted(seen)]
