"""Content ids of pictures, kept in the cache folder: making one means decoding the picture.

An id is made again when its file has another size or time of change, or when Pillow has another
version, because decoders of lossy formats differ in their last bits. A file that changed a moment
ago may change again within the clock's resolution, so its id is not kept yet.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL

from neulig_fl import source_cache
from neulig_fl.files import write_atomically

FRESH_SECONDS = 2.0
"""How long after its last change a file's id is not kept."""

_Stamp = tuple[int, int]


def of_files(root: Path, files: Sequence[Path], make: Callable[[Path], str]) -> list[str]:
    """The ids of picture files.

    Args:
        root: folder of all files; one file in the cache belongs to it.
        files: the pictures.
        make: makes the id of one picture.

    Returns:
        One id per file, in the order of `files`.
    """
    path = _place("files", str(root.resolve()))
    kept = _read(path)
    ids, new, begun = [], {}, time.time()
    for file in files:
        name, stamp = file.relative_to(root).as_posix(), _stamp(file)
        entry = kept.get(name)
        if not (isinstance(entry, list) and entry[:2] == [*stamp]):
            entry = [*stamp, make(file)]
            if _settled(stamp, begun):
                new[name] = entry
        ids.append(str(entry[2]))
    if new:
        write_atomically(path, json.dumps({**kept, **new}))
    return ids


def of_set(
    what: str, root: Path, files: Sequence[Path], make: Callable[[], list[str]]
) -> list[str]:
    """The ids of pictures that lie together in a few large files.

    Args:
        what: the data set, and which of its pictures.
        root: folder of the files.
        files: on which the ids depend; without any, nothing is kept.
        make: makes all ids.
    """
    stamps = [_stamp(file) for file in files]
    path = _place("set", what, str(root.resolve()), *map(str, stamps))
    kept = _read(path).get("ids")
    if files and isinstance(kept, list):
        return [str(each) for each in kept]
    begun, ids = time.time(), make()
    if files and all(_settled(stamp, begun) for stamp in stamps):
        write_atomically(path, json.dumps({"ids": ids}))
    return ids


def _place(*depends_on: str) -> Path:
    text = "\n".join((PIL.__version__, *depends_on))
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return source_cache.cache_dir() / "ids" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or damaged: made again
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(file: Path) -> _Stamp:
    """Size and time of change; of a file that cannot be found none, and making its id says so."""
    try:
        status = file.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _settled(stamp: _Stamp, now: float) -> bool:
    return stamp[1] / 1e9 < now - FRESH_SECONDS
