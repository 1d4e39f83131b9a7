"""Files that are whole or not there: written beside their place, synced, then moved into it.

What is being written lies in a folder of its own, which its process holds locked. A process that is
killed leaves that folder behind, and its lock is gone with it: so `sweep` can tell.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neulig_fl.core import regular_files
from neulig_fl.core.errors import RunError

PRIVATE = 0o600
"""Mode of a file that is its owner's alone."""

_PART = re.compile(r"\.[0-9a-f]{12}\.part")
"""Names of folders in which a file is being written."""


def replace_atomically(
    path: Path, write: Callable[[Path], object], mode: int | None = None
) -> Path:
    """Make a file with a writer of one's own, whole or not at all.

    Args:
        path: where the file is to be; missing folders are made.
        write: writes the temporary file that it is given, in a folder that is its owner's alone,
            and of the same name.
        mode: of the file, such as `PRIVATE`; None: what the writer gives it.

    Returns:
        `path`.

    Raises:
        RunError: the file cannot be written (no space, no permission); no temporary file is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part(path) as temporary:
            write(temporary)
            if mode is not None:
                temporary.chmod(mode)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written ({error.strerror or error}); free space there, or choose "
        "another folder (--out for results, NEULIG_CACHE for the cache), then run again",
        public_reason="it cannot write to its disk",
    )


def write_atomically(path: Path, content: str | bytes, mode: int | None = None) -> Path:
    """Write a file so that a reader, a crash or a full disk never meets half of it.

    The content goes to a temporary file beside it, is synced, and replaces `path` in one step.
    Missing folders are made. What stood at `path` stays until the new content is safe.

    Args:
        path: where the file is to be.
        content: text (written as UTF-8) or bytes.
        mode: of the file, such as `PRIVATE`; None: as the umask says.

    Returns:
        `path`.

    Raises:
        RunError: the file cannot be written (no space, no permission); no temporary file is left.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "seed-7" / "report.md", "# Report").read_text()
        '# Report'
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    return replace_atomically(path, lambda temporary: temporary.write_bytes(data), mode)


def open_privately(path: Path, how: str, **more: Any) -> IO[Any]:
    """Open a file to write to it; one that is made is its owner's alone from the first moment."""
    return open(path, how, opener=lambda name, flags: os.open(name, flags, PRIVATE), **more)


@contextmanager
def appending(path: Path) -> Iterator[IO[str]]:
    """Open a file of one's own to add text to its end, such as a log.

    Args:
        path: made, for its owner alone, where it is not there.

    Raises:
        RunError: it cannot be written (no space, no permission): the system's own error of a full
            disk names no file.
    """
    try:
        with open_privately(path, "a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def part(path: Path) -> Iterator[Path]:
    """A place for what is to become a file, on the same disk; nothing is left of it afterwards.

    Args:
        path: where the file is to be; its folder is there.

    Raises:
        OSError: nothing can be made there.
    """
    folder, held = held_folder(path.parent, lambda: f".{secrets.token_hex(6)}.part")
    try:
        yield folder / path.name
    finally:
        with contextlib.suppress(OSError):
            (folder / path.name).unlink(missing_ok=True)
            folder.rmdir()
        os.close(held)


def held_folder(parent: Path, name: Callable[[], str]) -> tuple[Path, int]:
    """Make a folder that is its owner's alone, and that `sweep` leaves while this process lives.

    Args:
        parent: where; it is there.
        name: draws a name, at random.

    Returns:
        The folder, and the handle to close when it is no longer needed.

    Raises:
        OSError: nothing can be made there.
    """
    while True:
        folder = parent / name()
        folder.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # swept before it was held
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            with contextlib.suppress(
                OSError
            ):  # a file system without locks, where nothing is swept
                fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                return folder, held
            os.close(held)


def sweep(
    folder: Path,
    names: re.Pattern[str] = _PART,
    in_use: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Remove what killed processes left half-written in a folder; what another writes now stays.

    Args:
        folder: need not be there; folders in it are not looked into.
        names: of what `held_folder` made.
        in_use: whether somebody else than its maker still needs a folder.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if names.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _remove_if_left(Path(entry.path), in_use)


def _remove_if_left(folder: Path, in_use: Callable[[Path], bool]) -> None:
    with contextlib.suppress(OSError):
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # or somebody is at work in it
            if os.fstat(held).st_uid == os.geteuid() and not in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(held)


def sync_folder(folder: Path) -> None:
    """Make the new name itself durable; some systems cannot open a folder, which is no failure."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a regular file of any size, read in parts."""
    with regular_files.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
