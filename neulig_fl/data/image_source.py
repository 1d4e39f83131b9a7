"""What sources of real images share: chosen classes and images, content ids, pixels.

An image is its pixels: its id is their hash, and all such sources are one collection. So the same
image has the same split whichever file or data set it comes from, under every name.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.core.errors import DataError, nearest
from neulig_fl.core.resizing import Resize, resize
from neulig_fl.data import image_files, image_ids, images
from neulig_fl.data.image_walk import composed
from neulig_fl.data.images import Unreadable

TRAINING_SHARE = 0.8
"""Of `per_class` images, so many come from the training part where there is a test part."""

SHOWN = 3
"""Most names in one error."""


@dataclass(frozen=True)
class Listing:
    """All images of a data set, in its own order.

    Args:
        labels: index of each image's class in the set's own order, int64 of shape (images,).
        held_out: which images are of the test part, shape (images,); None: there is no such part.
    """

    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Chosen:
    """The images of a source: where each stands in the listing, and what it is known by.

    `asked` counts the copies of test images, too, that were left out.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_] | None
    asked: int
    origins: tuple[str, ...]
    ids: tuple[str, ...]


class ImageSource(ABC):
    """A `sources.Source` of real images.

    Args:
        templates: prompts with `{}` for the class name.
        classes: from the set's own label names to class names, in the order of the labels; None:
            all, in the set's order, under `readable` names.
        per_class: most images of a class; None: all.
    """

    collection = "images"
    version = "1"
    one_class_each = False
    """Whether an image in two classes is an error; not in published sets, which nobody can mend."""

    def __init__(
        self,
        templates: tuple[str, ...],
        classes: Mapping[str, str] | None = None,
        per_class: int | None = None,
    ) -> None:
        self.templates = templates
        self._classes = classes
        self._per_class = per_class
        self.on_image: image_ids.OnImage = lambda done, total: None
        """Told of progress while images are decoded for their ids."""

    # What a source of its own kind knows.

    @property
    @abstractmethod
    def who(self) -> str:
        """How errors call it."""

    @property
    @abstractmethod
    def label_names(self) -> tuple[str, ...]:
        """The set's own names of its labels, in their order."""

    @property
    @abstractmethod
    def readable(self) -> tuple[str, ...]:
        """Class names for prompts, in the order of `label_names`."""

    @property
    @abstractmethod
    def listing(self) -> Listing:
        """All images."""

    @abstractmethod
    def content_ids(self, places: NDArray[np.int64]) -> list[str]:
        """The `images.content_id` of the images at some places of the listing."""

    @abstractmethod
    def opened(self, place: int) -> Image.Image:
        """One image, as `images.rgb` gives it."""

    @abstractmethod
    def where(self, place: int) -> str:
        """How errors call one image."""

    # What follows for all of them.

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """What the labels mean, in the order of the labels."""
        self._require_known_classes()
        return self.readable if self._classes is None else tuple(self._classes.values())

    def _require_known_classes(self) -> None:
        if self._classes is None:
            return
        for _, words in class_faults(self._classes, self.label_names):
            raise DataError(
                f"{self.who}: classes: {words}", public_reason="its classes are not the data's"
            )

    @cached_property
    def _chosen(self) -> _Chosen:
        self._require_known_classes()
        labels = self._labels_of_all()
        places = _first_of_each(labels, self.listing.held_out, self._per_class)
        asked, contents = len(places), self.content_ids(places)
        if self.one_class_each:
            self._require_one_class(places, labels[places], contents)
        held_out = self.listing.held_out
        if held_out is not None:
            kept = _not_tested(held_out[places], contents)
            places, contents = places[kept], [contents[int(i)] for i in kept]
        return _Chosen(
            places=places,
            asked=asked,
            labels=labels[places],
            held_out=None if held_out is None else held_out[places],
            origins=tuple(contents),
            ids=tuple(_numbered(contents)),
        )

    def _labels_of_all(self) -> NDArray[np.int64]:
        if self._classes is None:
            return self.listing.labels
        order = {composed(name): i for i, name in enumerate(self._classes)}
        new = [order[composed(name)] for name in self.label_names]
        return np.array(new, dtype=np.int64)[self.listing.labels]

    def _require_one_class(
        self, places: NDArray[np.int64], labels: NDArray[np.int64], contents: Sequence[str]
    ) -> None:
        seen: dict[str, int] = {}
        for at, content in enumerate(contents):
            other = seen.setdefault(content, at)
            if labels[other] != labels[at]:
                raise DataError(
                    f"{self.who}: {self.where(int(places[at]))} and "
                    f"{self.where(int(places[other]))} are the same image in two classes; "
                    "keep one of them",
                    public_reason="its data hold one image in two classes",
                )

    def left_out(self) -> list[str]:
        """What is in the data set and not taken, a phrase a reason; decodes as `ids` does."""
        listing, chosen = self.listing, self._chosen
        beyond = len(listing.labels) - chosen.asked
        copies = chosen.asked - len(chosen.places)
        found = {
            f"beyond per_class: {self._per_class}": beyond,
            "training images that are test images as well": copies,
        }
        return [f"{count} {why}" for why, count in found.items() if count]

    def remarks(self) -> list[str]:
        """What is worth knowing of the images that are taken, a phrase each."""
        chosen = self._chosen
        twice = len(chosen.origins) - len(set(chosen.origins))
        pairs = set(zip(chosen.origins, chosen.labels.tolist(), strict=True))
        torn = len(pairs) - len({origin for origin, _ in pairs})
        found = {
            "copies of other images, which stay in their split": twice,
            "in two classes": torn,
        }
        return [f"{count} {what}" for what, count in found.items() if count]

    def ids(self) -> Sequence[str]:
        """Hash of every image's pixels; a further copy of an image has its number behind it."""
        return self._chosen.ids

    def origins(self) -> Sequence[str]:
        """Hash of every image's pixels."""
        return self._chosen.origins

    def held_out(self) -> NDArray[np.bool_] | None:
        """Which images are of the publisher's test part."""
        return self._chosen.held_out

    def labels(self) -> NDArray[np.int64]:
        """Class index of every image, shape (images,)."""
        return self._chosen.labels

    def pixels(self, indices: NDArray[np.int64], size: int | Resize) -> NDArray[np.uint8]:
        """RGB images of shape (len(indices), 3, size, size).

        Raises:
            DataError: an image that cannot be read, by its name.
        """
        places = self._chosen.places
        to = resize(size)
        squares = [np.asarray(images.square(self.image(int(places[i])), to)) for i in indices]
        stacked = np.stack(squares) if squares else np.zeros((0, to.size, to.size, 3), np.uint8)
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))

    def image(self, place: int) -> Image.Image:
        """One image of the listing, as RGB at its own size.

        Raises:
            DataError: it cannot be read; with its name.
        """
        try:
            return self.opened(place)
        except Exception as error:  # Pillow's decoders raise anything on damaged files
            raise Unreadable(self.who, self.where(place), image_files.why(error)) from error

    def ids_of_files(self, root: Path, place_of: Mapping[Path, int]) -> list[str]:
        """The ids of images that are files, by their places in the listing.

        Raises:
            DataError: some cannot be read; with their names.
        """

        def made(file: Path) -> str:
            return images.content_id(self.image(place_of[file]))

        ids, failed = image_ids.of_files(root, list(place_of), made, self.on_image)
        self._require_readable(failed)
        return ids

    def ids_of_set(
        self, what: str, root: Path, files: Sequence[Path], places: NDArray[np.int64]
    ) -> list[str]:
        """The ids of images that lie together in a few large files.

        Args:
            what: the data set, and which of its parts and columns.
            root: folder of the files.
            files: on which the ids depend.
            places: of the images in the listing.

        Raises:
            DataError: some cannot be read; with their names.
        """

        def made() -> list[str]:
            ids, failed = [], []
            for done, place in enumerate(places, start=1):
                try:
                    ids.append(images.content_id(self.image(int(place))))
                except Unreadable as error:
                    failed.append(error)
                self.on_image(done, len(places))
            self._require_readable(failed)
            return ids

        chosen = hashlib.sha256(places.tobytes()).hexdigest()
        return image_ids.of_set(f"{what} {chosen}", root, files, made)

    def _require_readable(self, failed: Sequence[Unreadable]) -> None:
        if not failed:
            return
        if len(failed) == 1:
            raise DataError(str(failed[0]), public_reason=failed[0].public_reason) from failed[0]
        shown = ", ".join(f"{each.where} ({each.why})" for each in failed[:SHOWN])
        more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        raise DataError(
            f"{self.who}: {len(failed)} images cannot be read: {shown}{more}; replace or remove "
            "them",
            public_reason="some of its images cannot be read",
        ) from failed[0]


