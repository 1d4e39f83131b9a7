"""Files that look like smaller copies of images beside them, or like their masks.

Copies are thumbnails, previews, web sizes; masks come from segmentation. A copy in another size has
other pixels and so an id of its own; with its original in a training half, an evaluated copy would
be known. A name proves nothing, so such files are a question. Folders of sizes are found by what
they hold: files of the same names that look alike, all smaller in one of two folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from itertools import combinations
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neulig_fl.data import image_files

_FOLDERS = frozenset(
    {
        "thumb", "thumbs", "thumbnail", "thumbnails", "_thumb", "_thumbs", "_thumbnails", "preview",
        "previews", "resized",
    }
)  # fmt: skip
_MARKS = r"thumbs?|thumbnails?|tn|small|preview|resized|min|scaled|lowres|low_res"
_MASKS = r"masks?|seg|segm|segmentation|annotations?|labels?|trimap|gt|depth|matte|overlay"
_BEHIND = re.compile(
    rf"^(?P<of>.+?)[-_. ](?P<mark>(?P<mask>{_MASKS})|{_MARKS}|\d{{2,4}}x\d{{2,4}}|@\dx)$",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"full|fullsize|full.size|originals?|orig|large|medium|small|hi.?res|low.?res|tn|"
    r"\d{2,5}x\d{2,5}|\d{2,5}px",
    re.IGNORECASE,
)
MOST_SIZES = 20
"""Subfolders beside one another; more are no sizes of the same images."""

_LOOKED_AT = 8
"""Pairs of files whose sizes are compared."""

_ALIKE = 12
"""Mean difference, in 255 grey levels, up to which two images of 16 x 16 are of one image."""

_BEFORE = re.compile(rf"^(?P<mark>(?P<mask>{_MASKS})|{_MARKS})[-_. ](?P<of>.+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Suspects:
    """Files that look like copies for one reason.

    Args:
        pattern: what would exclude them.
        example: one of them.
        original: what it looks like a copy of; None: its folder's name says it.
        count: how many.
        mask: whether they look like masks, and not like copies.
    """

    pattern: str
    example: Path
    original: Path | None
    count: int
    mask: bool = False

    @property
    def what(self) -> str:
        """What they may be."""
        return "the mask" if self.mask else "a smaller copy"

    @property
    def why(self) -> str:
        """Why they should not be taken."""
        if self.mask:
            return "an expert would be trained on masks as on images"
        return "an expert that is trained on the one would know the other"


def suspects(root: Path, files: Sequence[Path]) -> list[Suspects]:
    """Files that look like smaller copies or masks, by what would exclude them.

    Args:
        root: folders above it do not count.
        files: all images of one class.
    """
    by_stem: dict[str, Path] = {}
    for file in files:
        by_stem.setdefault(file.stem.casefold(), file)
    found: dict[str, Suspects] = {}
    for file in files:
        seen = _in_folder(file.relative_to(root)) or _beside(file, by_stem)
        if seen is not None:
            pattern, original, mask = seen
            before = found.get(pattern, Suspects(pattern, file, original, 0, mask))
            found[pattern] = replace(before, count=before.count + 1)
    return list(found.values())


def is_size(name: str) -> bool:
    """Whether a folder's name is that of a size.

    Example:
        >>> [is_size(name) for name in ("256x256", "tn", "Original", "thumbs", "big cat")]
        [True, True, True, True, False]
    """
    return name.casefold() in _FOLDERS or _SIZE.fullmatch(name) is not None


def copies(mine: Sequence[Path], others: Sequence[Path]) -> tuple[Path, Path] | None:
    """A smaller and a larger image of one name, if all that are looked at are such pairs.

    Half of the names of the fewer files are the same, every image of the one side is smaller than
    its like of the other, their sides have the same ratio, and they look alike: so that images
    which are merely numbered alike are none.
    """
    pairs = _of_one_name(mine, others)
    step = -(-len(pairs) // _LOOKED_AT) or 1
    looked_at = pairs[::step]
    sides = [(_sides(one), _sides(other)) for one, other in looked_at]
    known = [(one, other) for one, other in sides if one and other]
    for smaller, turned in ((known, False), ([(b, a) for a, b in known], True)):
        if known and all(_is_smaller(one, other) for one, other in smaller):
            first, second = pairs[0]
            found = (second, first) if turned else (first, second)
            return found if _look_alike(looked_at) else None  # images are decoded for this alone
    return None


def sized_folders(folder: Path, files: Sequence[Path]) -> list[Suspects]:
    """Subfolders of one class folder that look like other sizes of the same images.

    Args:
        folder: the class folder.
        files: its images.
    """
    held: dict[Path, list[Path]] = {}
    for file in files:
        held.setdefault(file.parent, []).append(file)
    beside: dict[Path, list[Path]] = {}
    for each in held:
        if each != folder:
            beside.setdefault(each.parent, []).append(each)
    found: dict[Path, Suspects] = {}
    for above, below in beside.items():
        members = [above, *below] if above in held else below
        if len(members) > MOST_SIZES:
            continue
        for one, other in combinations(members, 2):
            pair = _sizes_of_one(one, other, held, above)
            if pair is not None:
                smaller, larger = pair
                place = smaller.parent if smaller.parent != above else larger.parent
                found[place] = Suspects(escape(place.name), smaller, larger, len(held[place]))
    return list(found.values())


def _sizes_of_one(
    one: Path, other: Path, held: dict[Path, list[Path]], above: Path
) -> tuple[Path, Path] | None:
    """A smaller and a larger image of two folders that look like sizes of the same images."""
    named = [each for each in (one, other) if each != above and is_size(each.name)]
    pairs = _of_one_name(held[one], held[other]) if len(named) == 1 else []
    if len(named) == 2:
        pairs = [(held[one][0], held[other][0])]
    if not pairs:
        return copies(held[one], held[other])
    first, second = pairs[0]
    turned = (_sides(first) or (0, 0)) > (_sides(second) or (0, 0))
    return (second, first) if turned else (first, second)


def _of_one_name(mine: Sequence[Path], others: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files of one name; none where fewer than half of the fewer files have one."""
    by_stem: dict[str, Path] = {}
    for file in others:
        by_stem.setdefault(file.stem.casefold(), file)
    pairs = [(f, by_stem[f.stem.casefold()]) for f in mine if f.stem.casefold() in by_stem]
    enough = len(pairs) >= 2 and 2 * len(pairs) >= min(len(mine), len(others))
    return pairs if enough else []


