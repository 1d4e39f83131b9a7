"""Files that are whole or not there: written beside their place, synced, then moved into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from neulig_fl.errors import RunError


def replace_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Make a file with a writer of one's own, whole or not at all.

    Args:
        path: where the file is to be; missing folders are made.
        write: writes the temporary file that it is given, in the same folder and with the same
            ending.

    Returns:
        `path`.

    Raises:
        RunError: the file cannot be written (no space, no permission); no temporary file is left.
    """
    temporary = path.with_name(f".{secrets.token_hex(6)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); free space there, or choose "
            "another folder (--out for results, NEULIG_CACHE for the cache), then run again",
            public_reason="it cannot write to its disk",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file so that a reader, a crash or a full disk never meets half of it.

    The content goes to a temporary file in the same folder, is synced, and replaces `path` in one
    step. Missing folders are made. What stood at `path` stays until the new content is safe.

    Args:
        path: where the file is to be.
        content: text (written as UTF-8) or bytes.

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
    return replace_atomically(path, lambda part: part.write_bytes(data))


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable; some systems cannot open a folder, which is no failure."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
