"""Sets of images known by their content: which of them share an image, whatever they are called.

Vectors of answers to the same images tell of one another, so a client has to know that two query
sets overlap. A set is named by a digest of its images' content ids; its members are kept beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger import key_store

ANY = "*"
"""Images that are not known by content: they may be any."""

_MEMBER_BYTES = 8
_FOLDER = "images"


class ImageSets:
    """What a client knows of the query sets that it answered within sums.

    Args:
        root: the client's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / _FOLDER
        self._members = cache(self._read)

    def remember(self, ids: Iterable[str]) -> str:
        """The name of a set, whose members are on the disk on return.

        Args:
            ids: content ids; their order and how often they come do not matter.
        """
        name, members = _described(ids)
        path = self._folder / name
        if not path.is_file():
            key_store.private_folder(self._folder)
            write_atomically(path, members, PRIVATE)
        return name

    def overlap(self, first: str, second: str) -> bool:
        """Whether two sets may share an image; of a set that is not known nobody can tell.

        Args:
            first: the name of a set, or `ANY`.
            second: likewise.
        """
        if first == second or ANY in (first, second):
            return True
        one, other = self._members(first), self._members(second)
        return one is None or other is None or not one.isdisjoint(other)

    def _read(self, name: str) -> frozenset[bytes] | None:
        try:
            data = (self._folder / Path(name).name).read_bytes()
        except OSError:
            return None
        parts = range(0, len(data), _MEMBER_BYTES)
        found = frozenset(data[at : at + _MEMBER_BYTES] for at in parts)
        return found if _name(sorted(found)) == name else None


def named(ids: Iterable[str]) -> str:
    """The name of a set of images, 128 bits in hex.

    Args:
        ids: content ids; their order and how often they come do not matter.

    Example:
        >>> named(["a", "b"]) == named(["b", "a", "a"])
        True
    """
    return _described(ids)[0]


def _described(ids: Iterable[str]) -> tuple[str, bytes]:
    members = sorted({hashlib.sha256(each.encode()).digest()[:_MEMBER_BYTES] for each in ids})
    return _name(members), b"".join(members)


def _name(members: list[bytes]) -> str:
    return hashlib.sha256(b"".join(members)).hexdigest()[:32]
