"""Bytes on the wire: names, lists and blobs with explicit lengths, and a reader that checks them.

A reader raises ValueError with a plain text and nothing of the bytes themselves; who reads says
whose message it was.
"""

from __future__ import annotations

from collections.abc import Sequence

DIGEST_BYTES = 32
KEY_BYTES = 32
_MAGIC = b"NLSS1"
_MOST_SIGNATURE = 1024


def pack_count(count: int) -> bytes:
    """Two bytes, big-endian."""
    return count.to_bytes(2, "big")


def pack_name(name: str) -> bytes:
    """One byte of length, then UTF-8.

    Example:
        >>> Reader(pack_name("ada")).name()
        'ada'
    """
    data = name.encode()
    return len(data).to_bytes(1, "big") + data


def pack_names(names: Sequence[str]) -> bytes:
    """Two bytes of count, then the names."""
    return pack_count(len(names)) + b"".join(pack_name(name) for name in names)


def pack_blob(data: bytes) -> bytes:
    """Four bytes of length, then the bytes."""
    return len(data).to_bytes(4, "big") + data


class Reader:
    """Reads what the functions above wrote; every method raises ValueError where bytes are wrong.

    Args:
        data: one message.
    """

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise ValueError(f"it ends after {len(self._data)} bytes, in the middle of a field")
        taken, self._at = self._data[self._at : end], end
        return taken

    def count(self) -> int:
        """A count of two bytes."""
        return int.from_bytes(self.take(2), "big")

    def blob(self) -> bytes:
        """Bytes with their length before them."""
        return self.take(int.from_bytes(self.take(4), "big"))

    def name(self) -> str:
        """A name of 1 to 255 bytes."""
        data = self.take(self.take(1)[0])
        try:
            name = data.decode()
        except UnicodeDecodeError:
            raise ValueError("a name in it is not UTF-8") from None
        if not name:
            raise ValueError("a name in it is empty")
        return name

    def names(self) -> tuple[str, ...]:
        """A list of names, sorted, each once."""
        return in_order([self.name() for _ in range(self.count())])

    def end(self) -> None:
        """Nothing may follow."""
        left = len(self._data) - self._at
        if left:
            raise ValueError(f"{left} bytes follow its end")


def in_order(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if they are sorted and each stands there once: a list has one form only."""
    if list(names) != sorted(set(names)):
        raise ValueError("a list of names in it is unsorted or holds a name twice")
    return tuple(names)


def head(kind: bytes, terms: bytes) -> bytes:
    """How a message starts: its kind, and the digest of the terms."""
    return _MAGIC + kind + terms


def body(data: bytes, kind: bytes, terms: bytes) -> Reader:
    """What follows the head, if the head is right."""
    reader = Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.take(1) != kind:
        raise ValueError("it is no such message")
    if reader.take(DIGEST_BYTES) != terms:
        raise ValueError(
            "it was made under other terms (context, clients, threshold, size or clip)"
        )
    return reader


def read_signature(reader: Reader) -> bytes:
    """A signature, of no more bytes than any scheme needs."""
    signature = reader.blob()
    if len(signature) > _MOST_SIGNATURE:
        raise ValueError(f"a signature in it has {len(signature)} bytes, over {_MOST_SIGNATURE}")
    return signature
