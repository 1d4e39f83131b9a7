"""Twenty-six traffic-sign-like images, leaning and badly lit: drawn here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neulig_fl.data.built_in import BuiltInSource, drawn
from neulig_fl.data.synthetic import Pixels, Style, signs

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

STYLE = Style(
    lean=0.4, turn=0.35, shift=0.12, scale=(0.34, 0.47), squeeze=0.6,
    clutter=2, mottle=45, light=1.6, bend=0.8, blur=0.4, noise=6,
)  # fmt: skip


def _draw(rng: np.random.Generator, label: int) -> Pixels:
    return signs.draw(rng, label, STYLE)


def source(options: TaskOptions) -> BuiltInSource:
    """9,100 images, 32x32: 350 a sign."""
    return drawn(
        "signs",
        "26 signs like those of traffic, leaning and badly lit (drawn here)",
        signs.NAMES,
        options.templates or ('a photo of a "{}" traffic sign.',),
        _draw,
        count=9100,
        version="1",
    )
