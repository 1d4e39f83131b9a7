"""Ten shapes on a cluttered ground: drawn here, filled or outlined, leaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neulig_fl.data.built_in import BuiltInSource, drawn
from neulig_fl.data.synthetic import Pixels, Style, shapes

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

STYLE = Style(
    lean=0.5, turn=0.4, shift=0.12, scale=(0.3, 0.42), squeeze=0.75, contrast=85,
    clutter=2, mottle=35, light=1.2, bend=0.6, blur=0.4, noise=6,
)  # fmt: skip


def _draw(rng: np.random.Generator, label: int) -> Pixels:
    return shapes.draw(rng, label, STYLE, outlined=0.6)


def source(options: TaskOptions) -> BuiltInSource:
    """7,500 images, 32x32."""
    return drawn(
        "shapes",
        "ten drawn shapes, filled or outlined, on a cluttered ground (drawn here)",
        shapes.NAMES,
        options.templates or ("a drawing of a {}.",),
        _draw,
        count=7500,
        version="4",
    )
