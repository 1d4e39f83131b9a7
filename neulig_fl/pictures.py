"""Any picture as upright 8-bit RGB: cut to a model's size, and known by its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from neulig_fl.errors import DataError

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


def opened(path: Path) -> Image.Image:
    """The picture in a file, as `rgb` gives it; of several frames or pages the first.

    Raises:
        Exception: whatever Pillow's decoders raise on a file that is not whole.
    """
    if path.stat().st_size == 0:
        raise OSError("the file is empty")
    with Image.open(path) as image:
        return rgb(image)


def has_frames(path: Path) -> bool:
    """Whether a file that can be read is an animation or has several pages."""
    if _ending(path.name) not in _FRAMED:
        return False
    with Image.open(path) as image:
        return bool(getattr(image, "is_animated", False))


def why(error: Exception) -> str:
    """Why an image cannot be read, in words that name no path.

    Example:
        >>> why(PermissionError(13, "Permission denied", "/home/ada/x.png"))
        'Permission denied'
    """
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split())
    return words if isinstance(error, OSError) and words else f"{type(error).__name__}: {words}"


def rgb(image: Image.Image) -> Image.Image:
    """A picture as 8-bit RGB, turned the way its EXIF data say.

    Deep grey is scaled to 8 bits, transparency lies on white.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        image = _shallow(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(paper, layer)
    return image.convert("RGB")


def _shallow(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floating point, as 8 bits.

    16 bits are 0 to 65535. The other two say nothing of their range, so it is the first of 1 (for
    floating point), 255 and 65535 that holds them.
    """
    deep = np.nan_to_num(np.asarray(image, dtype=np.float64))
    tops = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0]
    if image.mode.startswith("F"):
        tops.insert(0, 1.0)
    most = float(deep.max(initial=0.0))
    top = next((top for top in tops if most <= top), tops[-1])
    return Image.fromarray((deep * (255.0 / top)).round().clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Resize:
    """How an image becomes a model's square input, in OpenCLIP's words.

    Args:
        size: height and width of the result.
        mode: `shortest` scales the short side and cuts the middle, as CLIP does; `longest` scales
            the long side and fills up with black; `squash` scales both sides.
        interpolation: `bicubic` or `bilinear`, between pixels.
    """

    size: int
    mode: str = "shortest"
    interpolation: str = "bicubic"


def resize(to: int | Resize) -> Resize:
    """A size alone means CLIP's own way."""
    return to if isinstance(to, Resize) else Resize(to)


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
        return ImageOps.pad(image, (size, size), method, color="black")
    factor = size / min(image.size)
    wide, high = (max(size, round(side * factor)) for side in image.size)
    scaled = image.resize((wide, high), method)
    left, top = (wide - size) // 2, (high - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def content_id(picture: Image.Image) -> str:
    """SHA-256 (hex) of an RGB picture's sides and pixels, whatever file it came from.

    Example:
        >>> content_id(Image.new("RGB", (2, 3))) == content_id(Image.new("RGB", (3, 2)))
        False
    """
    sides = f"{picture.width}x{picture.height}\n".encode()
    return hashlib.sha256(sides + picture.tobytes()).hexdigest()
