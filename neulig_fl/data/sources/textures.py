"""Ten textures, slanted, warped and noisy: drawn here, at several scales, in any colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neulig_fl.data.built_in import BuiltInSource, drawn
from neulig_fl.data.synthetic import Pixels, Style, textures

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

STYLE = Style(
    lean=0.7, turn=0.35, contrast=95, clutter=1, mottle=30, light=1.0, bend=0.8, blur=0.3, noise=6
)


def _draw(rng: np.random.Generator, label: int) -> Pixels:
    return textures.draw(rng, label, STYLE, frequency=(0.75, 1.25))


def source(options: TaskOptions) -> BuiltInSource:
    """7,500 images, 32x32."""
    return drawn(
        "textures",
        "ten drawn textures, slanted, warped and noisy (drawn here)",
        textures.NAMES,
        options.templates or ("a photo of a {} texture.",),
        _draw,
        count=7500,
        version="4",
    )
