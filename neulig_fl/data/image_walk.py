"""A folder walked for its images: which are taken, and what is left out, counted by reason.

Links to folders are followed, but not back into a folder above. What a system keeps for itself and
hidden files are left out; what is meant to be an image and cannot be reached is an error.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from neulig_fl.core.errors import DataError, plain
from neulig_fl.data import image_files, images

SHOWN = 3
"""Most names in one error."""

SYSTEM = frozenset(
    {
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "__macosx",
        "lost+found", "$recycle.bin", "system volume information", "__pycache__", "desktop.ini",
        "thumbs.db", "ehthumbs.db",
    }
)  # fmt: skip
"""Names, in lower case, of what systems and network drives keep beside a user's files."""

HIDDEN = "hidden"
BY_SYSTEM = "kept there by a system or a network drive"
EXCLUDED = "named by `exclude`"
NO_CLASS = "in no class folder"
NO_PART = "in no part that `train_splits` and `test_splits` name"
OTHER_FORMAT = "of a format that is not read: convert to PNG or JPEG"
NO_ENDING = "images by their content, without the ending of one: rename them"
NO_IMAGE = "other files"
NO_FILE = "no regular files"
LOOP = "links to a folder above them"
TWICE = "links to a folder that is read already"

LINKED = "reached by links"
NESTED = "in subfolders of a class folder"


@dataclass
class Tally:
    """Counts by reason, each with the first example."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Count something; nothing where the count is 0."""
        if count:
            self.counts[reason] = self.counts.get(reason, 0) + count
            self.examples.setdefault(reason, example)

    def sentences(self) -> list[str]:
        """One phrase a reason, as `3 hidden (dog/.x.png)`."""
        return [f"{count} {why} ({self.examples[why]})" for why, count in self.counts.items()]


