"""What every drawing needs: a style, colours, a place, a ground, and the last touches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 32
SCALE = 3
BIG = SIZE * SCALE
"""Outlines are drawn three times as large and averaged down, so that edges are smooth."""

Point = tuple[float, float]
Pixels = NDArray[np.uint8]
Field = NDArray[np.float64]


@dataclass(frozen=True)
class Style:
    """How far an image is from the plain thing; every amount is drawn evenly from its range.

    Args:
        lean: the middle of all rotations, radians.
        turn: largest rotation to either side of the middle, radians.
        shift: largest move to either side, as a share of the image.
        scale: least and largest half-width of the thing, as shares of the image.
        squeeze: least ratio of the thing's width to its height, in (0, 1].
        contrast: least mean difference between two colours, in levels of 0 ... 255.
        clutter: most foreign blobs and lines on the ground, each.
        mottle: largest amplitude of the ground's cloudy colours, in levels.
        light: largest slope of the light, in levels per pixel.
        bend: largest displacement of a smooth warp, in pixels.
        blur: largest standard deviation of a Gaussian blur, in pixels.
        noise: standard deviation of the noise, in levels.
    """

    lean: float = 0.0
    turn: float = 0.25
    shift: float = 0.08
    scale: tuple[float, float] = (0.28, 0.42)
    squeeze: float = 0.8
    contrast: float = 90.0
    clutter: int = 0
    mottle: float = 0.0
    light: float = 0.0
    bend: float = 0.0
    blur: float = 0.0
    noise: float = 4.0


def points(text: str) -> list[Point]:
    """An outline or a stroke, written in tenths of the unit box.

    Example:
        >>> points("-6,0 9.5,10")
        [(-0.6, 0.0), (0.95, 1.0)]
    """
    pairs = (pair.split(",") for pair in text.split())
    return [(float(x) / 10, float(y) / 10) for x, y in pairs]


def colour(rng: np.random.Generator) -> Field:
    """Any colour but the darkest and the lightest, shape (3,)."""
    return rng.uniform(20, 236, size=3)


def two_colours(rng: np.random.Generator, apart: float) -> tuple[Field, Field]:
    """Two colours whose mean channel difference is at least `apart` levels."""
    first = colour(rng)
    for _ in range(50):
        second = colour(rng)
        if np.abs(first - second).mean() >= apart:
            return first, second
    return first, 255.0 - first


@dataclass(frozen=True)
class Placement:
    """Where a thing stands: unit-box points go to `matrix @ point + centre` on the big canvas."""

    matrix: Field
    centre: Field

    def of(self, points: Sequence[Point]) -> list[Point]:
        """The placed points."""
        moved = np.asarray(points, dtype=np.float64) @ self.matrix.T + self.centre
        return [(float(x), float(y)) for x, y in moved]

    def carry(self, drawn: Image.Image) -> Image.Image:
        """An image of the unit box, placed on a big canvas that is empty elsewhere.

        Args:
            drawn: the box [-1, 1] x [-1, 1] as an image of any size and mode.
        """
        half = np.array(drawn.size) / 2
        back = np.linalg.inv(self.matrix) * half[:, None]
        offset = half - back @ self.centre
        rows = (*back[0], offset[0], *back[1], offset[1])
        return drawn.transform((BIG, BIG), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)


def place(rng: np.random.Generator, style: Style) -> Placement:
    """A place as the style has them."""
    angle = style.lean + rng.uniform(-style.turn, style.turn)
    size = rng.uniform(*style.scale) * BIG
    width = rng.uniform(style.squeeze, 1.0)
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = BIG / 2 + rng.uniform(-style.shift, style.shift, size=2) * BIG
    return Placement(size * turned @ np.diag([width, 1.0]), centre)


def stencil(
    filled: Sequence[Sequence[Point]], holes: Sequence[Sequence[Point]] = ()
) -> Image.Image:
    """A big mask: placed outlines filled, placed holes cut out of them."""
    mask = Image.new("L", (BIG, BIG), 0)
    draw = ImageDraw.Draw(mask)
    for outline in filled:
        draw.polygon(list(outline), fill=255)
    for hole in holes:
        draw.polygon(list(hole), fill=0)
    return mask


def smooth(rng: np.random.Generator, cells: int = 4) -> Field:
    """Smooth noise around 0, mostly within [-1, 1], shape (32, 32); bicubic between few cells."""
    coarse = Image.fromarray(rng.uniform(-1, 1, size=(cells, cells)).astype(np.float32))
    fine = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(fine, dtype=np.float64)


def clouds(rng: np.random.Generator) -> Field:
    """Smooth noise of three scales in [0, 1], shape (32, 32)."""
    field = smooth(rng, 3) + 0.5 * smooth(rng, 6) + 0.25 * smooth(rng, 12)
    field -= field.min()
    field /= max(float(field.max()), 1e-9)
    return field


def ground(rng: np.random.Generator, style: Style, paper: Field) -> Field:
    """The ground that a thing stands on, shape (32, 32, 3): one colour, mottled and cluttered."""
    level = np.broadcast_to(paper, (SIZE, SIZE, 3)).astype(np.float64)
    if style.mottle:
        amount = rng.uniform(0, style.mottle, size=3) * rng.choice((-1.0, 1.0), size=3)
        level = level + smooth(rng)[..., None] * amount
    if not style.clutter:
        return level
    canvas = Image.fromarray(level.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, style.clutter + 1))):
        x, y = rng.uniform(0, SIZE, size=2)
        w, h = rng.uniform(1.5, 6, size=2)
        draw.ellipse((x - w, y - h, x + w, y + h), fill=_near(rng, paper))
    for _ in range(int(rng.integers(0, style.clutter + 1))):
        ends = rng.uniform(0, SIZE, size=4)
        draw.line([tuple(ends[:2]), tuple(ends[2:])], fill=_near(rng, colour(rng)))
    return np.asarray(canvas, dtype=np.float64)


def _near(rng: np.random.Generator, middle: Field) -> tuple[int, int, int]:
    red, green, blue = (middle + rng.uniform(-50, 50, size=3)).clip(0, 255).astype(int).tolist()
    return red, green, blue


def laid(below: Field, mask: Image.Image, ink: Field) -> Field:
    """Ink on a ground through a mask of any size; ink of shape (3,) or (32, 32, 3)."""
    alpha = np.asarray(mask.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64) / 255
    mixed: Field = below + alpha[..., None] * (ink - below)
    return mixed


def finish(image: Field, rng: np.random.Generator, style: Style) -> Pixels:
    """Warp, light, blur and noise, in this order; uint8 of shape (32, 32, 3)."""
    if style.bend:
        image = warped(image, rng, style.bend)
    if style.light:
        slope = rng.uniform(-style.light, style.light, size=2)
        grid = np.arange(SIZE) - SIZE / 2
        image = image + (slope[0] * grid[:, None] + slope[1] * grid[None, :])[..., None]
    if style.blur:
        sigma = rng.uniform(0, style.blur)
        from scipy import ndimage  # slow to import

        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3.0)
    noisy = image + rng.normal(0, style.noise, size=image.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def warped(image: Field, rng: np.random.Generator, most: float) -> Field:
    """Move every pixel along a smooth field of at most `most` pixels."""
    amount = rng.uniform(0, most)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    down, right = (smooth(rng) * amount for _ in range(2))
    at = np.stack([rows + down, columns + right])
    from scipy import ndimage

    layers = [ndimage.map_coordinates(image[..., c], at, order=1, mode="nearest") for c in range(3)]
    return np.stack(layers, axis=-1)
