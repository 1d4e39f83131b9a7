"""Ten textures in noise: drawn here, at any scale and colour, a little turned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl import drawing
from neulig_fl.built_in import BuiltInSource, drawn

if TYPE_CHECKING:
    from neulig_fl.scenario import TaskOptions


def source(options: TaskOptions) -> BuiltInSource:
    """6,000 pictures, 32x32."""
    return drawn(
        "textures",
        "ten drawn textures with noise (drawn here)",
        drawing.TEXTURES,
        options.templates or ("a photo of a {} texture.",),
        drawing.texture,
        count=6000,
        version="3",
    )
