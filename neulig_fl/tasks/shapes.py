"""Ten shapes on clutter: drawn here, at any place and colour, a little turned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl import drawing
from neulig_fl.built_in import BuiltInSource, drawn

if TYPE_CHECKING:
    from neulig_fl.scenario import TaskOptions


def source(options: TaskOptions) -> BuiltInSource:
    """6,000 pictures, 32x32."""
    return drawn(
        "shapes",
        "ten drawn shapes with clutter and noise (drawn here)",
        drawing.SHAPES,
        options.templates or ("a drawing of a {}.",),
        drawing.shape,
        count=6000,
        version="3",
    )
