"""Hugging Face data sets through `flwr-datasets`: of the Hub, or saved on this machine.

Needs the extra `huggingface`. Without `download: true` nothing is asked of the network: a data set
of the Hub must have been fetched before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core.downloads import download
from neulig_fl.core.errors import DataError, nearest
from neulig_fl.data import split_names
from neulig_fl.data.image_source import ImageSource, Listing
from neulig_fl.data.sources import _huggingface_columns as columns

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions
    from neulig_fl.data.sources import Fault

READS = frozenset(
    {
        "dataset", "subset", "root", "download", "image", "label", "train_splits", "test_splits",
        "per_class", "classes", "templates",
    }
)  # fmt: skip
TEMPLATES = ("a photo of a {}.",)
INSTALL = "pip install 'neulig-fl[huggingface]'"


class HuggingFaceSet(ImageSource):
    """The splits of one data set.

    Args:
        options: of the task; with `dataset` or an absolute `root`.
    """

    summary = "a data set of the Hugging Face Hub, or one saved here; set `dataset` or `root`"

    def __init__(self, options: TaskOptions) -> None:
        templates = options.templates or TEMPLATES
        super().__init__(templates, options.classes, options.per_class)
        self._options = options

    @property
    def who(self) -> str:
        """As `ImageSource`."""
        return f"huggingface {self._options.dataset or self._options.root}"

    def _error(self, what: str) -> DataError:
        return DataError(
            f"{self.who}: {what}", public_reason="its Hugging Face data set cannot be used"
        )

    @cached_property
    def _splits(self) -> Mapping[str, Any]:
        """All splits by name, in the data set's order."""
        options = self._options
        try:
            with download(), _network(allowed=options.download):
                return _saved(options) or _loaded(options)
        except Exception as error:  # the network's, of missing configurations, of damaged files
            words, advice = " ".join(str(error).split()), "give what it asks for"
            if options.dataset is not None and not options.download:
                advice = "set `download: true` to fetch it"
            raise self._error(
                f"cannot be opened ({type(error).__name__}: {words}); {advice}"
            ) from error

    @cached_property
    def _chosen_splits(self) -> dict[str, bool]:
        """The splits that are used, and whether each is held out."""
        there, options = list(self._splits), self._options
        found = split_names.chosen(there, options.train_splits, options.test_splits)
        for name in found:
            if name not in there:
                raise self._error(f"no split {name!r}; {nearest(name, there)}")
        looks = [
            n for n in there if n not in found and split_names.role(n) in ("validation", "test")
        ]
        if looks and options.test_splits is None and not any(found.values()):
            raise self._error(
                f"no split is evaluated on, though {looks[0]!r} looks like one; write "
                f"`test_splits: [{looks[0]}]`, or `test_splits: []` to set none aside"
            )
        return found

    @cached_property
    def _parts(self) -> list[Any]:
        return [self._splits[name] for name in self._chosen_splits]

    @cached_property
    def _features(self) -> list[Any]:
        return [part.features for part in self._parts]

    @cached_property
    def _image(self) -> str:
        """The column of the images."""
        with self._misfits():
            return columns.image_column(self._features, self._options.image)

    @cached_property
    def _label(self) -> str:
        """The column of the classes."""
        with self._misfits():
            return columns.label_column(self._features, self._options.label)

    @contextmanager
    def _misfits(self, column: str = "") -> Iterator[None]:
        try:
            yield
        except columns.Misfit as error:
            raise self._error(f"{column}{error}") from error

    @cached_property
    def _kinds(self) -> dict[str, Any]:
        """What the column of the classes is, by split."""
        pairs = zip(self._chosen_splits, self._features, strict=True)
        return {name: features[self._label] for name, features in pairs}

    @cached_property
    def _classes_found(self) -> tuple[tuple[str, ...], list[int]]:
        """The classes' names, and the class of every image."""
        pairs = zip(self._chosen_splits, self._parts, strict=True)
        values = {name: list(part.with_format(None)[self._label]) for name, part in pairs}
        with self._misfits(f"column {self._label!r}: "):
            return columns.classes(self._kinds, values, self._chosen_splits)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names that the data set gives its classes."""
        return self._classes_found[0]

    @property
    def readable(self) -> tuple[str, ...]:
        """The names; underscores read as spaces."""
        return tuple(name.replace("_", " ") for name in self.label_names)

    @cached_property
    def listing(self) -> Listing:
        """As `ImageSource`."""
        labels = np.array(self._classes_found[1], dtype=np.int64)
        flags = list(self._chosen_splits.values())
        if not any(flags):
            return Listing(labels)
        return Listing(labels, np.repeat(np.array(flags), [len(part) for part in self._parts]))

    @cached_property
    def _stored(self) -> list[Any]:
        """The column of the images, by part."""
        alone = (part.select_columns([self._image]).with_format(None) for part in self._parts)
        return [columns.stored(part, self._image) for part in alone]

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Place of the first image of every part."""
        return np.cumsum([0, *map(len, self._parts)])[:-1]

    def _found(self, place: int) -> tuple[int, int]:
        """The part of an image, and its number in it."""
        part = int(np.searchsorted(self._starts, place, side="right")) - 1
        return part, place - int(self._starts[part])

    def content_ids(self, places: NDArray[np.int64]) -> list[str]:
        """As `ImageSource`; kept in the cache folder where the data set lies in files."""
        files = [Path(entry["filename"]) for part in self._parts for entry in part.cache_files]
        what = f"{self.who} {list(self._chosen_splits)} {self._image}"
        root = files[0].parent if files else Path()
        return self.ids_of_set(what, root, files, places)

    def opened(self, place: int) -> Image.Image:
        """As `ImageSource`."""
        part, number = self._found(place)
        stored = self._stored[part]
        return columns.image(stored[number][self._image], stored.features[self._image].mode)

    def where(self, place: int) -> str:
        """The split and the number of the image in it."""
        part, number = self._found(place)
        return f"image {number} of split {list(self._chosen_splits)[part]!r}"

    def left_out(self) -> list[str]:
        """As `ImageSource`, with the splits that are not used."""
        unused = {n: part for n, part in self._splits.items() if n not in self._chosen_splits}
        return [*(f"{len(p)} in split {n!r}" for n, p in unused.items()), *super().left_out()]

    def remarks(self) -> list[str]:
        """As `ImageSource`, with the columns and splits that are read."""
        tested = [repr(name) for name, held in self._chosen_splits.items() if held]
        odd = columns.renumbered(self._kinds)
        return [
            f"columns {self._image!r} and {self._label!r}",
            *([f"evaluated on split {', '.join(tested)}"] if tested else []),
            *(f"split {name!r} numbers its classes otherwise; matched by name" for name in odd),
            *super().remarks(),
        ]


