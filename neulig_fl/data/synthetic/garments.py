"""Ten garments as grey outlines on black, the classes of Fashion-MNIST; for pre-training only."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from neulig_fl.data.synthetic import canvas
from neulig_fl.data.synthetic.canvas import Pixels, Point, Style

NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# The right half of an outline that is the same on both sides, from the top to the bottom; points in
# tenths of the unit box.
_HALVES = {
    "T-shirt/top": "0,-8.5 3,-9.5 9.5,-5 7.5,-2 5,-4 5,10 0,10",
    "Trouser": "0,-10 4,-10 5,10 1.2,10 0.4,-3 0,-3",
    "Pullover": "0,-8.5 3,-9.5 6.5,-7 9.5,8 7,9 5,-1 5,9 0,9",
    "Dress": "0,-9 2.5,-10 3.5,-5.5 2,-1.5 5,10 0,10",
    "Coat": "0,-9 3,-10 6,-7.5 8.5,8.5 6.2,9 5.2,-1 5.8,10 0,10",
    "Shirt": "0,-7 2.5,-10 6.5,-7.5 9,5 6.5,6 4.8,-1 4.8,10 0,10",
    "Bag": "0,-3 8.5,-3 9.5,8.5 0,8.5",
}

# Outlines that point to the left.
_WHOLES = {
    "Sandal": "-10,5 -3,2.5 3,1 7,-4 9.5,-3 9.5,5 6,5 3,3.5 -6,6 -10,6",
    "Sneaker": "-10,3 -5,1 1,-3 5,-3 9.5,-2 10,5 -10,5",
    "Ankle boot": "-9.5,5 -4,1 1,-1 2,-9 8.5,-9 8.5,8 4,8 3,6.5 -9.5,7.5",
}


def _cut(name: str, rng: np.random.Generator) -> list[Point]:
    """An outline whose corners are a little off; both sides alike where the garment is."""
    corners = canvas.points(_WHOLES.get(name) or _HALVES[name])
    moved = [tuple(p + rng.normal(0, 0.05, size=2)) for p in np.asarray(corners)]
    if name in _WHOLES:
        return [(float(x), float(y)) for x, y in moved]
    right = [(abs(float(x)), float(y)) for x, y in moved]
    return [*right, *[(-x, y) for x, y in reversed(right)]]


def draw(rng: np.random.Generator, label: int, style: Style) -> Pixels:
    """One image of `NAMES[label]`, uint8 of shape (32, 32, 3)."""
    name = NAMES[label]
    place = canvas.place(rng, style)
    mask = canvas.stencil([place.of(_cut(name, rng))])
    pen = ImageDraw.Draw(mask)
    if name == "Bag":
        handle = [(-0.45, -0.3), (-0.35, -0.8), (0.35, -0.8), (0.45, -0.3)]
        pen.line(place.of(handle), 255, width=6)
    if name in ("Coat", "Shirt"):
        pen.line(place.of([(0, -0.8), (0, 1)]), 90, width=4)
    cloth = rng.uniform(90, 240) + canvas.smooth(rng) * rng.uniform(0, 60)
    below = np.zeros((canvas.SIZE, canvas.SIZE, 3))
    return canvas.finish(canvas.laid(below, mask, cloth[..., None]), rng, style)
