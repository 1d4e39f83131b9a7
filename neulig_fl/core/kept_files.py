"""Files that say by themselves whether they are whole: a line of JSON and bytes, under their hash.

A file is three lines and then bytes: what it is, the SHA-256 of all that follows, a JSON object,
the payload. So one that was cut or changed is told from a whole one, also where no index knows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, replace_atomically

_FIRST = b"neulig-fl kept 1"
_DIGITS = 64


def write(path: Path, said: Mapping[str, Any], payload: bytes | memoryview = b"") -> str:
    """Write a file that is its owner's alone, whole or not at all.

    Args:
        path: where.
        said: what it says, JSON-serialisable.
        payload: bytes that go with it.

    Returns:
        Its SHA-256, hex.

    Raises:
        RunError: the disk refuses.
    """
    line = json.dumps(said, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    digest = hashlib.sha256(line)
    digest.update(payload)

    def parts(place: Path) -> None:
        with place.open("wb") as file:
            file.write(_FIRST + b"\n" + digest.hexdigest().encode() + b"\n" + line)
            file.write(payload)

    replace_atomically(path, parts, PRIVATE)
    return digest.hexdigest()


def read(path: Path, digest: str | None = None) -> tuple[dict[str, Any], memoryview]:
    """What `write` wrote.

    Args:
        path: where.
        digest: that it must have, where that is known.

    Raises:
        InputError: it is not there, or was cut or changed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "a"
        ...     said = write(file, {"rows": 2}, b"ab")
        ...     read(file)[0], bytes(read(file, said)[1])
        ({'rows': 2}, b'ab')
    """
    try:
        with regular_files.opened(path) as file:
            content = memoryview(file.read())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    start = len(_FIRST) + _DIGITS + 2
    first, _, said = bytes(content[: start - 1]).partition(b"\n")
    rest = content[start:]
    found = hashlib.sha256(rest).hexdigest()
    if first != _FIRST or said.decode(errors="replace") != found or digest not in (None, found):
        raise InputError(f"{path}: was cut or changed since the run wrote it")
    end = _line_end(rest)
    try:
        header = strict_json.parsed(bytes(rest[:end]))
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{path}: is not as a run writes it")
    return header, rest[end + 1 :]


def digest(path: Path) -> str:
    """The SHA-256 that a file says of itself; nothing of it is checked."""
    with regular_files.opened(path) as file:
        return file.read(len(_FIRST) + _DIGITS + 1).decode(errors="replace")[len(_FIRST) + 1 :]


def _line_end(rest: memoryview) -> int:
    """Where the first line ends, or all; a payload of any size is not copied for that."""
    size = 4096
    while (end := bytes(rest[:size]).find(b"\n")) < 0 and size < len(rest):
        size *= 8
    return end if end >= 0 else len(rest)
