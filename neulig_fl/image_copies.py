"""Files that look like smaller copies of images beside them: thumbnails, previews, web sizes.

A copy in another size has other pixels and so an id of its own; with its original in a training
half, an evaluated copy would be known. A name proves nothing, so such files are a question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

_FOLDERS = frozenset(
    {
        "thumb", "thumbs", "thumbnail", "thumbnails", "_thumb", "_thumbs", "_thumbnails", "preview",
        "previews", "resized",
    }
)  # fmt: skip
_MARKS = r"thumbs?|thumbnails?|tn|small|preview|resized|min|scaled|lowres|low_res"
_BEHIND = re.compile(
    rf"^(?P<of>.+?)[-_. ](?P<mark>{_MARKS}|\d{{2,4}}x\d{{2,4}}|@\dx)$", re.IGNORECASE
)
_BEFORE = re.compile(rf"^(?P<mark>{_MARKS})[-_. ](?P<of>.+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Suspects:
    """Files that look like copies for one reason.

    Args:
        pattern: what would exclude them.
        example: one of them.
        original: what it looks like a copy of; None: its folder's name says it.
        count: how many.
    """

    pattern: str
    example: Path
    original: Path | None
    count: int


def suspects(root: Path, files: Sequence[Path]) -> list[Suspects]:
    """Files that look like smaller copies, by what would exclude them.

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
            pattern, original = seen
            before = found.get(pattern, Suspects(pattern, file, original, 0))
            found[pattern] = Suspects(pattern, before.example, before.original, before.count + 1)
    return list(found.values())


def twins(files: Sequence[Path]) -> list[Path]:
    """Files that have the name of another one beside them, with another ending.

    Example:
        >>> twins([Path("dog/1.jpg"), Path("dog/1.png"), Path("dog/2.png"), Path("cat/1.jpg")])
        [PosixPath('dog/1.png')]
    """
    first = {file.with_suffix(""): file for file in reversed(files)}
    return [file for file in files if first[file.with_suffix("")] != file]


def _in_folder(file: PurePath) -> tuple[str, Path | None] | None:
    for folder in file.parts[:-1]:
        if folder.casefold() in _FOLDERS:
            return folder, None
    return None


def _beside(file: Path, by_stem: dict[str, Path]) -> tuple[str, Path | None] | None:
    """The original of a file by its name, and the pattern of its mark."""
    stem = file.stem
    behind, before = _BEHIND.match(stem), _BEFORE.match(stem)
    for match in (behind, before):
        original = by_stem.get(match["of"].casefold()) if match else None
        if match is None or original is None:
            continue
        mark = re.sub(r"\d+", "[0-9]*", match["mark"])
        start, end = match.span("mark")
        kept = f"*{stem[start - 1]}{mark}.*" if match is behind else f"{mark}{stem[end]}*"
        return kept, original
    return None
