"""Folders whose content is believed: their owner's alone, and so is the way to them.

What lies in a client's store or beside its keys is believed when it is read: what was released, who
the server is, which sums are known. So a folder is refused that another user owns, can enter, or
can put another in the place of. Root is trusted, as the system is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from neulig_fl.core.errors import InputError, plain

ENTER, WRITE = 0o077, 0o022
"""Bits of a folder's mode: others can do anything with it; others can change what is in it."""


def make_way(folder: Path) -> None:
    """Make the folders above one that are not there; nobody else can write to them.

    Pathlib's `parents=True` would give them whatever the umask leaves.
    """
    for above in reversed(folder.parents):
        if not above.exists():
            above.mkdir(mode=0o755, exist_ok=True)


def require_private(folder: Path, what: str, forbidden: int = ENTER) -> None:
    """Refuse a folder that others own or have a hand in, and one that they can replace.

    Args:
        folder: is there.
        what: it is called, such as `store`.
        forbidden: the bits that its mode must not have.

    Raises:
        InputError: with what is wrong, and how it is mended.
    """
    for link in _links(folder):
        _require_owner(link, f"{what} {plain(folder)}: the symbolic link {plain(link)}", what)
    _require_owner(folder.resolve(), f"{what} {plain(folder)}", what)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & forbidden:
        deed = "write to" if mode & WRITE else "enter"
        least = "0700" if forbidden == ENTER else "0700 to 0755"
        raise InputError(
            f"{what} {plain(folder)}: others can {deed} it (mode {mode:04o}); allowed: {least}; "
            f"run `chmod 700 {plain(folder)}`, and look whether what is in it is still yours",
            public_reason=f"others can {deed} its {what}",
        )
    require_firm(folder, what)
    for each in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process is at work in it
            _require_owner(each, f"{what} {plain(folder)}: {plain(each.name)} in it", what)


def _links(path: Path) -> Iterator[Path]:
    """The symbolic links on the way to what is there, and on their ways."""
    whole = path.absolute()
    for each in (*reversed(whole.parents), whole):
        if each.is_symlink():
            yield each
            yield from _links(each.parent / each.readlink())


def _require_owner(path: Path, who: str, what: str) -> None:
    """Refuse what another user made; of a link, who made the link counts."""
    found = path.lstat() if path.is_symlink() else path.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise InputError(
            f"{who} belongs to user {found.st_uid}, and this runs as user {os.geteuid()}; choose a "
            f"folder of your own, or run as its owner",
            public_reason=f"its {what} belongs to another user",
        )


def require_firm(folder: Path, what: str) -> None:
    """Refuse a way to a folder on which anybody can move it aside."""
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise InputError(
                f"{what} {plain(folder)}: anybody can put another in its place, because "
                f"{plain(above)} has mode {stat.S_IMODE(mode):04o}; choose a folder elsewhere, or "
                f"run `chmod o-w {plain(above)}`",
                public_reason=f"anybody can replace its {what}",
            )
