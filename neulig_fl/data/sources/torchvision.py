"""Published data sets, read by torchvision from the files that their publishers give out.

The official test part is what is evaluated on; the training part is split between the experts and
the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core import cache_folder
from neulig_fl.core.downloads import download
from neulig_fl.core.errors import DataError, nearest
from neulig_fl.data import images as image_pixels
from neulig_fl.data.image_source import ImageSource, Listing, class_faults
from neulig_fl.data.sources._torchvision_sets import SETS, SUBSETS, KnownSet

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions
    from neulig_fl.data.sources import Fault

READS = frozenset({"dataset", "subset", "root", "download", "per_class", "classes", "templates"})


@dataclass(frozen=True)
class _Item:
    """One image: which part it is of, its label, and its file or its number in the part."""

    part: int
    label: int
    image: Path | int


class TorchvisionSet(ImageSource):
    """One of torchvision's data sets, all parts.

    Args:
        name: torchvision's name of it.
        known: what is known about it.
        options: of the task.
    """

    def __init__(self, name: str, known: KnownSet, options: TaskOptions) -> None:
        templates = options.templates or known.templates
        super().__init__(templates, options.classes, options.per_class)
        self.name = name
        self._known = known
        self._options = options

    @property
    def summary(self) -> str:
        """One sentence for `neulig-fl tasks`."""
        return f"{self._known.about} ({self.name}, read by torchvision)"

    @property
    def root(self) -> Path:
        """The folder that torchvision is given."""
        return Path(self._options.root) if self._options.root else default_root()

    @property
    def who(self) -> str:
        """As `ImageSource`."""
        return f"torchvision {self.name} in {self.root}"

    @cached_property
    def _parts(self) -> list[Any]:
        """Torchvision's objects, one a part; images that are files stay files."""
        from torchvision import datasets

        known, root = self._known, self.root
        keywords: dict[str, Any] = dict(known.keywords)
        if not (known.labels_in or known.files_in):
            keywords["loader"] = Path
        if self._options.download:
            root.mkdir(parents=True, exist_ok=True)
            keywords["download"] = True
        opener = getattr(datasets, self.name)
        try:
            with download():
                return [opener(root, **part.keywords, **keywords) for part in known.parts]
        except Exception as error:  # the network's, of archives, of damaged files
            raise self._not_opened(error) from error

    def _not_opened(self, error: Exception) -> DataError:
        """Say what was looked for, and how to get it."""
        known, tried = self._known, self._options.download
        looked = ", ".join(f"{self.root}/{pattern}" for pattern in known.files)
        there = any(any(self.root.glob(pattern)) for pattern in known.files)
        state = "is not there"
        if there or tried:
            words = " ".join(str(error).split())
            state = f"cannot be opened ({type(error).__name__}: {words})"
        if not known.downloads:
            advice = "torchvision cannot download it any more: put its files there yourself"
        elif tried:
            advice = "if the download failed, try again or put its files there yourself"
        else:
            advice = "set `root` to the folder that holds its files, or `download: true`"
        return DataError(
            f"torchvision {self.name} {state}; looked for {looked}; {advice}",
            public_reason=f"the files of its data set {self.name} are not there or not whole",
        )

    @cached_property
    def label_names(self) -> tuple[str, ...]:
        """The class names of CLIP work, in the order of the labels."""
        if self._known.names is not None:
            return self._known.names
        spaced = self._known.spaced
        named = [tuple(_cleaned(each, spaced) for each in part.classes) for part in self._parts]
        if any(names != named[0] for names in named):
            raise self._not_whole("its parts have different classes")
        return named[0]

    @property
    def readable(self) -> tuple[str, ...]:
        """As `label_names`, which are made for prompts."""
        return self.label_names

    @cached_property
    def _items(self) -> list[_Item]:
        items = []
        for number, part in enumerate(self._parts):
            own = sorted(self._listed(number, part), key=lambda item: item.image)
            labels = {item.label for item in own}
            if labels != set(range(len(self.label_names))):
                odd = sorted(labels ^ set(range(len(self.label_names))))
                raise self._not_whole(
                    f"part {number + 1} of {len(self._parts)} has labels other than 0 to "
                    f"{len(self.label_names) - 1}, or lacks one of them ({odd[0]})"
                )
            items += own
        return items

    def _listed(self, number: int, part: Any) -> Iterator[_Item]:
        known = self._known
        if known.labels_in is not None:
            labels = np.asarray(getattr(part, known.labels_in)) - known.first_label
            yield from (_Item(number, label, i) for i, label in enumerate(labels.tolist()))
            return
        listed = (
            getattr(part, known.files_in)
            if known.files_in
            else map(part.__getitem__, range(len(part)))
        )
        yield from (_Item(number, int(label), Path(file)) for file, label in listed)

    def _not_whole(self, what: str) -> DataError:
        return DataError(
            f"{self.who}: {what}; its files are not whole, get them again",
            public_reason=f"the files of its data set {self.name} are not whole",
        )

    @cached_property
    def listing(self) -> Listing:
        """As `ImageSource`."""
        labels = np.array([item.label for item in self._items], dtype=np.int64)
        if len(self._known.parts) == 1:
            return Listing(labels)
        held_out = np.array([part.held_out for part in self._known.parts], dtype=np.bool_)
        return Listing(labels, held_out[[item.part for item in self._items]])

    def content_ids(self, places: NDArray[np.int64]) -> list[str]:
        """As `ImageSource`; kept in the cache folder."""
        if self._known.labels_in is None:
            images = ((self._items[int(place)].image, int(place)) for place in places)
            place_of = {image: place for image, place in images if isinstance(image, Path)}
            return self.ids_of_files(self.root, place_of)
        held = sorted(f for pattern in self._known.files for f in self.root.glob(pattern))
        what = f"{self.name} {dict(self._known.keywords)}"
        return self.ids_of_set(what, self.root, held, places)

    def opened(self, place: int) -> Image.Image:
        """As `ImageSource`."""
        item = self._items[place]
        if isinstance(item.image, Path):
            return image_pixels.opened(item.image)
        return image_pixels.rgb(self._parts[item.part][item.image][0])

    def where(self, place: int) -> str:
        """The file, or the number of the image."""
        item = self._items[place]
        if isinstance(item.image, Path):
            return item.image.relative_to(self.root).as_posix()
        return f"image {item.image} of part {item.part + 1}"