def _saved(options: TaskOptions) -> dict[str, Any]:
    """The splits of what `save_to_disk` wrote; none if `root` is nothing of that kind."""
    from datasets import Dataset, load_from_disk

    root = Path(options.root or "")
    marks = ("dataset_dict.json", "state.json")
    if options.root is None or not any((root / mark).is_file() for mark in marks):
        return {}
    if options.subset is not None:
        raise ValueError("what save_to_disk wrote has no subsets; leave `subset` out")
    found = load_from_disk(str(root))
    return {"train": found} if isinstance(found, Dataset) else dict(found)


def _loaded(options: TaskOptions) -> dict[str, Any]:
    """The splits of a data set of the Hub, or of a folder in one of the Hub's layouts."""
    from flwr_datasets import FederatedDataset

    found: dict[str, Any] = {}

    def keep(splits: Any) -> Any:
        found.update(splits)
        return splits

    # Flower's class says which splits there are to its preprocessor only. Nothing is shuffled:
    # `per_class` takes the first images.
    federated = FederatedDataset(
        dataset=options.dataset or str(options.root),
        subset=options.subset,
        partitioners={},
        shuffle=False,
        preprocessor=keep,
    )
    _ = federated.partitioners  # loads; unlike `load_split` it tells Flower's telemetry nothing
    return found


@contextmanager
def _network(allowed: bool) -> Iterator[None]:
    """Keep both libraries off the network, as `HF_HUB_OFFLINE` does at their import."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if not allowed:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def faults(options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the options, before anything is loaded."""
    if importlib.util.find_spec("flwr_datasets") is None:
        yield ("source",), f"huggingface needs packages that are not installed; {INSTALL}"
    if options.dataset is None and options.root is None:
        yield ("dataset",), "is missing; give a name of the Hugging Face Hub, or root"
    if options.dataset is not None and options.root is not None:
        yield ("root",), "given beside dataset; keep one: root is a data set on this machine"
    if options.root is not None and options.download:
        yield ("download",), "a data set on this machine is not fetched (got true); leave it out"
    for name in options.test_splits or ():
        if name in (options.train_splits or ()):
            yield ("test_splits",), f"{name!r} is in train_splits as well; keep it in one of them"


def source(options: TaskOptions) -> HuggingFaceSet:
    """The data set that `dataset` or `root` names.

    Raises:
        DataError: the options do not fit together, or the extra is not installed.
    """
    for keys, words in faults(options):
        raise DataError(f"source huggingface: {'.'.join(keys)}: {words}")
    return HuggingFaceSet(options)
