"""A checkpoint as the state dict of an OpenCLIP model, or why it cannot be that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models.checkpoints import Checkpoint
from neulig_fl.models.checkpoints.contents import MISFIT
from neulig_fl.models.checkpoints.fitting import (
    VISUAL,
    beginning,
    chosen,
    clip_around,
    differences,
    load,
    whole,
)
from neulig_fl.models.families import _lookalikes

_COUNTED = "position_ids"
"""Counts from 0 on, which older versions of transformers kept."""


def fit(
    held: Checkpoint, module: nn.Module, name: str, what: str, prefix: str | None = None
) -> dict[str, Tensor]:
    """A checkpoint as the state dict of a module.

    Args:
        held: what was read.
        module: an image encoder or a whole CLIP; may be on the meta device.
        name: the model's.
        what: whose checkpoint it is, for errors.
        prefix: which of several encoders is meant.

    Raises:
        CheckpointError: several encoders are whole, or names, shapes, dtypes, activation or heads
            are not the model's, or a value is not finite.
    """
    wanted = module.state_dict()
    _, entries = chosen(held.entries, shapes(module), what, prefix)
    entries = {k: v for k, v in entries.items() if k in wanted or not k.endswith(_COUNTED)}
    faults = differences(entries, shapes(module))
    if faults:
        same = _lookalikes.find(held.entries).same
        advice = f"it looks like {some(same)}; " if same and name not in same else ""
        raise CheckpointError(
            f"{what} does not fit the model {name}; {'; '.join(faults)}; {advice}check the model's "
            "name",
            public_reason=MISFIT,
        )
    _require_activation(held, module, name, what)
    _require_heads(held, module, name, what)
    return load(entries, {k: v.dtype for k, v in wanted.items()}, what)


def shapes(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a module's state dict."""
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


def some(names: Sequence[str]) -> str:
    """The first names of several that would do.

    Example:
        >>> some(["ViT-B-32", "ViT-B-32-quickgelu"])
        'ViT-B-32 or ViT-B-32-quickgelu'
    """
    return " or ".join(names[:3]) + (f" or {len(names) - 3} more" if len(names) > 3 else "")


def activation(module: nn.Module) -> str | None:
    """`quick_gelu` or `gelu`, whichever a model has; None for neither."""
    kinds = {type(part).__name__ for part in module.modules()}
    if "QuickGELU" in kinds:
        return "quick_gelu"
    return "gelu" if "GELU" in kinds else None


def _require_activation(held: Checkpoint, module: nn.Module, name: str, what: str) -> None:
    """Shapes cannot tell the activation, and with the other one features are silently wrong.

    Raises:
        CheckpointError: the checkpoint says another one than the model has.
    """
    own = activation(module)
    if None in (own, held.activation) or own == held.activation:
        return
    quick = held.activation == "quick_gelu"
    twins = _lookalikes.find(held.entries).same
    fitting = [twin for twin in twins if _lookalikes.quick_gelu(twin) == quick]
    raise CheckpointError(
        f"{what} was trained with the activation {held.activation}, and {name} has {own}; "
        f"write model.name: {some(fitting) or 'the model that it was fine-tuned from'}",
        public_reason=MISFIT,
    )


def _require_heads(held: Checkpoint, module: nn.Module, name: str, what: str) -> None:
    """Neither do shapes tell into how many heads the width is split.

    Raises:
        CheckpointError: the checkpoint says another number than the model has.
    """
    visual = getattr(module, "visual", module)
    own = [m.num_heads for m in visual.modules() if isinstance(m, nn.MultiheadAttention)]
    if held.heads is not None and own and held.heads != own[0]:
        raise CheckpointError(
            f"{what} has {held.heads} attention heads, and {name} has {own[0]}; check the model's "
            "name",
            public_reason=MISFIT,
        )


def clip_in(held: Checkpoint, model: Any, what: str, prefix: str | None) -> Checkpoint:
    """The whole CLIP that a checkpoint holds; of several image encoders the user's choice says it.

    Args:
        held: what was read.
        model: a whole CLIP; may be on the meta device.
        what: whose checkpoint it is, for errors.
        prefix: with what the names of the CLIP, or of its image encoder, begin.

    Raises:
        CheckpointError: several image encoders are whole; or the one that is meant stands alone:
            heads are text features, so that nothing can be started from it.
    """
    visual = shapes(model.visual)
    at, encoder = chosen(held.entries, visual, what, prefix)
    if differences(encoder, visual):
        return replace(held, entries=beginning(held.entries, prefix, what))
    if prefix is None and not at.endswith(VISUAL):  # the same encoder may stand in a CLIP as well
        at = next((p for p in whole(held.entries, visual) if p.endswith(VISUAL)), at)
    entries = clip_around(held.entries, at, visual)
    text = [name for name in shapes(model) if not name.startswith(VISUAL)]
    top = at.removesuffix(VISUAL)
    if top == at or not any(top + name in entries for name in text):
        raise CheckpointError(
            f"{what} holds the image encoder{f' {at[:-1]!r}' if at else ''}, and not the text "
            "tower, from which heads are made; give the whole CLIP that it was fine-tuned from "
            "(Hugging Face: CLIPModel), and this one as a client's checkpoint",
            public_reason=MISFIT,
        )
    return replace(held, entries=entries)
