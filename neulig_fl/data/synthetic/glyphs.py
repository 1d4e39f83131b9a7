"""Printed characters in several typefaces, and digits written with a pen."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neulig_fl.data import typefaces
from neulig_fl.data.synthetic import canvas
from neulig_fl.data.synthetic.canvas import BIG, Pixels, Style

TYPEFACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
"""Files that come with matplotlib; nothing else of it is used here."""

# A digit is one of several ways to write it; a way is one or more strokes, divided by slashes;
# a stroke is points in tenths of the unit box.
_WAYS = {
    "0": ("0,-10 -6,-5 -6,5 0,10 6,5 6,-5 0,-10",),
    "1": (
        "0,-10 0,0 0,10",
        "-4,-6 0,-10 / 0,-10 0,0 0,10",
        "-4,-6 0,-10 / 0,-10 0,10 / -4,10 4,10",
    ),
    "2": (
        "-6,-6 0,-10 6,-5 0,3 -6,10 / -6,10 6,9",
        "-5,-7 1,-10 5,-5 -2,6 -6,9 -4,6 1,9 7,8",
    ),
    "3": ("-5,-8 1,-10 5,-5 0,-1 / 0,-1 6,4 1,10 -6,8",),
    "4": (
        "-1,-10 -6,2 / -6,2 6,2 / 3,-6 2,10",
        "-5,-9 -5,0 4,0 / 4.5,-9 4,0 4,10",
    ),
    "5": ("6,-10 -4,-9.5 / -4,-9.5 -5,-1 / -5,-1 2,-3 6,3 1,10 -6,8",),
    "6": ("4,-10 -3,-4 -6,4 0,10 5,5 1,0 -5,4",),
    "7": (
        "-6,-9 6,-9.5 / 6,-9.5 1,0 -1,10",
        "-6,-9 6,-9.5 / 6,-9.5 1,0 -1,10 / -3,0 5,-0.5",
    ),
    "8": ("5,-7 0,-10 -5,-6 0,0 5,5 0,10 -5,5 0,0 5,-7",),
    "9": (
        "5,-6 0,-10 -5,-5 0,0 5,-5 / 5,-6 4,2 2,10",
        "5,-5 0,-10 -5,-5 0,0 5,-5 5,4 0,10 -4,8",
    ),
}
DIGITS = tuple(_WAYS)
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@cache
def _font(typeface: str) -> ImageFont.FreeTypeFont:
    return typefaces.font(typeface, BIG)


@cache
def printed(character: str, typeface: str, thicker: int = 0) -> Image.Image:
    """A mask of one character that fills the unit box; thickened by so many big pixels."""
    drawn = Image.new("L", (2 * BIG, 2 * BIG), 0)
    ImageDraw.Draw(drawn).text((BIG, BIG), character, 255, _font(typeface), anchor="mm",
                               stroke_width=thicker)  # fmt: skip
    left, top, right, bottom = drawn.getbbox() or (0, 0, BIG, BIG)
    half, x, y = (bottom - top) / 2, (left + right) / 2, (top + bottom) / 2
    box = (round(x - half), round(y - half), round(x + half), round(y + half))
    return drawn.crop(box)


def written(rng: np.random.Generator, digit: str, width: float) -> Image.Image:
    """A mask of one digit written by an unsteady pen; the pen's width as a share of the box."""
    ways = [[canvas.points(stroke) for stroke in way.split("/")] for way in _WAYS[digit]]
    drawn = Image.new("L", (BIG, BIG), 0)
    draw = ImageDraw.Draw(drawn)
    pen = max(2, round(width * BIG))
    margin = BIG / 2 - pen / 2 - 1
    unsteady = {p: rng.normal(0, 0.07, size=2) for stroke in ways[-1] for p in stroke}
    for stroke in ways[int(rng.integers(len(ways)))]:
        points = [np.add(p, unsteady.get(p, rng.normal(0, 0.07, size=2))) for p in stroke]
        line = [tuple(BIG / 2 + margin * p.clip(-1, 1)) for p in _curve(np.array(points))]
        draw.line(line, 255, width=pen, joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return drawn


def _curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A smooth curve through the points (Catmull-Rom), shape (steps * (points - 1) + 1, 2)."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
        )
    return np.concatenate([*parts, points[-1:]])


def draw(rng: np.random.Generator, box: Image.Image, style: Style, chalk: bool = False) -> Pixels:
    """A character's mask on a ground, uint8 of shape (32, 32, 3).

    Args:
        box: what `printed` or `written` gave.
        chalk: white on black, as scans of handwriting are; else in any two colours.
    """
    if chalk:
        paper, ink = np.zeros(3), np.full(3, rng.uniform(200, 255))
    else:
        paper, ink = canvas.two_colours(rng, style.contrast)
    below = canvas.ground(rng, style, paper)
    mask = canvas.place(rng, style).carry(box)
    return canvas.finish(canvas.laid(below, mask, ink), rng, style)
