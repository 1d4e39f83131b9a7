"""OpenAI's CLIP: OpenCLIP's names, and three sizes beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neulig_fl.models.checkpoints.contents import Contents, StoredTensor

WORDS = "OpenAI's CLIP"

_SIZES = ("input_resolution", "context_length", "vocab_size")
_MASK = "attn_mask"


def recognises(entries: Mapping[str, StoredTensor]) -> bool:
    """Whether the three sizes stand beside the weights."""
    return all(name in entries and entries[name].numbers == 1 for name in _SIZES)


def rename(held: Contents, config: Mapping[str, Any] | None) -> Contents:  # noqa: ARG001
    """The same without the sizes and the masks, which OpenCLIP makes itself.

    OpenAI trained all its models with QuickGELU.
    """
    kept = {
        name: entry
        for name, entry in held.entries.items()
        if name not in _SIZES and name.rpartition(".")[2] != _MASK
    }
    return replace(held, entries=kept, activation=held.activation or "quick_gelu")
