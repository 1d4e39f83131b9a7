"""Any image as upright 8-bit RGB: cut to a model's size, and known by its pixels."""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

from neulig_fl.core.errors import DataError
from neulig_fl.core.resizing import Resize, resize
from neulig_fl.data import image_files

ENDINGS = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
        ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx",
    }
)  # fmt: skip
"""Endings of the formats that every Pillow reads."""

OPTIONAL = {
    "webp": frozenset({".webp"}),
    "jpg_2000": frozenset({".jp2", ".j2k", ".jpf", ".jpx", ".j2c"}),
    "avif": frozenset({".avif"}),
}
"""Endings of the formats that Pillow reads if it was built so."""

OTHERS = frozenset(
    {
        ".heic", ".heif", ".hif", ".jxl", ".jxr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".nrw",
        ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".psd", ".xcf", ".svg", ".eps", ".exr",
        ".hdr", ".dcm", ".nii", ".ico", ".icns",
    }
)  # fmt: skip
"""Endings of images that are not read here."""

_FRAMED = frozenset({".gif", ".tif", ".tiff", ".webp", ".apng", ".avif"})
_AT_ONCE = 2**20
"""Pixels that are laid on white at a time."""

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")


@cache
def readable_endings() -> frozenset[str]:
    """Endings, in lower case, of the formats that this machine's Pillow reads."""
    built = [endings for codec, endings in OPTIONAL.items() if _built_with(codec)]
    return ENDINGS.union(*built)


def is_readable(name: str) -> bool:
    """Whether a file is an image that can be read, by its name."""
    return _ending(name) in readable_endings()


def is_other_format(name: str) -> bool:
    """Whether a file is an image of a format that is not read here, by its name."""
    return _ending(name) in OTHERS.union(*OPTIONAL.values()) - readable_endings()


def starts_as_image(path: Path) -> bool:
    """Whether a file is an image by its first bytes; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            first = file.read(12)
    except OSError:
        return False
    return first.startswith(_MAGIC) and (not first.startswith(b"RIFF") or first[8:] == b"WEBP")


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def _built_with(codec: str) -> bool:
    known = codec in features.modules or codec in features.codecs
    return known and bool(features.check(codec))


class Unreadable(DataError):
    """One image that cannot be read.

    Args:
        who: the data set.
        where: the image in it.
        why: the reason, without a path.
    """

    def __init__(self, who: str, where: str, why: str) -> None:
        super().__init__(
            f"{who}: {where} cannot be read ({why}); replace or remove it",
            public_reason="one of its images cannot be read",
        )
        self.where, self.why = where, why


def opened(source: Path | bytes) -> Image.Image:
    """The image in a file, as `rgb` gives it; of several frames or pages the first.

    Args:
        source: the file, or what stands in one.

    Raises:
        Exception: as `image_files.opened`.
    """
    with image_files.opened(source) as image:
        return rgb(image)


def has_frames(path: Path) -> bool:
    """Whether a file is an animation or has several pages; False where it cannot be read."""
    if _ending(path.name) not in _FRAMED:
        return False
    try:
        with image_files.opened(path) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow's decoders raise anything; making its id says what is wrong
        return False


def rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB, turned the way its EXIF data say.

    Deep grey is scaled to 8 bits, transparency lies on white.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _shallow(image)
    return _on_white(image) if image.has_transparency_data else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent image on white, some rows at a time: all at once takes five times as much."""
    page = Image.new("RGB", image.size)
    rows = max(1, _AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        below = min(top + rows, image.height)
        layer = image.crop((0, top, image.width, below)).convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        page.paste(Image.alpha_composite(paper, layer).convert("RGB"), (0, top))
    return page


def _shallow(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating point, as 8 bits.

    16 bits are 0 to 65535. The other two say nothing of their range, so it is the first of 1 (for
    floating point), 255 and 65535 that holds them.
    """
    deep = np.array(image, dtype=np.float64)
    np.nan_to_num(deep, copy=False)
    tops = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0]
    if image.mode.startswith("F"):
        tops.insert(0, 1.0)
    most = float(deep.max(initial=0.0))
    top = next((top for top in tops if most <= top), tops[-1])
    deep *= 255.0 / top
    deep.round(out=deep)
    return Image.fromarray(deep.clip(0, 255, out=deep).astype(np.uint8))


_LONG = 8
"""How many times as long as its short side an image is scaled whole."""


def square(image: Image.Image, to: int | Resize) -> Image.Image:
    """An RGB image as a model's square input.

    Example:
        >>> square(Image.new("RGB", (40, 20)), Resize(8, "squash")).size
        (8, 8)
    """
    wanted = resize(to)
    size, method = wanted.size, Image.Resampling[wanted.interpolation.upper()]
    if wanted.mode == "squash":
        return image.resize((size, size), method)
    if wanted.mode == "longest":
        return ImageOps.pad(_as_thick(image, size), (size, size), method, color="black")
    image = _middle(image)
    factor = size / min(image.size)
    wide, high = (max(size, round(side * factor)) for side in image.size)
    scaled = image.resize((wide, high), method)
    left, top = (wide - size) // 2, (high - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def _middle(image: Image.Image) -> Image.Image:
    """The middle of an image that is much longer than wide; any other as it is.

    The whole of it, scaled on the short side, can be a hundred times what is cut out of it then.
    """
    short, long = sorted(image.size)
    beyond = (long - _LONG * short) // 2
    if beyond <= 0:
        return image
    left, top = (beyond, 0) if image.width == long else (0, beyond)
    return image.crop((left, top, image.width - left, image.height - top))


def _as_thick(image: Image.Image, size: int) -> Image.Image:
    """An image whose short side has a pixel left when its long one is scaled to a size."""
    least = math.ceil(max(image.size) / size)
    if min(image.size) >= least:
        return image
    return image.resize((max(image.width, least), max(image.height, least)))


def content_id(image: Image.Image) -> str:
    """SHA-256 (hex) of an RGB image's sides and pixels, whatever file it came from.

    Example:
        >>> content_id(Image.new("RGB", (2, 3))) == content_id(Image.new("RGB", (3, 2)))
        False
    """
    sides = f"{image.width}x{image.height}\n".encode()
    return hashlib.sha256(sides + image.tobytes()).hexdigest()
