"""Tasks: labelled image data sets with class names and prompt templates.

Every file in this folder is a source, found by its file name, with one function:

    def source(options: TaskOptions) -> Source

`Task` adds what all sources share: the splits. A source image's place depends on nothing but
(scenario seed, collection, source id): 0.3 of the images train model-A, 0.3 train model-B, 0.2 are
the public pool and 0.2 are evaluated on. A task that draws on another's images keeps their
collection and ids, so an image never changes sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from neulig_fl import variants
from neulig_fl.errors import DataError
from neulig_fl.randomness import uniform_positions

if TYPE_CHECKING:
    from neulig_fl.scenario import Scenario

SPLITS = {
    "train-A": (0.0, 0.3),
    "train-B": (0.3, 0.6),
    "pool": (0.6, 0.8),
    "evaluation": (0.8, 1.0),
}


class Source(Protocol):
    """Where a task's images come from. `ids` and `class_names` cost nothing; pixels are lazy."""

    @property
    def collection(self) -> str:
        """Names the images; tasks that use the same images name the same collection."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the images of an id do."""
        ...

    @property
    def summary(self) -> str:
        """One sentence for `neulig-fl tasks`."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels mean, in the order of the labels."""
        ...

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompts with `{}` for the class name."""
        ...

    def ids(self) -> Sequence[str]:
        """One id per image, unique within the collection."""
        ...

    def labels(self) -> NDArray[np.int64]:
        """Class index of every image, shape (images,)."""
        ...

    def pixels(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """RGB images of shape (len(indices), 3, size, size)."""
        ...


@dataclass(frozen=True)
class Task:
    """A source under the name that the scenario gives it, with its splits for one seed."""

    name: str
    source: Source
    seed: int

    @cached_property
    def _positions(self) -> NDArray[np.float64]:
        return uniform_positions(self.seed, f"split:{self.source.collection}", self.source.ids())

    def indices(self, split: str, most: int | None = None) -> NDArray[np.int64]:
        """The images of one split, in an order that depends on the seed alone.

        Args:
            split: `train-A`, `train-B`, `pool` or `evaluation`.
            most: keep the first so many; subsets of one another are nested.

        Returns:
            int64 array of image indices into the source.
        """
        low, high = SPLITS[split]
        inside = np.flatnonzero((self._positions >= low) & (self._positions < high))
        ordered = inside[np.argsort(self._positions[inside], kind="stable")]
        return ordered[:most].astype(np.int64)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class index of the given images, shape (len(indices),)."""
        return self.source.labels()[indices]

    def pixels(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """RGB images of shape (len(indices), 3, size, size)."""
        return self.source.pixels(indices, size)

    def require_classes(self, split: str, indices: NDArray[np.int64]) -> None:
        """Refuse a split in which a class has no image.

        Raises:
            DataError: naming the task, the split, the class and how many images it has in all.
        """
        counts = np.bincount(self.labels(indices), minlength=len(self.source.class_names))
        for index, count in enumerate(counts):
            if count == 0:
                total = int((self.source.labels() == index).sum())
                raise DataError(
                    f"task {self.name!r}: class {self.source.class_names[index]!r} has no image in "
                    f"split {split} (it has {total} in all); give it more images (20 and more) or "
                    "take the class out",
                    public_reason=f"task {self.name!r}: a class has no image in split {split}",
                )


def open_task(scenario: Scenario, name: str, seed: int) -> Task:
    """The task that a scenario calls `name`: one of its own `tasks:`, or a built-in source.

    Raises:
        InputError: no source of that name.
        DataError: the source's files cannot be read.
    """
    from neulig_fl.scenario import TaskOptions

    options = scenario.tasks.get(name)
    module = variants.load("neulig_fl.tasks", options.source if options else name)
    return Task(name=name, source=module.source(options or TaskOptions(source=name)), seed=seed)
