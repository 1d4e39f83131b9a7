"""Twenty-six printed capital letters in five typefaces, leaning and noisy: drawn here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neulig_fl.data.built_in import BuiltInSource, drawn
from neulig_fl.data.synthetic import Pixels, Style, glyphs

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

TYPEFACES = ("DejaVuSerif", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmtt10")
STYLE = Style(
    lean=0.45, turn=0.35, shift=0.1, scale=(0.32, 0.42), squeeze=0.75, contrast=100,
    clutter=1, mottle=30, light=1.2, bend=0.6, blur=0.3, noise=6,
)  # fmt: skip


def _draw(rng: np.random.Generator, label: int) -> Pixels:
    typeface = TYPEFACES[int(rng.integers(len(TYPEFACES)))]
    box = glyphs.printed(glyphs.LETTERS[label], typeface, int(rng.integers(0, 4)))
    return glyphs.draw(rng, box, STYLE)


def source(options: TaskOptions) -> BuiltInSource:
    """9,100 images, 32x32: 350 a letter."""
    return drawn(
        "glyphs",
        "26 printed capitals in five typefaces, leaning and noisy (drawn here)",
        glyphs.LETTERS,
        options.templates or ('a photo of the letter: "{}".',),
        _draw,
        count=9100,
        version="1",
    )
