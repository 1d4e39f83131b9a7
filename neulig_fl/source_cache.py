"""Where neulig-fl keeps what it can make again: images of built-in sources, experts, heads.

`NEULIG_CACHE` moves the folder. Files are written to a temporary name and renamed, so that a
killed run leaves no half-written file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from neulig_fl.files import replace_atomically, sha256, write_atomically


def cache_dir() -> Path:
    """The cache folder: `NEULIG_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("NEULIG_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("neulig-fl"))


def images(name: str, version: str, build: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The images of a built-in source, made once and kept with their hash.

    A file that is not what was written, by its hash, is made again.

    Args:
        name: the source's name.
        version: a hash of what the images depend on; another version is another file.
        build: makes the images, uint8 of shape (images, height, width, 3).

    Returns:
        The images, memory-mapped and read-only.
    """
    return _images(str(cache_dir()), name, version, build)


@cache
def _images(
    root: str, name: str, version: str, build: Callable[[], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    path = Path(root) / "sources" / f"{name}-{version}.npy"
    if not _is_whole(path):
        made = build()
        replace_atomically(path, lambda p: np.save(p, made, allow_pickle=False))
        write_atomically(_hash_file(path), sha256(path))
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether the file is there and is what was written; checked once in a process."""
    try:
        return _hash_file(path).read_text(encoding="utf-8") == sha256(path)
    except (OSError, UnicodeDecodeError):
        return False
