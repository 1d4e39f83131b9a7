"""Procedural 32x32 RGB pictures: shapes, textures and glyphs, drawn from a generator.

Two styles. `task` is what the bundled tasks show: clutter, noise, any rotation. `plain` is what the
bundled models are pre-trained on: the same ideas drawn cleanly, in other colours, from other draws;
so the checkpoint knows something of every task without having seen one of its images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 32
_SCALE = 3
_BIG = SIZE * _SCALE

SHAPES = (
    "circle", "square", "triangle", "pentagon", "star",
    "cross", "ring", "heart", "crescent", "arrow",
)  # fmt: skip
TEXTURES = (
    "stripes", "checkerboard", "dots", "grid", "zigzag",
    "rings", "speckle", "clouds", "bricks", "waves",
)  # fmt: skip

Point = tuple[float, float]
Picture = NDArray[np.uint8]


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


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(20, 236, size=3)


def _colour_pair(rng: np.random.Generator, apart: float) -> tuple[NDArray[np.float64], ...]:
    """Two colours whose mean channel difference is at least `apart`."""
    first = _colour(rng)
    for _ in range(50):
        second = _colour(rng)
        if np.abs(first - second).mean() >= apart:
            return first, second
    return first, 255.0 - first


def _place(
    points: list[Point], rng: np.random.Generator, turn: float, spread: float
) -> list[Point]:
    """Rotate, stretch, scale and move unit-box points onto the big canvas."""
    angle = rng.uniform(-turn, turn)
    scale = rng.uniform(0.27, 0.42) * _BIG
    stretch = rng.uniform(0.8, 1.0)
    centre = _BIG / 2 + rng.uniform(-spread, spread, size=2) * _BIG
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    return [
        (centre[0] + cos * x * stretch - sin * y, centre[1] + sin * x * stretch + cos * y)
        for x, y in points
    ]


def shape(rng: np.random.Generator, label: int, style: str = "task") -> Picture:
    """One picture of `SHAPES[label]`, uint8 of shape (32, 32, 3)."""
    hard = style == "task"
    outline, hole = _OUTLINES[SHAPES[label]]
    paper, ink = _colour_pair(rng, 60.0 if hard else 90.0)
    state = rng.bit_generator.state
    turn, spread = (0.35, 0.08) if hard else (0.25, 0.08)
    mask = Image.new("L", (_BIG, _BIG), 0)
    draw = ImageDraw.Draw(mask)
    placed = _place(outline, rng, turn, spread)
    outlined = hard and rng.random() < 0.15
    if outlined and SHAPES[label] not in _ONLY_FILLED:
        draw.line([*placed, placed[0], placed[1]], fill=255, width=2 * _SCALE)
    else:
        draw.polygon(placed, fill=255)
    if hole is not None:
        rng.bit_generator.state = state
        draw.polygon(_place(hole, rng, turn, spread), fill=0)
        rng.random()
    alpha = np.asarray(mask.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64) / 255
    picture = paper + alpha[..., None] * (ink - paper)
    if hard:
        picture = _clutter(picture, rng)
    return _finish(picture, rng, noise=12.0 if hard else 4.0)


def _clutter(picture: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A few thin lines and a slope of light over the picture."""
    canvas = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 3))):
        ends = rng.uniform(0, SIZE, size=4)
        draw.line([tuple(ends[:2]), tuple(ends[2:])], fill=tuple(int(c) for c in _colour(rng)))
    slope = rng.uniform(-1.2, 1.2, size=2)
    grid = np.arange(SIZE) - SIZE / 2
    light = slope[0] * grid[:, None] + slope[1] * grid[None, :]
    lit: NDArray[np.float64] = np.asarray(canvas, dtype=np.float64) + light[..., None]
    return lit


