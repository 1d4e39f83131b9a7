"""Twenty-six traffic-sign-like images: a plate's shape, its border, and a symbol on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from neulig_fl.data.synthetic import canvas, glyphs
from neulig_fl.data.synthetic.canvas import BIG, Field, Pixels, Point, Style, points

RED, BLUE, YELLOW = (200, 30, 40), (30, 80, 180), (240, 200, 40)
WHITE, BLACK = (240, 240, 240), (25, 25, 25)

Colour = tuple[int, int, int]
Pen = Callable[[ImageDraw.ImageDraw, Colour], None]


def _at(points: list[Point], scale: float = 1.0, down: float = 0.0) -> list[Point]:
    half = BIG / 2
    return [(half * (1 + scale * x), half * (1 + scale * y + down)) for x, y in points]


def _polygon(sides: int, turn: float) -> list[Point]:
    angles = [2 * math.pi * i / sides + turn for i in range(sides)]
    return [(math.cos(a), math.sin(a)) for a in angles]


# Outlines of plates and how far down their middle lies.
_PLATES: dict[str, tuple[list[Point], float]] = {
    "disc": (_polygon(40, 0.0), 0.0),
    "warning": (points("0,-9.5 10,8.5 -10,8.5"), 0.28),
    "yield": (points("-10,-8.5 10,-8.5 0,9.5"), -0.28),
    "diamond": (_polygon(4, 0.0), 0.0),
    "octagon": (_polygon(8, math.pi / 8), 0.0),
    "square": (points("-8.5,-8.5 8.5,-8.5 8.5,8.5 -8.5,8.5"), 0.0),
    "bar": (points("-10,-5.5 10,-5.5 10,5.5 -10,5.5"), 0.0),
}


def _filled(*outlines: list[Point]) -> Pen:
    def pen(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
        for outline in outlines:
            draw.polygon(_at(outline), fill=ink)

    return pen


def _lines(*lines: list[Point], width: float = 0.16) -> Pen:
    def pen(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
        for line in lines:
            draw.line(_at(line), fill=ink, width=round(width * BIG / 2), joint="curve")

    return pen


def _discs(*centres: Point, radius: float = 0.17) -> Pen:
    def pen(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
        for x, y in centres:
            draw.polygon(_at([(x + radius * a, y + radius * b) for a, b in _polygon(20, 0)]), ink)

    return pen


def _text(text: str, size: float) -> Pen:
    def pen(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
        width = size * BIG / len(text)
        for i, character in enumerate(text):
            mask = glyphs.printed(character, "DejaVuSans-Bold")
            high = round(size * BIG * 0.62)
            mask = mask.resize((max(1, round(mask.width * high / mask.height)), high))
            x = BIG / 2 + (i - (len(text) - 1) / 2) * width - mask.width / 2
            draw.bitmap((round(x), round(BIG / 2 - high / 2)), mask, fill=ink)

    return pen


def _arrow(turn: float, bent: bool = False) -> Pen:
    """An arrow that points up, turned; a bent one comes from below."""
    head: list[Point] = [(0, -0.62), (0.34, -0.2), (-0.34, -0.2)]
    shaft: list[Point] = [(0, -0.3), (0, 0.1 if bent else 0.6)]
    cos, sin = math.cos(turn), math.sin(turn)

    def turned(points: list[Point]) -> list[Point]:
        return [(cos * x - sin * y, sin * x + cos * y) for x, y in points]

    def pen(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
        _filled(turned(head))(draw, ink)
        _lines([*turned(shaft), (0, 0.65)] if bent else turned(shaft), width=0.22)(draw, ink)

    return pen


def _round(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
    """Three arrows that chase each other."""
    for start in (0, 120, 240):
        draw.arc((BIG * 0.26, BIG * 0.26, BIG * 0.74, BIG * 0.74), start, start + 80, ink, 9)
        a = math.radians(start + 95)
        tip = [(0.48 * math.cos(a + d) * r, 0.48 * math.sin(a + d) * r)
               for d, r in ((0.3, 1.0), (-0.35, 0.6), (-0.35, 1.4))]  # fmt: skip
        draw.polygon(_at(tip), fill=ink)


_SLASH = points("-6,-6 6,6")
_CROSS = (_SLASH, points("-6,6 6,-6"))
_WALKER = tuple(map(points, ("0,-2 0,2.5", "0,2 -2.5,6", "0,2 2.5,6", "-2.8,1 0,-1 2.8,0.5")))
_THREE = tuple(map(points, ("-6,5 5,-6", "-5,6 6,-5", "-6.8,3.8 3.8,-6.8")))
_OBLONG = points("-7,-2 7,-2 7,2 -7,2")
_SMALL_CROSS = (points("-3.2,-3.2 3.2,3.2"), points("-3.2,3.2 3.2,-3.2"))


def _walker(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
    _lines(*_WALKER, width=0.15)(draw, ink)
    _discs((0, -0.38), radius=0.13)(draw, ink)


def _exclamation(draw: ImageDraw.ImageDraw, ink: Colour) -> None:
    _lines([(0, -0.4), (0, 0.2)], width=0.2)(draw, ink)
    _discs((0, 0.48), radius=0.13)(draw, ink)


@dataclass(frozen=True)
class _Sign:
    """A plate's outline, its colour, its border, and the symbol in its colour."""

    plate: str
    face: Colour
    border: Colour
    ink: Colour = BLACK
    symbol: Pen | None = None
    over: Pen | None = None
    """Drawn over all in the border's colour."""


