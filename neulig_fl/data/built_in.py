"""The source that the bundled tasks share: a fixed number of small images, made or read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core import cache_folder
from neulig_fl.core.randomness import numpy_generator
from neulig_fl.core.resizing import Resize, resize
from neulig_fl.data import images

ImageArray = NDArray[np.uint8]


@dataclass(frozen=True)
class BuiltInSource:
    """Images that come with the package or its dependencies.

    Args:
        collection: names the images; tasks that use the same images name the same collection.
        summary: one sentence for `neulig-fl tasks`.
        class_names: what the labels mean, in the order of the labels.
        templates: prompts with `{}` for the class name.
        count: number of images, known without reading them.
        version: changes whenever the images do; no two tasks of a collection share one.
        build: makes all images, uint8 of shape (count, height, width, 3).
        read_labels: class index of all images, int64 of shape (count,).
    """

    collection: str
    summary: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    count: int
    version: str
    build: Callable[[], ImageArray] = field(repr=False)
    read_labels: Callable[[], NDArray[np.int64]] = field(repr=False)

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        return self.read_labels()

    def ids(self) -> Sequence[str]:
        """The images' numbers, as text."""
        return [str(i) for i in range(self.count)]

    def origins(self) -> Sequence[str]:
        """Every image is its own origin; images made from those of a collection have its ids."""
        return self.ids()

    def held_out(self) -> None:
        """Nobody has set images aside for testing."""

    def labels(self) -> NDArray[np.int64]:
        """Class index of every image, shape (count,)."""
        return self._labels

    def pixels(self, indices: NDArray[np.int64], size: int | Resize) -> NDArray[np.uint8]:
        """RGB images of shape (len(indices), 3, size, size), resized where the size differs."""
        stored = cache_folder.images(self.collection, self.version, self.build)
        return resized(stored[indices], size)


def resized(stored: ImageArray, to: int | Resize) -> NDArray[np.uint8]:
    """Square images (n, height, width, 3) as (n, 3, size, size)."""
    size = resize(to).size
    if stored.shape[1:3] != (size, size):
        scaled = [np.asarray(images.square(Image.fromarray(p), to)) for p in stored]
        stored = np.stack(scaled) if scaled else np.zeros((0, size, size, 3), np.uint8)
    return np.ascontiguousarray(stored.transpose(0, 3, 1, 2))


def drawn(
    name: str,
    summary: str,
    class_names: tuple[str, ...],
    templates: tuple[str, ...],
    draw: Callable[[np.random.Generator, int], ImageArray],
    *,
    count: int,
    version: str,
) -> BuiltInSource:
    """A source of images drawn to order, each from a generator of its own.

    Args:
        draw: one image of a class, uint8 of shape (height, width, 3).
        count: number of images; the classes take turns.
        version: changes whenever the images do.
    """
    labels = balanced_labels(count, len(class_names))

    def build() -> ImageArray:
        numbered = enumerate(labels)
        return np.stack(
            [draw(numpy_generator(0, f"source:{name}", str(i)), int(k)) for i, k in numbered]
        )

    return BuiltInSource(
        name, summary, class_names, templates, count, version, build, lambda: labels
    )


def balanced_labels(count: int, classes: int) -> NDArray[np.int64]:
    """Labels 0, 1, ..., classes - 1, 0, 1, ... for images that are drawn to order."""
    return np.arange(count, dtype=np.int64) % classes
