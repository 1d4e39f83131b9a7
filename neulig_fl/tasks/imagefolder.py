"""Any user's folder of class folders: `root/class name/picture.png`.

An image's id is the hash of its file, so the same file has the same split wherever it lies. Grey,
palette, transparent and 16-bit pictures become RGB; a picture that is not square is scaled to the
model's size on its short side and cut in the middle, as CLIP does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from neulig_fl.errors import DataError

if TYPE_CHECKING:
    from neulig_fl.scenario import TaskOptions

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})
TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class ImageFolder:
    """The pictures below one folder; a class is a folder, in the order of the names."""

    root: Path
    templates: tuple[str, ...]

    @property
    def collection(self) -> str:
        """All image folders are one collection: an image is its content, wherever it lies."""
        return "imagefolder"

    @property
    def version(self) -> str:
        """Nothing beside the ids, which are hashes of the files."""
        return "1"

    @property
    def summary(self) -> str:
        """One sentence for `neulig-fl tasks`."""
        return "your own folder of class folders; set `root`"

    @cached_property
    def _folders(self) -> list[Path]:
        if not self.root.is_dir():
            raise DataError(
                f"imagefolder {self.root}: no such folder; `root` must hold one folder per class",
                public_reason="its image folder is missing",
            )
        visible = (p for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        folders = sorted(visible)
        if len(folders) < 2:
            raise DataError(
                f"imagefolder {self.root}: {len(folders)} class folder(s); a task needs 2 or more",
                public_reason="its image folder has fewer than two classes",
            )
        return folders

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The folders' names; underscores read as spaces."""
        return tuple(p.name.replace("_", " ") for p in self._folders)

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        found = []
        for label, folder in enumerate(self._folders):
            files = sorted(
                p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file()
            )
            if not files:
                raise DataError(
                    f"imagefolder {self.root}: class folder {folder.name!r} holds no image "
                    f"({', '.join(sorted(ENDINGS))}); add some or remove the folder",
                    public_reason="a class folder of its image folder is empty",
                )
            found += [(p, label) for p in files]
        return found

    @cached_property
    def _ids(self) -> list[str]:
        ids = [hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in self._files]
        seen: dict[str, tuple[Path, int]] = {}
        for key, (path, label) in zip(ids, self._files, strict=True):
            other, other_label = seen.setdefault(key, (path, label))
            if other_label != label:
                raise DataError(
                    f"imagefolder {self.root}: {path.relative_to(self.root)} and "
                    f"{other.relative_to(self.root)} are the same image in two classes; "
                    "keep one of them",
                    public_reason="its image folder holds one image in two classes",
                )
        return ids

    def ids(self) -> Sequence[str]:
        """SHA-256 of every file."""
        return self._ids

    def labels(self) -> NDArray[np.int64]:
        """Class index of every image, shape (images,)."""
        return np.array([label for _, label in self._files], dtype=np.int64)

    def pixels(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """RGB images of shape (len(indices), 3, size, size).

        Raises:
            DataError: a picture that cannot be read, by its name.
        """
        pictures = [self._picture(self._files[int(i)][0], size) for i in indices]
        stacked = np.stack(pictures) if pictures else np.zeros((0, size, size, 3), np.uint8)
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))

    def _picture(self, path: Path, size: int) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as image:
                return np.asarray(square(to_rgb(image), size))
        except (  # PIL raises SyntaxError on a damaged PNG
            UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError
        ) as error:  # fmt: skip
            raise DataError(
                f"imagefolder {self.root}: {path.relative_to(self.root)} cannot be read "
                f"({type(error).__name__}); replace or remove it",
                public_reason="one of its images cannot be read",
            ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB; 16-bit grey is scaled, transparency lies on white."""
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image, dtype=np.float64)
        top = 65535.0 if deep.max(initial=0.0) > 255 else 255.0
        image = Image.fromarray((deep * (255.0 / top)).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(paper, layer)
    return image.convert("RGB")


def square(image: Image.Image, size: int) -> Image.Image:
    """Scale the short side to `size` and cut the middle."""
    factor = size / min(image.size)
    wide, high = (max(size, round(side * factor)) for side in image.size)
    scaled = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def source(options: TaskOptions) -> ImageFolder:
    """The folder at `root`."""
    if options.root is None:
        raise DataError("source imagefolder needs `root`, the folder of the class folders")
    return ImageFolder(root=Path(options.root), templates=options.templates or TEMPLATES)