@dataclass
class Walk:
    """Walks below one root.

    Args:
        root: every path in words starts from here.
        exclude: patterns of the user's.
    """

    root: Path
    exclude: Sequence[str] = ()
    left_out: Tally = field(default_factory=Tally)
    taken: Tally = field(default_factory=Tally)
    unreachable: list[str] = field(default_factory=list)
    matched: set[str] = field(default_factory=set)

    def name(self, path: Path) -> str:
        """A path in words, from the root on; what is no text is escaped."""
        words = path.relative_to(self.root).as_posix() if path != self.root else "."
        return plain(words)

    def folders(self, folder: Path) -> dict[str, Path]:
        """Folders in a folder by NFC name, sorted; nothing is counted.

        Raises:
            DataError: two names are the same but for the way in which accents are written.
        """
        found: dict[str, Path] = {}
        for path, kind in Walk(self.root, self.exclude)._entries(folder):
            if stat.S_ISDIR(kind):
                name = composed(path.name)
                if name in found:
                    raise DataError(
                        f"imagefolder {plain(folder)}: two folders read as {name!r}, their accents "
                        "written in two ways; move the images of one into the other",
                        public_reason="two folders of its image folder have the same name",
                    )
                found[name] = path
        return dict(sorted(found.items()))

    def count_beside(self, folder: Path, reason: str) -> None:
        """Count what lies in a folder and is no folder that counts: images, for a reason."""
        for path, kind in self._entries(folder):
            if not stat.S_ISDIR(kind):
                self.left_out.add(reason, self.name(path), int(_is_image(path)))

    def images(self, folder: Path) -> list[Path]:
        """Image files of a class folder and of its subfolders, sorted by path."""
        above = _identities(folder, self.root)
        return sorted(self._images(folder, folder, above, folder.is_symlink(), set()))

    def _images(
        self,
        top: Path,
        folder: Path,
        above: frozenset[_Identity],
        linked: bool,
        seen: set[_Identity],
    ) -> Iterator[Path]:
        for path, kind in self._entries(folder):
            if stat.S_ISDIR(kind):
                own = _identity(path)
                if own in above or own in seen:
                    self.left_out.add(LOOP if own in above else TWICE, self.name(path))
                    continue
                seen.add(own)
                through = linked or path.is_symlink()
                yield from self._images(top, path, above | {own}, through, seen)
            elif self._is_taken(path, kind):
                if linked or path.is_symlink():
                    self.taken.add(LINKED, self.name(path))
                elif folder != top:
                    self.taken.add(NESTED, self.name(path))
                yield path

    def _is_taken(self, path: Path, kind: int) -> bool:
        """Whether a file is an image by its ending; why not is counted."""
        if not stat.S_ISREG(kind):
            why = NO_FILE
        elif images.is_readable(path.name):
            return True
        elif images.is_other_format(path.name):
            why = OTHER_FORMAT
        else:
            why = NO_ENDING if images.starts_as_image(path) else NO_IMAGE
        self.left_out.add(why, self.name(path))
        return False

    def _entries(self, folder: Path) -> Iterator[tuple[Path, int]]:
        """What counts in a folder, sorted by name: paths and kinds (links are followed)."""
        try:
            names = sorted(entry.name for entry in os.scandir(folder))
        except OSError as error:
            self.unreachable.append(f"{self.name(folder)}/ ({image_files.why(error)})")
            return
        for name in names:
            path = folder / name
            why = self._why_not(path)
            if why is not None:
                self.left_out.add(why, self.name(path), images_below(path))
                continue
            try:
                kind = path.stat().st_mode
            except OSError as error:
                lost = path.is_symlink() and isinstance(error, FileNotFoundError)
                words = "a link to nothing" if lost else image_files.why(error)
                self.unreachable.append(f"{self.name(path)} ({words})")
                continue
            yield path, kind

    def _why_not(self, path: Path) -> str | None:
        name, whole = map(composed, (path.name, path.relative_to(self.root).as_posix()))
        if name.casefold() in SYSTEM:
            return BY_SYSTEM
        if name.startswith("."):
            return HIDDEN
        for pattern in self.exclude:
            wanted = composed(pattern.rstrip("/"))
            if fnmatchcase(name, wanted) or fnmatchcase(whole, wanted):
                self.matched.add(pattern)
                return EXCLUDED
        return None

    def require_reached(self) -> None:
        """Refuse a folder of which something could not be reached.

        Raises:
            DataError: with the names and reasons of the first.
        """
        if not self.unreachable:
            return
        more = len(self.unreachable) - SHOWN
        shown = ", ".join(self.unreachable[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        raise DataError(
            f"imagefolder {plain(self.root)}: {len(self.unreachable)} files or folders cannot be "
            f"reached: {shown}; mend or remove them, or leave them out with `exclude`",
            public_reason="something in its image folder cannot be reached",
        )

    def leave(self, reason: str, path: Path) -> None:
        """Count the images of a file or folder that is not walked."""
        self.left_out.add(reason, self.name(path), images_below(path))


def composed(name: str) -> str:
    r"""A name with its accents written in one way (NFC): file systems and keyboards differ.

    Example:
        >>> composed("e\u0301te") == composed("\xe9te")
        True
    """
    return unicodedata.normalize("NFC", name)


_Identity = tuple[int, int]


def _identity(path: Path) -> _Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def _identities(folder: Path, root: Path) -> frozenset[_Identity]:
    """A folder and the folders above it, up to the root and where the root really lies."""
    real = folder.resolve()
    return frozenset(map(_identity, [folder, root, *real.parents]))


def _is_image(path: Path) -> bool:
    return images.is_readable(path.name) or images.is_other_format(path.name)


def images_below(path: Path) -> int:
    """How many images by name a file or folder is or holds; links to folders are not followed."""
    if not path.is_dir():
        return int(_is_image(path))
    if path.is_symlink():
        return 1
    files = (Path(name) for _, _, names in os.walk(path) for name in names)
    return sum(map(_is_image, files))
