"""Contact sheets: samples of every class and split, drawn as pages of one image each.

A row is a class, a group of columns a split. Many classes stand in several panels side by side,
and on several pages, so that no page has a side of more than `MOST_SIDE` pixels. The same samples
give the same pages.

Pillow draws them and not matplotlib, which takes twelve times as long or more (a panel an axes, its
names tick labels), reads styles and writes a list of typefaces in the user's home, and would need
the same plan of panels and pages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from neulig_fl.core.errors import InputError
from neulig_fl.data import typefaces

MOST_SIDE = 4000
"""Pixels; larger images are slow to open, or are refused."""

_MARGIN, _GAP, _BETWEEN, _APART = 12, 2, 14, 28
_TEXT, _TITLE = 13, 16
_ROW_LEAST, _NAME_MOST = 18, 180
_PAPER, _INK, _FAINT, _LINE = "white", "black", "#767676", "#c8c8c8"


@dataclass(frozen=True)
class SplitSamples:
    """What a sheet shows of one split.

    Args:
        name: of the split.
        images: how many images the split has in all.
        samples: for each class, uint8 of shape (samples, 3, size, size); there may be none.
    """

    name: str
    images: int
    samples: Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Sheet:
    """A contact sheet, before it is drawn.

    Args:
        title: stands above every page.
        class_names: in the order of the labels.
        splits: side by side, in this order.
        side: height and width of a sample, in pixels, before it is enlarged.
        factor: how many times a sample is enlarged, without smoothing.
        per_class: places for samples of one class in one split.
    """

    title: str
    class_names: Sequence[str]
    splits: Sequence[SplitSamples]
    side: int
    factor: int
    per_class: int


@dataclass(frozen=True)
class Layout:
    """Where things stand, in pixels.

    Args:
        cell: side of an enlarged sample.
        number: width of the classes' numbers.
        label: width of the numbers and names.
        blocks: width of each split.
        row: height of a class.
        head: height of what stands above the rows: the title and the splits' names.
        rows: classes in a panel.
        panels: panels side by side.
        pages: how many.
    """

    cell: int
    number: int
    label: int
    blocks: tuple[int, ...]
    row: int
    head: int
    rows: int
    panels: int
    pages: int

    @property
    def panel(self) -> int:
        """Width of a panel."""
        return self.label + sum(width + _BETWEEN for width in self.blocks)


def layout(sheet: Sheet) -> Layout:
    """Work out a sheet's pages: as few as possible, equally full, and nearly square.

    Raises:
        InputError: one panel or one row does not fit on a page.
    """
    cell = sheet.side * sheet.factor
    number = _width(str(len(sheet.class_names) - 1), _font(_TEXT)) + 6
    names = max(_width(name, _font(_TEXT)) for name in sheet.class_names)
    label = number + min(names, _NAME_MOST)
    across = sheet.per_class * (cell + _GAP) - _GAP
    blocks = tuple(max(across, *_heading_widths(split)) for split in sheet.splits)
    row = max(cell, _ROW_LEAST) + 2 * _GAP + 1
    head = 2 * _MARGIN + _TITLE + 2 * (_TEXT + 6)
    one = Layout(cell, number, label, blocks, row, head, 1, 1, 1)
    most_rows = (MOST_SIDE - head - _MARGIN) // row
    most_panels = (MOST_SIDE - 2 * _MARGIN + _APART) // (one.panel + _APART)
    if most_rows < 1 or most_panels < 1:
        raise InputError(
            f"a row of the sheet is {one.panel + 2 * _MARGIN:,} pixels wide and {row:,} high; "
            f"allowed: {MOST_SIDE:,} each; show fewer samples of a class (--per-class), smaller "
            "ones (--size), or fewer splits (--split)"
        )
    pages = math.ceil(len(sheet.class_names) / (most_rows * most_panels))
    on_page = math.ceil(len(sheet.class_names) / pages)
    panels = min(
        range(math.ceil(on_page / most_rows), most_panels + 1),
        key=lambda n: max(n * (one.panel + _APART), head + math.ceil(on_page / n) * row),
    )
    rows = math.ceil(on_page / panels)
    panels = math.ceil(on_page / rows)
    pages = math.ceil(len(sheet.class_names) / (rows * panels))
    return Layout(cell, number, label, blocks, row, head, rows, panels, pages)


def pages(sheet: Sheet) -> Iterator[Image.Image]:
    """Draw a sheet, one RGB page after the other, each with sides of at most `MOST_SIDE` pixels.

    Raises:
        InputError: one panel or one row does not fit on a page.

    Example:
        >>> grey = np.full((1, 3, 4, 4), 128, np.uint8)
        >>> sheet = Sheet("t", ["a", "b"], [SplitSamples("pool", 2, [grey, grey])], 4, 8, 1)
        >>> [page.mode for page in pages(sheet)]
        ['RGB']
    """
    plan = layout(sheet)
    on_page = plan.rows * plan.panels
    for number in range(plan.pages):
        first = number * on_page
        classes = range(first, min(first + on_page, len(sheet.class_names)))
        yield _page(sheet, plan, number, classes)


def drawable(name: str) -> bool:
    """Whether the sheet's font has a sign for every character of a class name.

    Example:
        >>> drawable("\u0142\u00f3d\u017a 7"), drawable("\u732b")
        (True, False)
    """
    return bool(name.strip()) and all(sign.isprintable() and _has_sign(sign) for sign in name)


def _page(sheet: Sheet, plan: Layout, number: int, classes: range) -> Image.Image:
    title = sheet.title
    if plan.pages > 1:
        which = f"classes {classes[0]} to {classes[-1]}"
        title += f"; page {number + 1} of {plan.pages}, {which}"
    panels = [classes[at : at + plan.rows] for at in range(0, len(classes), plan.rows)]
    inner = len(panels) * (plan.panel + _APART) - _APART
    wide = max(inner, min(_width(title, _font(_TITLE, bold=True)), MOST_SIDE - 2 * _MARGIN))
    high = plan.head + len(panels[0]) * plan.row + _MARGIN
    page = Image.new("RGB", (wide + 2 * _MARGIN, high), _PAPER)
    draw = ImageDraw.Draw(page)
    bold = _font(_TITLE, bold=True)
    draw.text((_MARGIN, _MARGIN), _shortened(title, wide, bold), _INK, bold)
    for at, shown in enumerate(panels):
        left = _MARGIN + at * (plan.panel + _APART)
        _panel(page, draw, sheet, plan, left, shown)
    return page


def _panel(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    sheet: Sheet,
    plan: Layout,
    left: int,
    classes: range,
) -> None:
    bottom = plan.head + len(classes) * plan.row
    start = left + plan.label
    for split, width in zip(sheet.splits, plan.blocks, strict=True):
        top = plan.head - 2 * (_TEXT + 6)
        draw.line((start + _BETWEEN // 2, top, start + _BETWEEN // 2, bottom - 1), _LINE)
        start += _BETWEEN
        for line, (text, font) in enumerate(_headings(split)):
            draw.text((start, top + line * (_TEXT + 4)), text, _FAINT if line else _INK, font)
        for at, label in enumerate(classes):
            corner = (start, plan.head + at * plan.row + _GAP + 1)
            _samples(page, draw, plan, corner, split.samples[label][: sheet.per_class])
        start += width
    for at, label in enumerate(classes):
        top = plan.head + at * plan.row
        draw.line((left, top, left + plan.panel - 1, top), _LINE)
        _label(draw, plan, (left, top), label, sheet.class_names[label])


def _samples(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    plan: Layout,
    corner: tuple[int, int],
    images: NDArray[np.uint8],
) -> None:
    """One class of one split; a dash where the split has no image of the class."""
    left, top = corner
    if not len(images):
        middle = top + plan.cell // 2
        draw.line((left + 4, middle, left + 14, middle), _FAINT, width=2)
    for at, image in enumerate(images):
        factor = plan.cell // image.shape[1]
        large = image.transpose(1, 2, 0).repeat(factor, axis=0).repeat(factor, axis=1)
        page.paste(
            Image.fromarray(np.ascontiguousarray(large)), (left + at * (plan.cell + _GAP), top)
        )


def _label(
    draw: ImageDraw.ImageDraw, plan: Layout, corner: tuple[int, int], label: int, name: str
) -> None:
    """A class's number and name; the number in a box where the name cannot be drawn."""
    font = _font(_TEXT)
    left, middle = corner[0], corner[1] + plan.row // 2
    if not drawable(name):
        right = left + plan.number
        draw.rectangle((left, middle - 9, right, middle + 9), outline=_INK)
        draw.text((left + plan.number // 2, middle), str(label), _INK, font, anchor="mm")
        return
    if name != str(label):
        draw.text((left + plan.number - 6, middle), str(label), _FAINT, font, anchor="rm")
    room = plan.label - plan.number
    draw.text((left + plan.number, middle), _shortened(name, room, font), _INK, font, anchor="lm")


def _headings(split: SplitSamples) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    noun = "image" if split.images == 1 else "images"
    return [(split.name, _font(_TEXT, bold=True)), (f"{split.images:,} {noun}", _font(_TEXT))]


def _heading_widths(split: SplitSamples) -> list[int]:
    return [_width(text, font) for text, font in _headings(split)]


def _width(text: str, font: ImageFont.FreeTypeFont) -> int:
    return math.ceil(font.getlength(text))


def _shortened(text: str, room: int, font: ImageFont.FreeTypeFont) -> str:
    """A text that fits, with an ellipsis where something was cut off."""
    if _width(text, font) <= room:
        return text
    kept = len(text)
    while kept and _width(f"{text[:kept]}\u2026", font) > room:
        kept -= 1
    return f"{text[:kept].rstrip()}\u2026"


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans; Pillow's own font, which knows ASCII alone, stands in where it is missing."""
    try:
        return typefaces.font(f"DejaVuSans{'-Bold' if bold else ''}", size)
    except OSError:
        font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise InputError("Pillow was built without FreeType, which draws the sheet's texts")
    return font


@cache
def _has_sign(sign: str) -> bool:
    """Whether the font has a glyph of its own for a character; others all get the same box."""
    font = _font(_TEXT)
    return bytes(font.getmask(sign)) != bytes(font.getmask("\U0010ffff"))
