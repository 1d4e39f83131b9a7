"""Reading a file that others may have made: a regular one, opened without waiting, of bounded size.

In a folder that somebody else hands over, a name can stand for a pipe, on which reading waits for
ever, for a device that never ends, or for a file larger than memory.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from neulig_fl.core.errors import InputError

MOST_BYTES = 2**30
"""Of a file that is read whole; no run writes one that comes near it."""


def opened(path: Path) -> BufferedReader:
    """A regular file, opened to read; a link to one counts as one.

    Args:
        path: where.

    Raises:
        InputError: it is a pipe, a device or a socket.
        OSError: it is not there, is a folder, or cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise InputError(
                f"{path}: is a pipe or a device, and only regular files are read there; replace it"
            )
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: where.
        most: bytes that it may hold.

    Raises:
        InputError: as `opened`; or it holds more.
        OSError: as `opened`; or it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "a").write_bytes(b"four")
        ...     read(Path(folder) / "a")
        b'four'
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(most + 1)
    if max(size, len(content)) > most:
        raise InputError(f"{path}: has {size} bytes, and at most {most} are read; check the file")
    return content
