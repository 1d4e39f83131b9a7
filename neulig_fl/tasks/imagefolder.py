"""Any user's folder of class folders: `root/class name/picture.png`.

With `root/train/` and `root/test/` (and `root/val/`, which counts as training) that hold the same
class folders, the test part is what is evaluated on. Grey, palette, transparent and deep pictures
become RGB; a picture that is not square is scaled to the model's size on its short side and cut in
the middle, as CLIP does.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl import pictures
from neulig_fl.errors import DataError
from neulig_fl.picture_source import Listing, PictureSource, class_faults

if TYPE_CHECKING:
    from neulig_fl.scenario import TaskOptions
    from neulig_fl.tasks import Fault

READS = frozenset({"root", "per_class", "classes", "templates"})
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})
TEMPLATES = ("a photo of a {}.",)
PARTS = {"train": False, "val": False, "test": True}
"""Folders of a published split, and whether their pictures are held out; `val` may be missing."""


class ImageFolder(PictureSource):
    """The pictures below one folder; a class is a folder, in the order of the names."""

    summary = "your own folder of class folders; set `root`"
    one_class_each = True

    def __init__(self, options: TaskOptions, root: Path) -> None:
        super().__init__(options.templates or TEMPLATES, options.classes, options.per_class)
        self.root = root

    @property
    def who(self) -> str:
        """As `PictureSource`."""
        return f"imagefolder {self.root}"

    @cached_property
    def _folders(self) -> dict[str, dict[str, Path]]:
        """Folders by part (`""` where there is no published split) and by class."""
        return layout(self.root)

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The folders' names, sorted."""
        return tuple(next(iter(self._folders.values())))

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """The folders' names; underscores read as spaces."""
        return tuple(name.replace("_", " ") for name in self.label_names)

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        return [
            (file, label)
            for folders in self._folders.values()
            for label, folder in enumerate(folders.values())
            for file in self._pictures_in(folder)
        ]

    def _pictures_in(self, folder: Path) -> list[Path]:
        inside = sorted(p.relative_to(folder) for p in folder.rglob("*"))
        files = [
            folder / p
            for p in inside
            if p.suffix.lower() in ENDINGS
            and not any(part.startswith(".") for part in p.parts)
            and (folder / p).is_file()
        ]
        if not files:
            name = folder.relative_to(self.root).as_posix()
            raise DataError(
                f"{self.who}: class folder {name!r} holds no image "
                f"({', '.join(sorted(ENDINGS))}); add some or remove the folder",
                public_reason="a class folder of its image folder is empty",
            )
        return files

    @cached_property
    def listing(self) -> Listing:
        """As `PictureSource`."""
        labels = np.array([label for _, label in self._files], dtype=np.int64)
        if "" in self._folders:
            return Listing(labels)
        parts = [file.relative_to(self.root).parts[0] for file, _ in self._files]
        return Listing(labels, np.array([PARTS[part] for part in parts], dtype=np.bool_))

    def content_ids(self, places: NDArray[np.int64]) -> list[str]:
        """As `PictureSource`; kept in the cache folder for every file."""
        return self.ids_of_files(self.root, {self._files[int(p)][0]: int(p) for p in places})

    def opened(self, place: int) -> Image.Image:
        """As `PictureSource`."""
        return pictures.opened(self._files[place][0])

    def where(self, place: int) -> str:
        """The file, from `root` on."""
        return self._files[place][0].relative_to(self.root).as_posix()


def layout(root: Path) -> dict[str, dict[str, Path]]:
    """Class folders by part and name; one part called `""` where there is no published split.

    Raises:
        DataError: no such folder, fewer than two classes, or parts with different classes.
    """
    if not root.is_dir():
        raise DataError(
            f"imagefolder {root}: no such folder; `root` must hold one folder per class",
            public_reason="its image folder is missing",
        )
    found = _folders_in(root)
    parts = {name: _folders_in(found[name]) for name in PARTS if name in found}
    if parts.get("train") and parts.get("test"):
        _require_alike(root, found, parts)
        found = parts["train"]
    else:
        parts = {"": found}
    if len(found) < 2:
        raise DataError(
            f"imagefolder {root}: {len(found)} class folder(s); a task needs 2 or more",
            public_reason="its image folder has fewer than two classes",
        )
    return parts


def _folders_in(folder: Path) -> dict[str, Path]:
    """Visible folders by name, sorted; a name is the same however its accents are written."""
    found: dict[str, Path] = {}
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        name = unicodedata.normalize("NFC", path.name)
        if name in found:
            raise DataError(
                f"imagefolder {folder}: two folders read as {name!r}, their accents written in two "
                "ways; move the pictures of one into the other",
                public_reason="two folders of its image folder have the same name",
            )
        found[name] = path
    return dict(sorted(found.items()))


def _require_alike(root: Path, found: dict[str, Path], parts: dict[str, dict[str, Path]]) -> None:
    """Every part of a published split has the same classes, and nothing lies beside the parts."""
    problems = [f"{name}/ lies beside train/ and test/" for name in found if name not in PARTS]
    for part, folders in parts.items():
        odd = sorted(set(folders) ^ set(parts["train"]))
        if odd:
            problems.append(f"{part}/ and train/ differ in the class folder {odd[0]!r}")
    if problems:
        raise DataError(
            f"imagefolder {root}: {problems[0]}; a published split is train/, test/ and perhaps "
            "val/ with the same class folders and nothing else; for classes of that name, give "
            "the folders other names",
            public_reason="the parts of its image folder do not fit together",
        )


def faults(options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the options, before pictures are read.

    Args:
        options: with an absolute `root`.
    """
    if options.root is None:
        yield ("root",), "is missing; imagefolder reads a folder that holds one folder per class"
    elif options.classes is not None:
        try:
            names = list(next(iter(layout(Path(options.root)).values())))
        except DataError:
            return  # said when the folder is opened
        for name, words in class_faults(options.classes, names):
            yield ("classes",) if name is None else ("classes", name), words


def source(options: TaskOptions) -> ImageFolder:
    """The folder at `root`."""
    if options.root is None:
        raise DataError("source imagefolder needs `root`, the folder of the class folders")
    return ImageFolder(options, Path(options.root))