def _sides(file: Path) -> tuple[int, int] | None:
    """The shorter and the longer side of an image; None where it cannot be read."""
    try:
        with image_files.opened(file) as image:
            return min(image.size), max(image.size)
    except Exception:  # Pillow's decoders raise anything; making its id says what is wrong
        return None


def _is_smaller(one: tuple[int, int], other: tuple[int, int]) -> bool:
    ratios = one[0] / one[1], other[0] / other[1]
    return one < other and abs(ratios[0] - ratios[1]) <= 0.05 * max(ratios)


def _look_alike(pairs: Sequence[tuple[Path, Path]]) -> bool:
    """Whether all pairs that can be read are of one image each, and there is one."""
    greys = [(_grey(one), _grey(other)) for one, other in pairs]
    known = [(a, b) for a, b in greys if a is not None and b is not None]
    return bool(known) and all(float(abs(a - b).mean()) <= _ALIKE for a, b in known)


def _grey(file: Path) -> NDArray[np.float32] | None:
    """An image's grey levels at 16 x 16; None where it cannot be read."""
    try:
        with image_files.opened(file) as image:
            grey = image.convert("L").resize((16, 16), Image.Resampling.BOX)
            return np.asarray(grey, dtype=np.float32)
    except Exception:  # as for `_sides`
        return None


def twins(files: Sequence[Path]) -> list[Path]:
    """Files that have the name of another one beside them, with another ending.

    Example:
        >>> twins([Path("dog/1.jpg"), Path("dog/1.png"), Path("dog/2.png"), Path("cat/1.jpg")])
        [PosixPath('dog/1.png')]
    """
    first = {file.with_suffix(""): file for file in reversed(files)}
    return [file for file in files if first[file.with_suffix("")] != file]


_Seen = tuple[str, Path | None, bool]
"""What would exclude a file, what it belongs to, and whether it looks like a mask."""


def _in_folder(file: PurePath) -> _Seen | None:
    for folder in file.parts[:-1]:
        if folder.casefold() in _FOLDERS:
            return folder, None, False
    return None


def _beside(file: Path, by_stem: dict[str, Path]) -> _Seen | None:
    """The original of a file by its name."""
    stem = file.stem
    behind, before = _BEHIND.match(stem), _BEFORE.match(stem)
    for match in (behind, before):
        original = by_stem.get(match["of"].casefold()) if match else None
        if match is None or original is None:
            continue
        mark = re.sub(r"\d+", "[0-9]*", match["mark"])
        start, end = match.span("mark")
        kept = f"*{stem[start - 1]}{mark}.*" if match is behind else f"{mark}{stem[end]}*"
        return kept, original, match["mask"] is not None
    return None
