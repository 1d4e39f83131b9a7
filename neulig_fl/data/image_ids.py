"""Content ids of images, kept in the cache folder: making one means decoding the image.

An id is looked up by the SHA-256 of the file's bytes. Names, sizes and times decide nothing: they
stay the same when a backup is restored or a folder is mounted anew with other images. Ids are made
again when Pillow has another version, because decoders of lossy formats differ in their last bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL

from neulig_fl.core import cache_folder
from neulig_fl.core import files as disk
from neulig_fl.data import image_files
from neulig_fl.data.images import Unreadable

OnImage = Callable[[int, int], None]
"""Called with (images done, all images)."""


def of_files(
    root: Path,
    files: Sequence[Path],
    make: Callable[[Path], str],
    on_image: OnImage = lambda done, total: None,
) -> tuple[list[str], list[Unreadable]]:
    """The ids of image files.

    Args:
        root: folder of all files; one file in the cache belongs to it.
        files: the images.
        make: makes the id of one image; raises `Unreadable`.
        on_image: told of progress.

    Returns:
        One id per file, in the order of `files`, empty for those that cannot be read; and these.
    """
    path = _place("files", str(root.resolve()))
    kept = _read(path)
    ids, failed, known = [], [], len(kept)
    for done, file in enumerate(files, start=1):
        content = _content(file, image_files.MOST_BYTES)
        found = kept.get(content) if content else None
        if not isinstance(found, str):
            try:
                found = make(file)
            except Unreadable as error:
                failed.append(error)
                found = ""
            else:
                kept |= {content: found} if content else {}
        ids.append(found)
        on_image(done, len(files))
    if len(kept) > known:
        disk.write_atomically(path, json.dumps(kept))
    return ids, failed


def of_set(
    what: str, root: Path, files: Sequence[Path], make: Callable[[], list[str]]
) -> list[str]:
    """The ids of images that lie together in a few large files.

    Args:
        what: the data set, and which of its images.
        root: folder of the files.
        files: on which the ids depend; without any, or where one cannot be read, nothing is kept.
        make: makes all ids.
    """
    contents = [_content(file) for file in files]
    path = _place("set", what, str(root.resolve()), *contents)
    keeps = bool(files) and all(contents)
    kept = _read(path).get("ids") if keeps else None
    if isinstance(kept, list):
        return [str(each) for each in kept]
    ids = make()
    if keeps:
        disk.write_atomically(path, json.dumps({"ids": ids}))
    return ids


def _place(*depends_on: str) -> Path:
    text = "\n".join((PIL.__version__, *depends_on))
    name = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
    return cache_folder.cache_dir() / "ids" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or damaged: made again
        return {}
    return found if isinstance(found, dict) else {}


def _content(file: Path, most: int | None = None) -> str:
    """SHA-256 of the bytes; empty for a file that is not read, and making its id says why.

    Args:
        file: a pipe or a device is not read: it need not end.
        most: bytes; a larger file is not read. None: any.
    """
    try:
        readable = file.is_file() and (most is None or file.stat().st_size <= most)
        return disk.sha256(file) if readable else ""
    except OSError:
        return ""
