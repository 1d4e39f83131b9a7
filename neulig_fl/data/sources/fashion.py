"""Fashion-MNIST, 800 images a class, also from the files of Debian's `dataset-fashion-mnist`."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neulig_fl.core.errors import DataError
from neulig_fl.core.files import write_atomically
from neulig_fl.data.sources._torchvision_sets import SETS
from neulig_fl.data.sources.torchvision import TorchvisionSet, default_root, known_faults

if TYPE_CHECKING:
    from neulig_fl.config.scenario import TaskOptions
    from neulig_fl.data.sources import Fault

READS = frozenset({"root", "download", "per_class", "classes", "templates"})
PER_CLASS = 800
NAME = "FashionMNIST"
RAW = Path(NAME) / "raw"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package has the four files, packed again."""

UNPACKED = {
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
}
"""SHA-256 of the four files. Debian's gzip headers lack name and time, so MD5 sums are not those of
torchvision; with both restored they are: the contents are what was published."""


class Fashion(TorchvisionSet):
    """FashionMNIST, wherever its files are found."""

    @cached_property
    def root(self) -> Path:
        """The folder for torchvision: `root`, the cache folder's `data`, or Debian's, unpacked.

        Raises:
            DataError: the files are nowhere, or those that would be unpacked are damaged.
        """
        given = self._options.root
        looked = [Path(given)] if given else [default_root(), DEBIAN]
        for folder in looked:
            if all((folder / RAW / name).is_file() for name in UNPACKED):
                return folder
            if all((folder / f"{name}.gz").is_file() for name in UNPACKED):
                return _unpacked(folder)
        if self._options.download:
            return looked[0]
        places = " and ".join(map(str, looked))
        raise DataError(
            f"task fashion: no files of {NAME} in {places}; install them (Debian and Ubuntu: apt "
            "install dataset-fashion-mnist), or name their folder (tasks: {fashion: {source: "
            "fashion, root: FOLDER}}), or have them fetched (tasks: {fashion: {source: fashion, "
            "download: true}})",
            public_reason=f"the files of {NAME} are not there",
        )


def _unpacked(folder: Path) -> Path:
    """Unpack the published files of a folder into the cache, as torchvision wants them."""
    root = default_root()
    for name, sum_ in UNPACKED.items():
        packed = folder / f"{name}.gz"
        try:
            content = gzip.decompress(packed.read_bytes())
        except (OSError, EOFError, zlib.error):
            content = b""
        if hashlib.sha256(content).hexdigest() != sum_:
            raise DataError(
                f"task fashion: {packed} does not hold what was published as {name} (its SHA-256 "
                f"is not {sum_}); get it again",
                public_reason=f"a file of {NAME} is damaged",
            )
        write_atomically(root / RAW / name, content)
    return root


def faults(options: TaskOptions) -> Iterator[Fault]:
    """What is wrong with the options, before images are read."""
    yield from known_faults(SETS[NAME], options)


def source(options: TaskOptions) -> Fashion:
    """640 training and 160 test images a class, 28x28."""
    per_class = options.per_class or PER_CLASS
    return Fashion(NAME, SETS[NAME], options.model_copy(update={"per_class": per_class}))
