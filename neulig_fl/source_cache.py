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

from neulig_fl.files import replace_atomically


def cache_dir() -> Path:
    """The cache folder: `NEULIG_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("NEULIG_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("neulig-fl"))


def images(name: str, version: str, build: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The images of a built-in source, made once and kept.

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
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError):
        made = build()
    replace_atomically(path, lambda p: np.save(p, made, allow_pickle=False))
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
