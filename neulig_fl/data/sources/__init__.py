"""Tasks: labelled image data sets with class names and prompt templates.

Every file in this folder is a source, found by its file name, with one function:

    def source(options: TaskOptions) -> Source

and, where a scenario's `tasks:` can say more of it than `templates`, with

    READS: frozenset[str]                      the keys of TaskOptions that it reads
    def faults(options) -> Iterator[Fault]     what is wrong with them, before images are read

`Task` adds what all sources share: the splits. An image's place depends on nothing but (scenario
seed, collection, origin): 0.3 of the images train model-A, 0.3 train model-B, 0.2 are the public
pool and 0.2 are evaluated on. Where the publisher set images aside for testing, exactly those are
evaluated on, and the others share the rest in the same proportions. A task that draws on another's
images keeps their collection and origins, so an image never changes sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core import variants
from neulig_fl.core.errors import DataError
from neulig_fl.core.randomness import uniform_positions
from neulig_fl.core.resizing import Resize

if TYPE_CHECKING:
    from neulig_fl.config.scenario import Scenario, TaskOptions

SPLITS = {
    "train-A": (0.0, 0.3),
    "train-B": (0.3, 0.6),
    "pool": (0.6, 0.8),
    "evaluation": (0.8, 1.0),
}

Fault = tuple[tuple[str, ...], str]
"""What is wrong with a task's options: the keys that lead there, and the words."""


class Source(Protocol):
    """Where a task's images come from; pixels are read when they are asked for."""

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

    def origins(self) -> Sequence[str]:
        """What decides each image's split: its id, or that of the image it was made from."""
        ...

    def held_out(self) -> NDArray[np.bool_] | None:
        """Which images the publisher set aside for testing, shape (images,); None: it did not."""
        ...

    def labels(self) -> NDArray[np.int64]:
        """Class index of every image, shape (images,)."""
        ...

    def pixels(self, indices: NDArray[np.int64], size: int | Resize) -> NDArray[np.uint8]:
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
        purpose = f"split:{self.source.collection}"
        anywhere = uniform_positions(self.seed, purpose, self.source.origins())
        held_out = self.source.held_out()
        if held_out is None:
            return anywhere
        start, end = SPLITS["evaluation"]
        return np.where(held_out, start + (end - start) * anywhere, start * anywhere)

    @cached_property
    def _ordered(self) -> dict[str, NDArray[np.int64]]:
        """The images of every split that was asked for."""
        return {}

    def indices(self, split: str, most: int | None = None) -> NDArray[np.int64]:
        """The images of one split, in an order that depends on the seed alone.

        Args:
            split: `train-A`, `train-B`, `pool` or `evaluation`.
            most: keep the first so many; subsets of one another are nested.

        Returns:
            int64 array of image indices into the source.
        """
        if split not in self._ordered:
            low, high = SPLITS[split]
            inside = np.flatnonzero((self._positions >= low) & (self._positions < high))
            ordered = inside[np.argsort(self._positions[inside], kind="stable")]
            self._ordered[split] = ordered.astype(np.int64)
        return self._ordered[split][:most].copy()

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class index of the given images, shape (len(indices),)."""
        return self.source.labels()[indices]

    def pixels(self, indices: NDArray[np.int64], size: int | Resize) -> NDArray[np.uint8]:
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

    def require_prompts(self, tokens: Callable[[Sequence[str]], Iterable[Sequence[int]]]) -> None:
        """Refuse two classes whose prompts a model cannot tell apart.

        Their head rows would be equal, and one of the two would never be answered.

        Args:
            tokens: what the model reads of each prompt: lower-cased, cut to its context length.

        Raises:
            DataError: naming both classes, and why their prompts are the same.
        """
        names, templates = self.source.class_names, self.source.templates
        prompts = [template.format(name) for name in names for template in templates]
        read = [tuple(row) for row in tokens(prompts)]
        seen: dict[tuple[tuple[int, ...], ...], int] = {}
        for index in range(len(names)):
            own = slice(index * len(templates), (index + 1) * len(templates))
            other = seen.setdefault(tuple(read[own]), index)
            if other == index:
                continue
            same = f"task {self.name!r}: classes {names[other]!r} and {names[index]!r}"
            reason = f"task {self.name!r}: two classes have the same prompts"
            if names[other] == names[index]:
                what = f"{same} have the same name (underscores read as spaces); rename one of them"
            else:
                what = (
                    f"{same} have the same prompts as the model reads them: it makes no difference "
                    f"of case and cuts what is long, as in {prompts[own][0]!r}; give them shorter "
                    "names (`classes`) or the task shorter `templates`"
                )
            raise DataError(what, public_reason=reason)


def open_task(scenario: Scenario, name: str, seed: int) -> Task:
    """The task that a scenario calls `name`: one of its own `tasks:`, or a built-in source.

    Raises:
        InputError: no source of that name.
        DataError: the source's files cannot be read.
    """
    return opened(name, scenario.tasks.get(name), seed)


def opened(name: str, options: TaskOptions | None, seed: int) -> Task:
    """A task under a name, from its options; a built-in source of that name where there are none.

    Raises:
        InputError: no source of that name.
        DataError: the source's files cannot be read.
    """
    from neulig_fl.config.scenario import TaskOptions

    module = variants.load(__name__, options.source if options else name, "task")
    return Task(name=name, source=module.source(options or TaskOptions(source=name)), seed=seed)


def source_hash(source: Source) -> str:
    """Identifies what a task's accuracy depends on beside the weights; no pixel is read.

    Raises:
        DataError: its files are not there.
    """
    digest = hashlib.sha256(f"{source.collection}:{source.version}\n".encode())
    digest.update("\n".join((*source.class_names, *source.templates)).encode())
    digest.update("\n".join(source.ids()).encode())
    digest.update(source.labels().tobytes())
    return digest.hexdigest()[:32]