def _ring(symbol: Pen | None, over: Pen | None = None) -> _Sign:
    return _Sign("disc", WHITE, RED, BLACK, symbol, over)


def _warn(symbol: Pen) -> _Sign:
    return _Sign("warning", WHITE, RED, BLACK, symbol)


def _order(symbol: Pen) -> _Sign:
    return _Sign("disc", BLUE, BLUE, WHITE, symbol)


_SIGNS: dict[str, _Sign] = {
    "speed limit 30": _ring(_text("30", 0.62)),
    "speed limit 50": _ring(_text("50", 0.62)),
    "speed limit 70": _ring(_text("70", 0.62)),
    "closed to all vehicles": _ring(None),
    "no pedestrians": _ring(_walker, _lines(_SLASH, width=0.14)),
    "no left turn": _ring(_arrow(-math.pi / 2, bent=True), _lines(_SLASH, width=0.14)),
    "no right turn": _ring(_arrow(math.pi / 2, bent=True), _lines(_SLASH, width=0.14)),
    "no entry": _Sign("disc", RED, RED, WHITE, _filled(_OBLONG)),
    "no stopping": _Sign("disc", BLUE, RED, RED, _lines(*_CROSS)),
    "no parking": _Sign("disc", BLUE, RED, RED, _lines(_SLASH)),
    "end of all limits": _Sign("disc", WHITE, WHITE, BLACK, _lines(*_THREE, width=0.08)),
    "danger": _warn(_exclamation),
    "crossroads": _warn(_lines(*_SMALL_CROSS, width=0.18)),
    "pedestrians": _warn(_walker),
    "traffic lights": _warn(_discs((0, -0.38), (0, 0.05), (0, 0.48), radius=0.17)),
    "bumpy road": _warn(_discs((-0.26, 0.3), (0.26, 0.3), radius=0.25)),
    "ahead only": _order(_arrow(0.0)),
    "turn left": _order(_arrow(-math.pi / 2, bent=True)),
    "turn right": _order(_arrow(math.pi / 2, bent=True)),
    "keep right": _order(_arrow(0.75 * math.pi)),
    "roundabout": _order(_round),
    "priority road": _Sign("diamond", YELLOW, WHITE),
    "yield": _Sign("yield", WHITE, RED),
    "stop": _Sign("octagon", RED, WHITE, WHITE, _lines([(-0.6, 0), (0.6, 0)], width=0.4)),
    "parking": _Sign("square", BLUE, WHITE, WHITE, _text("P", 0.8)),
    "one way": _Sign("bar", BLUE, WHITE, WHITE, _arrow(math.pi / 2)),
}
NAMES = tuple(_SIGNS)


def _paint(rng: np.random.Generator, label: int) -> Image.Image:
    """One sign face on, filling the unit box, its paint a little off; RGBA."""
    sign = _SIGNS[NAMES[label]]
    fade = rng.uniform(-25, 25, size=3)
    plate = Image.new("RGBA", (BIG, BIG))
    draw = ImageDraw.Draw(plate)

    def off(paint: Colour) -> Colour:
        red, green, blue = (np.add(paint, fade)).clip(0, 255).astype(int).tolist()
        return red, green, blue

    outline, middle = _PLATES[sign.plate]
    draw.polygon(_at(outline), fill=off(sign.border))
    inner = 0.62 if sign.plate in ("warning", "yield") else 0.78
    draw.polygon(_at(outline, inner, middle * (1 - inner) * 0.9), fill=off(sign.face))
    if sign.symbol is not None:
        sign.symbol(draw, off(sign.ink))
    if sign.over is not None:
        sign.over(draw, off(sign.border))
    return plate


def draw(rng: np.random.Generator, label: int, style: Style) -> Pixels:
    """One image of `NAMES[label]`, uint8 of shape (32, 32, 3)."""
    below = canvas.ground(rng, style, canvas.colour(rng))
    placed = canvas.place(rng, style).carry(_paint(rng, label))
    small = placed.resize((canvas.SIZE, canvas.SIZE), Image.Resampling.BOX)
    layers = np.asarray(small, dtype=np.float64)
    alpha: Field = layers[..., 3:] / 255
    dim = rng.uniform(0.6, 1.0) if style.light else 1.0
    return canvas.finish((below + alpha * (layers[..., :3] - below)) * dim, rng, style)
