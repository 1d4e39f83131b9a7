"""Real MNIST digits in colour on cluttered grounds, between other digits: this suite's SVHN.

The images are made from those of `mnist5k` and share its collection and ids: one source image is on
the same side of every split in both tasks. The neighbours are written here and are nobody's image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core.randomness import numpy_generator
from neulig_fl.data.built_in import BuiltInSource, ImageArray
from neulig_fl.data.sources import mnist5k
from neulig_fl.data.synthetic import Pixels, Style, canvas, glyphs

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions

STYLE = Style(contrast=150, clutter=1, mottle=20, light=1.0, blur=0.2, noise=4)
NEIGHBOURS = 0.25
"""Chance of another digit at either side, cut by the image's edge."""


def _build() -> ImageArray:
    digits = mnist5k.images()[..., 0]
    generators = (numpy_generator(0, "source:clutter", str(i)) for i in range(len(digits)))
    return np.stack([_draw(rng, digit) for rng, digit in zip(generators, digits, strict=True)])


def _draw(rng: np.random.Generator, digit: NDArray[np.uint8]) -> Pixels:
    """One digit (32, 32) on a ground of its own."""
    paper, ink = canvas.two_colours(rng, STYLE.contrast)
    mask = np.zeros((canvas.SIZE, canvas.SIZE), np.uint8)
    for middle in (-5, canvas.SIZE + 5):
        if rng.random() < NEIGHBOURS:
            mask = np.maximum(mask, _neighbour(rng, middle))
    moved = np.roll(digit, rng.integers(-1, 2, size=2), axis=(0, 1))
    image = canvas.laid(
        canvas.ground(rng, STYLE, paper), Image.fromarray(np.maximum(mask, moved)), ink
    )
    return canvas.finish(image, rng, STYLE)


def _neighbour(rng: np.random.Generator, middle: int) -> NDArray[np.uint8]:
    """A mask (32, 32) of some digit whose middle is at a column outside of the image."""
    digit = glyphs.DIGITS[int(rng.integers(len(glyphs.DIGITS)))]
    box = glyphs.written(rng, digit, rng.uniform(0.1, 0.2)).resize((18, 22))
    mask = Image.new("L", (canvas.SIZE, canvas.SIZE))
    mask.paste(box, (middle - 9, int(rng.integers(3, 8))))
    return np.asarray(mask)


def source(options: TaskOptions) -> BuiltInSource:
    """5,000 MNIST digits, 32x32."""
    return BuiltInSource(
        collection=mnist5k.COLLECTION,
        summary="MNIST's digits of mnist5k in colour, on cluttered grounds (drawn here)",
        class_names=tuple("0123456789"),
        templates=options.templates or mnist5k.NUMBER_TEMPLATES,
        count=5000,
        version="clutter-1",
        build=_build,
        read_labels=mnist5k.labels,
    )
