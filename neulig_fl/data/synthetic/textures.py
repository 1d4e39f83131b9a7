"""Ten two-colour textures that fill the image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.data.synthetic import canvas
from neulig_fl.data.synthetic.canvas import SIZE, Field, Pixels, Style

NAMES = (
    "stripes", "checkerboard", "dots", "grid", "zigzag",
    "rings", "speckle", "clouds", "bricks", "waves",
)  # fmt: skip

Pattern = Callable[[Field, Field, np.random.Generator], NDArray[Any]]


def _waves(u: Field, v: Field, rng: np.random.Generator) -> NDArray[np.bool_]:
    return np.sin(u + 1.6 * np.sin(v / rng.uniform(1.4, 2.0))) > 0


def _bricks(u: Field, v: Field, _: np.random.Generator) -> NDArray[np.bool_]:
    row = np.floor(v / math.pi)
    across = (u / 2 + math.pi * 0.5 * (row % 2)) % math.pi
    return (v % math.pi > 0.7) & (across > 0.4)


def _clouds(u: Field, v: Field, rng: np.random.Generator) -> Field:  # noqa: ARG001
    return canvas.clouds(rng)


_PATTERNS: dict[str, Pattern] = {
    "stripes": lambda u, v, rng: np.sin(u) > 0,
    "checkerboard": lambda u, v, rng: (np.sin(u) > 0) ^ (np.sin(v) > 0),
    "dots": lambda u, v, rng: (np.cos(u) + np.cos(v)) > 0.9,
    "grid": lambda u, v, rng: (np.cos(u) > 0.75) | (np.cos(v) > 0.75),
    "zigzag": lambda u, v, rng: np.sin(u + 4.4 * np.abs((v / math.pi) % 2 - 1)) > 0,
    "rings": lambda u, v, rng: np.sin(1.3 * np.hypot(u, v)) > 0,
    "speckle": lambda u, v, rng: rng.random(u.shape) < rng.uniform(0.12, 0.3),
    "clouds": _clouds,
    "bricks": _bricks,
    "waves": _waves,
}


def draw(
    rng: np.random.Generator,
    label: int,
    style: Style,
    frequency: tuple[float, float] = (0.8, 1.2),
) -> Pixels:
    """One image of `NAMES[label]`, uint8 of shape (32, 32, 3).

    Args:
        frequency: least and largest frequency, radians per pixel.
    """
    low, high = canvas.two_colours(rng, style.contrast)
    angle = style.lean + rng.uniform(-style.turn, style.turn)
    pace = rng.uniform(*frequency)
    centre = rng.uniform(-5, 5, size=2)
    grid = np.arange(SIZE) - SIZE / 2
    x, y = grid[None, :] - centre[0], grid[:, None] - centre[1]
    u = pace * (math.cos(angle) * x - math.sin(angle) * y)
    v = pace * (math.sin(angle) * x + math.cos(angle) * y)
    level = _PATTERNS[NAMES[label]](u, v, rng).astype(np.float64)[..., None]
    below, above = canvas.ground(rng, style, low), canvas.ground(rng, style, high)
    return canvas.finish(below + level * (above - below), rng, style)
