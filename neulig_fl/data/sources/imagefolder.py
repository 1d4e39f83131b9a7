"""Any user's folder of class folders: `root/class name/image.png`.

With `root/train/` and `root/test/` (and `root/val/`, which counts as training) that hold the same
class folders, the test part is what is evaluated on; other parts are named by `train_splits` and
`test_splits`. Grey, palette, transparent and deep images become RGB; an image that is not square is
scaled to the model's size on its short side and cut in the middle, as CLIP does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core.errors import DataError, plain
from neulig_fl.data import images as image_pixels
from neulig_fl.data.image_copies import sized_folders, suspects, twins
from neulig_fl.data.image_layout import Answers, Layout, layout
from neulig_fl.data.image_questions import excluded, words
from neulig_fl.data.image_source import ImageSource, Listing, class_faults
from neulig_fl.data.image_walk import Walk, composed

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions
    from neulig_fl.data.sources import Fault

READS = frozenset(
    {"root", "train_splits", "test_splits", "exclude", "per_class", "classes", "templates"}
)
TEMPLATES = ("a photo of a {}.",)

_TAKEN = "!"
"""Before a pattern of `exclude`: what looks like thumbnails for that reason is taken."""


class _Found(NamedTuple):
    """One image file."""

    path: Path
    label: int
    held_out: bool


class ImageFolder(ImageSource):
    """The images below one folder; a class is a folder, in the order of the names."""

    summary = "your own folder of class folders; set `root`"
    one_class_each = True

    def __init__(self, options: TaskOptions, root: Path) -> None:
        super().__init__(options.templates or TEMPLATES, options.classes, options.per_class)
        self.root = root
        self._options = options
        self._walk = _walk(options, root)

    @property
    def who(self) -> str:
        """As `ImageSource`."""
        return f"imagefolder {plain(self.root)}"

    @cached_property
    def _layout(self) -> Layout:
        return layout(self._walk, _answers(self._options))

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The folders' names, sorted."""
        return tuple(next(iter(self._layout.parts.values())))

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """The folders' names; underscores read as spaces, several as one."""
        return tuple(" ".join(name.replace("_", " ").split()) or name for name in self.label_names)

    @cached_property
    def _files(self) -> list[_Found]:
        found, empty, held = [], [], {}
        for part, folders in self._layout.parts.items():
            for label, folder in enumerate(folders.values()):
                images = held[folder] = self._walk.images(folder)
                found += [_Found(each, label, self._layout.held_out[part]) for each in images]
                empty += [] if images else [folder]
        self._walk.require_reached()
        for folder in empty:
            raise self._empty(folder)
        self._require_no_copies(found, held)
        return found

    def _empty(self, folder: Path) -> DataError:
        name = self._walk.name(folder)
        out = [words for words in self._walk.left_out.sentences() if f"({name}/" in words]
        left = f"; left out: {', '.join(out)}" if out else ""
        endings = ", ".join(sorted(image_pixels.readable_endings()))
        return DataError(
            f"{self.who}: class folder {name!r} holds no image ({endings}){left}; add some, "
            f"or leave it out ({excluded(self._walk, [name])})",
            public_reason="a class folder of its image folder is empty",
        )

    def _require_no_copies(self, found: list[_Found], held: Mapping[Path, list[Path]]) -> None:
        """Ask about all that still looks like thumbnails, until `exclude` says what is meant."""
        given = self._options.exclude
        if given == ():
            return
        labels = range(len(self.label_names))
        own = [[each.path for each in found if each.label == label] for label in labels]
        asked = [c for files in own for c in suspects(self.root, files)]
        named = {c.pattern for c in asked}
        sized = [c for folder, files in held.items() for c in sized_folders(folder, files)]
        asked += [c for c in sized if c.pattern not in named]
        taken = {composed(pattern) for pattern in given or ()}
        asked = [c for c in asked if f"{_TAKEN}{composed(c.pattern)}" not in taken]
        if not asked:
            return
        first = asked[0]
        patterns = list(dict.fromkeys((*(given or ()), *(c.pattern for c in asked))))
        example, of = self._walk.name(first.example), first.original
        what = "an image" if of is None else self._walk.name(of)
        more = sum(c.count for c in asked) - 1
        raise DataError(
            f"{self.who}: {example}{f' and {more} more like it' if more else ''} may be "
            f"{first.what} of {what}; {first.why}; write "
            f"`exclude: [{words(patterns)}]` to take one of each, or `exclude: []` to take all "
            f"(beside other patterns, '{_TAKEN}{first.pattern}')",
            public_reason="its image folder seems to hold images and their thumbnails",
        )

    @cached_property
    def listing(self) -> Listing:
        """As `ImageSource`."""
        labels = np.array([each.label for each in self._files], dtype=np.int64)
        if not any(self._layout.held_out.values()):
            return Listing(labels)
        return Listing(labels, np.array([each.held_out for each in self._files], dtype=np.bool_))

    def content_ids(self, places: NDArray[np.int64]) -> list[str]:
        """As `ImageSource`; kept in the cache folder for every file."""
        return self.ids_of_files(self.root, {self._files[int(p)].path: int(p) for p in places})

    def opened(self, place: int) -> Image.Image:
        """As `ImageSource`."""
        return image_pixels.opened(self._files[place].path)

    def where(self, place: int) -> str:
        """The file, from `root` on."""
        return self._walk.name(self._files[place].path)

    def left_out(self) -> list[str]:
        """As `ImageSource`, with what lies in the folder and is not taken."""
        _ = self._files
        return [*self._walk.left_out.sentences(), *super().left_out()]

    def remarks(self) -> list[str]:
        """As `ImageSource`, with how images were reached and which part is evaluated on."""
        _ = self._files
        parts = [name for name, held in self._layout.held_out.items() if held]
        test = [f"evaluated on {', '.join(f'{name}/' for name in parts)}"] if parts else []
        return [
            *test,
            *self._formats(),
            *self._odd(),
            *self._walk.taken.sentences(),
            *super().remarks(),
        ]

    def _odd(self) -> Iterator[str]:
        """Images of one name in two formats, and patterns that exclude nothing."""
        same = twins([each.path for each in self._files])
        if same:
            name = self._walk.name(same[0])
            yield f"{len(same)} with the name of another image in another format ({name})"
        for pattern in self._walk.exclude:
            if pattern not in self._walk.matched:
                yield f"exclude: {pattern!r} matches nothing"

    def _formats(self) -> Iterator[str]:
        """Which formats there are, if several, and how many images have more than one frame."""
        paths = [each.path for each in self._files]
        endings = Counter(path.suffix.lower() for path in paths)
        if len(endings) > 1:
            yield "read " + ", ".join(f"{n} {ending}" for ending, n in endings.most_common())
        several = [path for path in paths if image_pixels.has_frames(path)]
        if several:
            name = self._walk.name(several[0])
            yield f"{len(several)} of several frames or pages: the first is taken ({name})"


def _walk(options: TaskOptions, root: Path) -> Walk:
    return Walk(root, [p for p in options.exclude or () if not p.startswith(_TAKEN)])


def _answers(options: TaskOptions) -> Answers:
    given = (options.train_splits, options.test_splits, options.classes)
    return Answers(*(None if names is None else [*map(composed, names)] for names in given))


def faults(options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the options, before images are read.

    Args:
        options: with an absolute `root`.
    """
    trained = set(map(composed, options.train_splits or ()))
    for part in options.test_splits or ():
        if composed(part) in trained:
            yield ("test_splits",), f"{part!r} is in train_splits as well; keep it in one of them"
    if options.root is None:
        yield ("root",), "is missing; imagefolder reads a folder that holds one folder per class"
    elif options.classes is not None:
        try:
            found = layout(_walk(options, Path(options.root)), _answers(options))
        except DataError:
            return  # said when the folder is opened
        for name, words in class_faults(options.classes, list(next(iter(found.parts.values())))):
            yield ("classes",) if name is None else ("classes", name), words


def source(options: TaskOptions) -> ImageFolder:
    """The folder at `root`."""
    if options.root is None:
        raise DataError("source imagefolder needs `root`, the folder of the class folders")
    return ImageFolder(options, Path(options.root))