def default_root() -> Path:
    """Where data sets lie unless a task says otherwise."""
    return cache_folder.cache_dir() / "data"


def _cleaned(name: str, spaced: str) -> str:
    """A label of the files as CLIP's prompts have it.

    Example:
        >>> _cleaned("apartment_building/outdoor", "_/")
        'apartment building outdoor'
    """
    return name.translate({ord(mark): " " for mark in spaced})


def faults(options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the options, before images are read."""
    name, subset = options.dataset, options.subset
    if name is None:
        yield ("dataset",), f"is missing; {nearest('', SETS)}"
    elif name not in SETS:
        meant = next((each for each in SETS if each.lower() == name.lower()), name)
        yield ("dataset",), f"no data set that is known here (got {name!r}); {nearest(meant, SETS)}"
    else:
        if subset is not None and subset not in SUBSETS.get(name, ()):
            kinds = SUBSETS.get(name)
            hint = nearest(subset, kinds) if kinds else "leave it out"
            yield ("subset",), f"{name} has no subset of that name (got {subset!r}); {hint}"
        yield from known_faults(_known(name, subset), options)


def known_faults(known: KnownSet, options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the other options of a task on a known set."""
    if options.download and not known.downloads:
        yield ("download",), "torchvision cannot download this set any more (got true); set root"
    if options.classes is not None and known.names is not None:
        for name, words in class_faults(options.classes, known.names):
            yield ("classes",) if name is None else ("classes", name), words


def _known(name: str, subset: str | None) -> KnownSet:
    return SUBSETS.get(name, {}).get(subset or "", SETS[name])


def source(options: TaskOptions) -> TorchvisionSet:
    """The data set that `dataset` names.

    Raises:
        DataError: it is not known here.
    """
    for keys, words in faults(options):
        raise DataError(f"source torchvision: {'.'.join(keys)}: {words}")
    name = str(options.dataset)
    return TorchvisionSet(name, _known(name, options.subset), options)
