"""What the bundled models are pre-trained on: lessons of classes, prompts and plain images.

The bundled weights are a function of this file and of the drawings: after a change here, run
`neulig-fl pretrain` again for both models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neulig_fl.data.synthetic import garments, glyphs, shapes, signs, textures
from neulig_fl.data.synthetic.canvas import Pixels, Style

PLAIN = Style(turn=0.3, contrast=80, clutter=1, mottle=25, light=0.6, bend=0.6, blur=0.5, noise=6)
CHALK = Style(turn=0.3, scale=(0.28, 0.46), squeeze=0.6, bend=1.6, blur=1.2, noise=5)
CLOTH = Style(turn=0.06, scale=(0.38, 0.48), squeeze=0.75, shift=0.03, bend=1.0, blur=0.6)

TYPEFACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "STIXGeneral", "cmss10")
"""The task `glyphs` has other ones."""


@dataclass(frozen=True)
class Lesson:
    """One kind of image.

    Args:
        class_names: what can be drawn.
        templates: prompts with `{}` for the class name.
        images: how many of each batch.
        draw: an image of a class from a generator.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    images: int
    draw: Callable[[np.random.Generator, int], Pixels]


def _printed(rng: np.random.Generator, character: str, style: Style, chalk: bool) -> Pixels:
    typeface = TYPEFACES[int(rng.integers(len(TYPEFACES)))]
    box = glyphs.printed(character, typeface, int(rng.integers(0, 4)))
    return glyphs.draw(rng, box, style, chalk)


def _letter(rng: np.random.Generator, label: int) -> Pixels:
    return _printed(rng, glyphs.LETTERS[label], PLAIN, chalk=False)


def _digit(rng: np.random.Generator, label: int) -> Pixels:
    digit, chalk = glyphs.DIGITS[label], rng.random() < 0.6
    style = CHALK if chalk else PLAIN
    if rng.random() < 0.3:
        return _printed(rng, digit, style, chalk)
    return glyphs.draw(rng, glyphs.written(rng, digit, rng.uniform(0.08, 0.24)), style, chalk)


LESSONS = (
    Lesson(
        shapes.NAMES,
        ("a drawing of a {}.", "a {}.", "an image of a {} shape."),
        28,
        lambda rng, label: shapes.draw(rng, label, PLAIN, outlined=0.1),
    ),
    Lesson(
        textures.NAMES,
        ("a photo of a {} texture.", "{}.", "a pattern of {}."),
        24,
        lambda rng, label: textures.draw(rng, label, PLAIN),
    ),
    Lesson(
        glyphs.LETTERS,
        ('a photo of the letter: "{}".', 'the letter "{}".', 'a printed "{}".'),
        32,
        _letter,
    ),
    Lesson(
        glyphs.DIGITS,
        ('a photo of the number: "{}".', 'the number "{}".', 'a written "{}".'),
        36,
        _digit,
    ),
    Lesson(
        signs.NAMES,
        ('a photo of a "{}" traffic sign.', 'a "{}" traffic sign.', "a {} sign."),
        32,
        lambda rng, label: signs.draw(rng, label, PLAIN),
    ),
    Lesson(
        garments.NAMES,
        ("a photo of a {}.", "a {}.", "a drawing of a {}."),
        8,
        lambda rng, label: garments.draw(rng, label, CLOTH),
    ),
)
