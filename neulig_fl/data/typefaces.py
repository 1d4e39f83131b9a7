"""Typefaces that come with matplotlib, of which nothing else is used."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from PIL import ImageFont


def font(typeface: str, size: int) -> ImageFont.FreeTypeFont:
    """A typeface by the name of its file, such as `DejaVuSans-Bold`.

    The basic layout gives the same pixels with and without libraqm. matplotlib is not imported:
    that would make a folder in the user's home.

    Raises:
        OSError: there is no such file.
    """
    package = Path(str(getattr(importlib.util.find_spec("matplotlib"), "origin", ""))).parent
    file = package / "mpl-data" / "fonts" / "ttf" / f"{typeface}.ttf"
    if not file.is_file():  # Pillow would look for the name among the system's own
        raise FileNotFoundError(f"{file}: no such typeface; is matplotlib whole?")
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