def class_faults(
    classes: Mapping[str, str], known: Sequence[str]
) -> Iterator[tuple[str | None, str]]:
    """What is wrong with the option `classes`: each name (None: the mapping) and the words."""
    there, named = set(map(composed, known)), set()
    for name in classes:
        if composed(name) not in there:
            yield name, f"no such class (got {name!r}); {nearest(name, known)}"
        elif composed(name) in named:
            yield name, f"{name!r} stands twice, its accents written in two ways; keep one"
        named.add(composed(name))
    missing = [name for name in known if composed(name) not in named]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        shown = ", ".join(map(repr, missing[:3]))
        yield None, f"leaves out {shown}{more}; name every class of the data set"


def _first_of_each(
    labels: NDArray[np.int64], held_out: NDArray[np.bool_] | None, most: int | None
) -> NDArray[np.int64]:
    """Places of the first images of every class, of either part its share."""
    if most is None:
        return np.arange(len(labels), dtype=np.int64)
    training = most if held_out is None else round(TRAINING_SHARE * most)
    groups = labels * 2 + (0 if held_out is None else held_out)
    found = []
    for group in np.unique(groups):
        of_test = held_out is not None and bool(group % 2)
        found.append(np.flatnonzero(groups == group)[: most - training if of_test else training])
    return np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _not_tested(held_out: NDArray[np.bool_], contents: Sequence[str]) -> NDArray[np.int64]:
    """All but the training images that are also test images: those would give the test away."""
    tested = {content for content, held in zip(contents, held_out, strict=True) if held}
    pairs = zip(contents, held_out, strict=True)
    kept = [i for i, (content, held) in enumerate(pairs) if held or content not in tested]
    return np.array(kept, dtype=np.int64)


def _numbered(contents: Sequence[str]) -> Iterator[str]:
    """Ids that are unique: the second copy of an image is `hash#2`."""
    seen: dict[str, int] = {}
    for content in contents:
        seen[content] = seen.get(content, 0) + 1
        yield content if seen[content] == 1 else f"{content}#{seen[content]}"
