"""Hugging Face's CLIP, mapped to OpenCLIP's names.

Query, key and value projections are three matrices there and one here; the projections into the
shared space are transposed. `CLIPModel` has both towers, `CLIPVisionModelWithProjection` the visual
one; `CLIPVisionModel` lacks the projection, so its outputs cannot be compared with text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.checkpoints.contents import MISFIT, Contents, StoredTensor

WORDS = "Hugging Face's CLIP"

_ANCHOR = "embeddings.patch_embedding.weight"
_TYPES = ("clip", "clip_vision_model")
_VISUAL = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    _ANCHOR: "conv1.weight",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
}
_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_THREE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def recognises(entries: Mapping[str, StoredTensor]) -> bool:
    """Whether a patch embedding stands under Hugging Face's name."""
    return any(_ends(name, _ANCHOR) for name in entries)


def rename(held: Contents, config: Mapping[str, Any] | None) -> Contents:
    """The same under OpenCLIP's names; what is not known keeps its own.

    Args:
        held: what the file holds.
        config: what its config.json says; tells the activation and the heads.

    Raises:
        CheckpointError: it has no projection, or is another kind of model.
    """
    said = _said(config)
    towers = [n.removesuffix(_ANCHOR) for n in held.entries if _ends(n, _ANCHOR)]
    outers = [tower.removesuffix("vision_model.") for tower in towers]
    renamed: dict[str, StoredTensor] = {}
    for outer, tower in zip(outers, towers, strict=True):
        own = _own(held.entries, outer, outers)
        # Of several, each keeps the prefix that it stands under: which is meant is not known here.
        kept = outer if len(towers) > 1 else ""
        renamed |= {n if n in own else kept + n: e for n, e in _renamed(own, outer, tower)}
    if not any(_ends(name, "visual.proj") for name in renamed):
        raise CheckpointError(
            "holds a CLIPVisionModel, which has no visual_projection; its features cannot be "
            "compared with text; take CLIPVisionModelWithProjection, or add the "
            "visual_projection.weight of the CLIP that it was fine-tuned from (docs/experts.md)",
            public_reason=MISFIT,
        )
    return replace(
        held,
        entries=renamed,
        activation=held.activation if said is None else str(said.get("hidden_act", "quick_gelu")),
        heads=None if said is None else said.get("num_attention_heads", 12),
    )


def _own(
    entries: Mapping[str, StoredTensor], outer: str, outers: list[str]
) -> dict[str, StoredTensor]:
    """The entries of one model of several: those under its prefix, and under no other's in it."""
    inner = tuple(each for each in outers if each != outer and each.startswith(outer))
    return {
        name: entry
        for name, entry in entries.items()
        if len(outers) == 1 or (name.startswith(outer) and not (inner and name.startswith(inner)))
    }


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _said(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of config.json about the image encoder; what it leaves out is transformers' own."""
    if config is None or "model_type" not in config:
        return None
    kind = config["model_type"]
    if kind not in _TYPES:
        raise CheckpointError(
            f"its config.json says model_type {kind!r}; allowed: {', '.join(_TYPES)}",
            public_reason=MISFIT,
        )
    part = config.get("vision_config") if kind == "clip" else config
    return dict(part) if isinstance(part, dict) else {}


def _renamed(
    entries: Mapping[str, StoredTensor], outer: str, tower: str
) -> Iterator[tuple[str, StoredTensor]]:
    text = f"{outer}text_model."
    for name, entry in entries.items():
        if name.endswith("position_ids"):
            continue  # counts from 0 on, which older versions kept
        if name == f"{outer}visual_projection.weight":
            yield "visual.proj", _transposed(entry)
        elif name == f"{outer}text_projection.weight":
            yield "text_projection", _transposed(entry)
        elif name == f"{outer}logit_scale":
            yield "logit_scale", entry
        elif name.startswith(text):
            yield from _one(entries, text, name.removeprefix(text), "", _TEXT)
        elif name.startswith(tower):
            yield from _one(entries, tower, name.removeprefix(tower), "visual.", _VISUAL)
        else:
            yield name, entry


def _one(
    entries: Mapping[str, StoredTensor], prefix: str, name: str, to: str, names: Mapping[str, str]
) -> Iterator[tuple[str, StoredTensor]]:
    """One entry of a tower under its new name; of q, k and v, which become one, only q."""
    entry = entries[prefix + name]
    stem, _, kind = name.rpartition(".")
    block = _BLOCK.fullmatch(name)
    if name in names:
        yield to + names[name], entry
    elif stem in names:
        yield f"{to}{names[stem]}.{kind}", entry
    elif block is None:
        yield prefix + name, entry
    elif block[2] in _LAYER:
        yield f"{to}transformer.resblocks.{block[1]}.{_LAYER[block[2]]}.{block[3]}", entry
    elif block[2] in _THREE:
        parts = [f"{prefix}encoder.layers.{block[1]}.{part}.{block[3]}" for part in _THREE]
        if not all(part in entries for part in parts):
            yield prefix + name, entry
        elif block[2] == _THREE[0]:
            stacked = _stacked([entries[part] for part in parts])
            yield f"{to}transformer.resblocks.{block[1]}.attn.in_proj_{block[3]}", stacked
    else:
        yield prefix + name, entry


def _transposed(entry: StoredTensor) -> StoredTensor:
    def read() -> Tensor:
        return entry.read().T.contiguous()

    return StoredTensor(tuple(reversed(entry.shape)), entry.dtype, read)


def _stacked(parts: list[StoredTensor]) -> StoredTensor:
    def read() -> Tensor:
        return torch.cat([part.read() for part in parts])

    shape = (sum(part.shape[0] if part.shape else 0 for part in parts), *parts[0].shape[1:])
    return StoredTensor(shape, parts[0].dtype, read)
