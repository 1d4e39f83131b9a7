"""Where neulig-fl keeps what it can make again: images of built-in sources, experts, a script.

`NEULIG_CACHE` moves the folder. Files are written to a temporary name and renamed, so that a
killed run leaves no half-written file.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.files import PRIVATE, replace_atomically, sha256, sweep, write_atomically

VARIABLE = "NEULIG_CACHE"
"""The environment variable that names the cache folder."""


def cache_dir() -> Path:
    """The cache folder: `NEULIG_CACHE`, else the user's cache folder, else a temporary one.

    The last serves users whose home is not there or cannot be written to, as in many containers.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 (never raises)
    usual = Path(platformdirs.user_cache_dir("neulig-fl"))
    return usual if usual.is_absolute() and _can_be_made(usual) else _temporary()


def _can_be_made(folder: Path) -> bool:
    """Whether it is there, or can be made in a folder for caches in a home that is there."""
    for each in (folder, folder.parent, folder.parent.parent):
        if os.path.lexists(each):
            return each.is_dir() and os.access(each, os.W_OK | os.X_OK)
    return False


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"neulig-fl-{os.getuid()}"


def _is_own(folder: Path) -> bool:
    """Whether a folder among everybody's is this user's, and no link to somewhere else."""
    return not folder.is_symlink() and folder.stat().st_uid == os.getuid()


def require_writable() -> Path:
    """The cache folder, after a file was written there and what killed processes left was removed.

    Raises:
        InputError: it cannot be made or written to, or another user made the temporary one.
    """
    folder = cache_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder == _temporary() and not _is_own(folder):
            raise PermissionError(errno.EPERM, "it belongs to another user")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"neulig-fl")
        for each in (folder, *folder.iterdir()):
            sweep(each)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        whose = f"{VARIABLE} names it" if os.environ.get(VARIABLE) else "the user's cache folder"
        raise InputError(
            f"cache folder {folder}: cannot be used ({why}; {whose}); "
            f"set {VARIABLE} to a folder that can be written to"
        ) from error
    return folder


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


def script(name: str, version: str, build: Callable[[], str]) -> str:
    """A script that takes seconds to make, kept with its hash; made again where it cannot be kept.

    Args:
        name: of the script.
        version: of what makes it; another version is another file.
        build: makes it.
    """
    root = cache_dir()
    path = root / "scripts" / f"{name}-{version}.js"
    places = (root, path.parent, path, _hash_file(path))
    with suppress(OSError, UnicodeDecodeError):
        if all(map(_only_own, places)) and _is_whole(path):
            return path.read_text(encoding="utf-8")
    made = build()
    with suppress(RunError):
        write_atomically(path, made, PRIVATE)
        write_atomically(_hash_file(path), sha256(path), PRIVATE)
    return made


def _only_own(path: Path) -> bool:
    """Whether nobody else can have written a file, which pages run, or into its folder."""
    found = path.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    mine = found.st_uid == os.geteuid() and not found.st_mode & others
    return mine and not stat.S_ISLNK(found.st_mode)


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether the file is there and is what was written; checked once in a process."""
    try:
        return _hash_file(path).read_text(encoding="utf-8") == sha256(path)
    except (OSError, UnicodeDecodeError):
        return False
