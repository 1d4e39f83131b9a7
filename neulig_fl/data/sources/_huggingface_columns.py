"""Columns of Hugging Face data sets: which one holds images or classes, and classes by name.

Parts of one data set can number the same classes in another order, so a class is its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageOps

from neulig_fl.core.errors import nearest
from neulig_fl.data import image_files, images

_NUMBERS = ("int", "uint")
_TEXTS = ("string", "large_string")


class Misfit(Exception):
    """What is wrong with a column, in words; `HuggingFaceSet` says of which data set."""


def image_column(features: Sequence[Mapping[str, Any]], given: str | None) -> str:
    """The column of the images: the one that is named, the only one, or `image`.

    Args:
        features: of every part.
        given: the user's name of it.

    Raises:
        Misfit: no such column, or one that holds no images.
    """
    found = [name for name, kind in features[0].items() if _is_image(kind)]
    name = _column(features, given, "image", found)
    for part in features:
        if not _is_image(part[name]) and not (given and _dtype(part[name]).endswith("binary")):
            words = f"column {name!r} holds no images; images: {', '.join(found) or 'none'}"
            if _dtype(part[name]) in _TEXTS:
                words += (
                    "; it holds texts: if they are paths of image files, save the data set with "
                    f"cast_column({name!r}, datasets.Image())"
                )
            raise Misfit(words)
    return name


def label_column(features: Sequence[Mapping[str, Any]], given: str | None) -> str:
    """The column of the classes: the one that is named, the only one of labels, or `label`.

    Raises:
        Misfit: no such column.
    """
    found = [name for name, kind in features[0].items() if hasattr(kind, "names")]
    return _column(features, given, "label", found)


def _column(
    features: Sequence[Mapping[str, Any]], given: str | None, key: str, found: Sequence[str]
) -> str:
    name = given or (found[0] if len(found) == 1 else key)
    if any(name not in part for part in features):
        raise Misfit(f"set `{key}` to its column; no column {name!r}; {nearest(name, features[0])}")
    return name


def stored(part: Any, column: str) -> Any:
    """A part whose column of images gives what is stored of them, for `image` to decode.

    The library's own decoding lets Pillow try every format that it knows.
    """
    from datasets import Image

    kind = part.features[column]
    mode = kind.mode if isinstance(kind, Image) else None
    return part.cast_column(column, Image(mode=mode, decode=False))


def image(value: Mapping[str, Any] | None, mode: str | None) -> PillowImage.Image:
    """The image of a row, as RGB.

    Args:
        value: what is stored: its bytes, or the path of a file on this machine.
        mode: the mode that the data set says its images have, if it does.

    Raises:
        Exception: there is none, or as `image_files.opened`.
    """
    content, path = (value or {}).get("bytes"), (value or {}).get("path")
    if content is None and path is None:
        raise OSError("there is no image in this row")
    if content is None and "://" in str(path):
        raise OSError("it is not stored on this machine; save the data set with its images")
    with image_files.opened(Path(str(path)) if content is None else content) as found:
        return images.rgb(ImageOps.exif_transpose(found).convert(mode) if mode else found)


def _is_image(kind: Any) -> bool:
    """Whether a column holds images, or what the library stores of one: its bytes and path."""
    from datasets import Image

    return isinstance(kind, Image) or (isinstance(kind, dict) and set(kind) == {"bytes", "path"})


def _dtype(kind: Any) -> str:
    return str(getattr(kind, "dtype", ""))


def classes(
    kinds: Mapping[str, Any], values: Mapping[str, Sequence[Any]], held_out: Mapping[str, bool]
) -> tuple[tuple[str, ...], list[int]]:
    """The classes of a data set, and the class of every image, part after part.

    Args:
        kinds: what the column of the classes is in every part.
        values: the column itself.
        held_out: whether a part is evaluated on; what it alone has is no class.

    Returns:
        The names, in the order of the first part's labels, or sorted where it has none; and the
        index of each image's name.

    Raises:
        Misfit: values that are no classes, an image without one, or parts that cannot be matched.
    """
    first, kind = next(iter(kinds.items()))
    named: dict[str, list[Any]] = {}
    for part, own in kinds.items():
        if _is_number(own) != _is_number(kind):
            raise Misfit(
                f"split {first!r} gives classes as {_sort(kind)} and split {part!r} as "
                f"{_sort(own)}, so that they cannot be matched; save both with the same labels"
            )
        named[part] = _names(part, own, values[part])
    trained = {name for part, names in named.items() if not held_out[part] for name in names}
    order = getattr(kind, "names", None) or sorted(trained)
    index = {name: i for i, name in enumerate(order)}
    for part, names in named.items():
        for name in names:
            if name not in index:
                raise Misfit(
                    f"split {part!r} has images of class {name!r}, which no training split has; "
                    f"{nearest(str(name), map(str, order))}"
                )
    return tuple(map(str, order)), [index[name] for names in named.values() for name in names]


def renumbered(kinds: Mapping[str, Any]) -> list[str]:
    """Parts whose labels have another order than the first's."""
    lists = {part: getattr(kind, "names", None) for part, kind in kinds.items()}
    first = next(iter(lists.values()))
    return [part for part, names in lists.items() if names and first and names != first]


def _is_number(kind: Any) -> bool:
    return not hasattr(kind, "names") and _dtype(kind).startswith(_NUMBERS)


def _sort(kind: Any) -> str:
    return "names" if hasattr(kind, "names") else _dtype(kind)


def _names(part: str, kind: Any, values: Sequence[Any]) -> list[Any]:
    """What a part's values are called; whole numbers are their own names."""
    names = getattr(kind, "names", None)
    if names is None and not _is_number(kind) and _dtype(kind) not in _TEXTS:
        raise Misfit("is no class; texts and whole numbers are")
    known = range(len(names)) if names is not None else None
    for value in values:
        if value is None or (known is not None and value not in known):
            raise Misfit(
                f"split {part!r} has an image without a class (got {value!r}); use other splits "
                "(`train_splits`, `test_splits`)"
            )
    return [names[value] for value in values] if names is not None else list(values)
