"""Ten shapes, filled or outlined."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from neulig_fl.data.synthetic import canvas
from neulig_fl.data.synthetic.canvas import Pixels, Point, Style

NAMES = (
    "circle", "square", "triangle", "pentagon", "star",
    "cross", "ring", "heart", "crescent", "arrow",
)  # fmt: skip


def _regular(sides: int, inner: float = 1.0) -> list[Point]:
    """Corners of a regular polygon, or of a star when `inner` < 1."""
    corners = sides if inner == 1.0 else 2 * sides
    radii = [1.0 if inner == 1.0 or i % 2 == 0 else inner for i in range(corners)]
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _circle(radius: float = 1.0, centre: Point = (0.0, 0.0), steps: int = 40) -> list[Point]:
    angles = [2 * math.pi * i / steps for i in range(steps)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _heart() -> list[Point]:
    angles = [2 * math.pi * i / 60 for i in range(60)]
    return [
        (
            math.sin(a) ** 3,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16,
        )
        for a in angles
    ]


_CROSS = [
    (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
    (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3),
]  # fmt: skip
_ARROW = [(0, -1), (0.8, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.8, -0.1)]

# The outline, and a hole (or None).
_OUTLINES: dict[str, tuple[list[Point], list[Point] | None]] = {
    "circle": (_circle(), None),
    "square": ([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)], None),
    "triangle": (_regular(3), None),
    "pentagon": (_regular(5), None),
    "star": (_regular(5, inner=0.42), None),
    "cross": (_CROSS, None),
    "ring": (_circle(), _circle(0.55)),
    "heart": (_heart(), None),
    "crescent": (_circle(), _circle(0.85, (0.5, 0.0))),
    "arrow": (_ARROW, None),
}

# An outlined circle would be a ring.
_ONLY_FILLED = ("circle", "ring", "crescent")


def draw(rng: np.random.Generator, label: int, style: Style, outlined: float = 0.0) -> Pixels:
    """One image of `NAMES[label]`, uint8 of shape (32, 32, 3).

    Args:
        outlined: share of the shapes that are drawn as a line, where that is not another shape.
    """
    paper, ink = canvas.two_colours(rng, style.contrast)
    below = canvas.ground(rng, style, paper)
    mask = _mask(label, canvas.place(rng, style), rng.random() < outlined)
    return canvas.finish(canvas.laid(below, mask, ink), rng, style)


def _mask(label: int, place: canvas.Placement, as_line: bool) -> Image.Image:
    outline, hole = _OUTLINES[NAMES[label]]
    placed = place.of(outline)
    if as_line and NAMES[label] not in _ONLY_FILLED:
        mask = canvas.stencil(())
        ImageDraw.Draw(mask).line([*placed, placed[0], placed[1]], 255, width=2 * canvas.SCALE)
        return mask
    return canvas.stencil([placed], [place.of(hole)] if hole else ())