def _finish(picture: NDArray[np.float64], rng: np.random.Generator, noise: float) -> Picture:
    noisy = picture + rng.normal(0, noise, size=picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _waves(
    u: NDArray[np.float64], v: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    return np.sin(u + 1.6 * np.sin(v / rng.uniform(1.4, 2.0))) > 0


def _dots(
    u: NDArray[np.float64], v: NDArray[np.float64], _: np.random.Generator
) -> NDArray[np.bool_]:
    return (np.cos(u) + np.cos(v)) > 0.9


def _bricks(
    u: NDArray[np.float64], v: NDArray[np.float64], _: np.random.Generator
) -> NDArray[np.bool_]:
    row = np.floor(v / math.pi)
    across = (u / 2 + math.pi * 0.5 * (row % 2)) % math.pi
    return (v % math.pi > 0.7) & (across > 0.4)


def _zigzag(
    u: NDArray[np.float64], v: NDArray[np.float64], _: np.random.Generator
) -> NDArray[np.bool_]:
    return np.sin(u + 2.2 * np.abs((v / math.pi) % 2 - 1) * 2) > 0


Pattern = Callable[
    [NDArray[np.float64], NDArray[np.float64], np.random.Generator], NDArray[np.bool_]
]
_PATTERNS: dict[str, Pattern] = {
    "stripes": lambda u, _v, _r: np.sin(u) > 0,
    "checkerboard": lambda u, v, _r: (np.sin(u) > 0) ^ (np.sin(v) > 0),
    "dots": _dots,
    "grid": lambda u, v, _r: (np.cos(u) > 0.75) | (np.cos(v) > 0.75),
    "zigzag": _zigzag,
    "rings": lambda u, v, _r: np.sin(1.3 * np.hypot(u, v)) > 0,
    "speckle": lambda u, _v, r: r.random(u.shape) < r.uniform(0.12, 0.3),
    "bricks": _bricks,
    "waves": _waves,
}


def _cloud_field(rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise in [0, 1], shape (32, 32)."""
    field: NDArray[np.float64] = np.zeros((SIZE, SIZE))
    for cells, weight in ((3, 1.0), (6, 0.5), (12, 0.25)):
        coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
        field += weight * np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    field -= field.min()
    field /= max(float(field.max()), 1e-9)
    return field


def texture(rng: np.random.Generator, label: int, style: str = "task") -> Picture:
    """One picture of `TEXTURES[label]`, uint8 of shape (32, 32, 3)."""
    hard = style == "task"
    name = TEXTURES[label]
    low, high = _colour_pair(rng, 60.0 if hard else 90.0)
    if name == "clouds":
        level = _cloud_field(rng)
    else:
        angle = rng.uniform(-0.45, 0.45) if hard else rng.uniform(-0.2, 0.2)
        frequency = rng.uniform(0.7, 1.3) if hard else rng.uniform(0.8, 1.2)
        centre = rng.uniform(-5, 5, size=2)
        grid = np.arange(SIZE) - SIZE / 2
        x, y = grid[None, :] - centre[0], grid[:, None] - centre[1]
        u = frequency * (math.cos(angle) * x - math.sin(angle) * y)
        v = frequency * (math.sin(angle) * x + math.cos(angle) * y)
        level = _PATTERNS[name](u, v, rng).astype(np.float64)
    picture = low + level[..., None] * (high - low)
    return _finish(picture, rng, noise=14.0 if hard else 5.0)


def glyph(rng: np.random.Generator, character: str) -> Picture:
    """A light character on a dark ground, slanted, bent, thickened; uint8, (32, 32, 3)."""
    font = ImageFont.load_default(size=float(rng.uniform(0.72, 0.98) * _BIG))
    canvas = Image.new("L", (_BIG, _BIG), 0)
    centre = _BIG / 2 + rng.uniform(-0.05, 0.05, size=2) * _BIG
    ImageDraw.Draw(canvas).text(tuple(centre), character, fill=255, font=font, anchor="mm",
                                stroke_width=int(rng.integers(0, 3)))  # fmt: skip
    shear, turn = rng.uniform(-0.35, 0.25), rng.uniform(-0.2, 0.2)
    stretch = rng.uniform(0.85, 1.35)
    half = _BIG / 2
    a, b = stretch * math.cos(turn), shear - math.sin(turn)
    d, e = math.sin(turn), math.cos(turn)
    matrix = (a, b, half - a * half - b * half, d, e, half - d * half - e * half)
    canvas = canvas.transform(
        (_BIG, _BIG), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    canvas = _bend(canvas, rng)
    if rng.random() < 0.4:
        canvas = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3.0))))
    small = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64)
    return _finish(np.repeat(small[..., None], 3, axis=2), rng, noise=4.0)


def _bend(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Move the corners and middle of a 2x2 mesh a little: handwriting is never straight."""
    step = _BIG // 2
    moved = np.stack(np.meshgrid([0, step, _BIG], [0, step, _BIG]), axis=-1).astype(np.float64)
    moved += rng.normal(0, 0.035 * _BIG, size=moved.shape)
    mesh = []
    for row in range(2):
        for column in range(2):
            box = (column * step, row * step, (column + 1) * step, (row + 1) * step)
            corners = (moved[row, column], moved[row + 1, column],
                       moved[row + 1, column + 1], moved[row, column + 1])  # fmt: skip
            mesh.append((box, tuple(float(c) for corner in corners for c in corner)))
    return canvas.transform((_BIG, _BIG), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
