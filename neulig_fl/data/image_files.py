"""Image files as they may be opened: formats that are named, and limits that hold before decoding.

Pillow looks at a file's first bytes, whatever its name ends in, and hands one format, EPS, to
another program, Ghostscript. So the formats are named to it, here and nowhere else, and a header
that promises more than the limits allow is refused before memory is taken for pixels.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "PPM", "PCX", "WEBP", "JPEG2000", "AVIF", "TGA",
)  # fmt: skip
"""Pillow's names of the formats that are read; TGA has no mark of its own and is tried last."""

MOST_BYTES = 2**28
"""A file's bytes: as many as the most pixels have as plain RGB."""

MOST_PIXELS = 2**28 // 3
"""Pixels of an image, about 89 million: where Pillow begins to warn of a decompression bomb."""

MOST_RATIO = 200
"""How many times as long as the other one side may be."""


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this machine's Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image]:
    """An image with its header read; its pixels are decoded when they are asked for.

    Args:
        source: a file, or what stands in one.

    Raises:
        OSError: it cannot be read, is no regular file, is of another format, or is larger than
            allowed.
        Exception: whatever Pillow's decoders raise on a file that is not whole, also within the
            block.

    Example:
        >>> with opened(b"P5 2 1 255 ab") as image:
        ...     image.size
        (2, 1)
    """
    _require_few_bytes(source)
    with _image(source) as image:
        _require_few_pixels(*image.size)
        yield image


def _image(source: Path | bytes) -> Image.Image:
    file = BytesIO(source) if isinstance(source, bytes) else source
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused here, in words
        return Image.open(file, formats=formats())


def _require_few_bytes(source: Path | bytes) -> None:
    if isinstance(source, bytes):
        size = len(source)
    else:
        found = source.stat()
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        size = found.st_size
    if size == 0:
        raise OSError("the file is empty")
    if size > MOST_BYTES:
        raise OSError(f"{size:,} bytes; at most {MOST_BYTES:,} are read")


def _require_few_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise OSError(f"{width:,} x {height:,} pixels; at most {MOST_PIXELS:,} in all are read")
    if max(width, height) > MOST_RATIO * min(width, height):
        raise OSError(
            f"{width:,} x {height:,} pixels; a side is at most {MOST_RATIO} times the other"
        )


def why(error: Exception) -> str:
    """Why an image cannot be read, in words that name no path.

    Example:
        >>> why(PermissionError(13, "Permission denied", "/home/ada/x.png"))
        'Permission denied'
    """
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that is read here"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than are read, which is at most {MOST_PIXELS:,}"
    words = " ".join(str(error).split())
    if "MAX_TEXT_" in words:  # Pillow's limits on a PNG's text chunks
        return "its text chunks are too large; save it without metadata"
    return words if isinstance(error, OSError) and words else f"{type(error).__name__}: {words}"
