"""Bytes on the wire: fields with explicit lengths, and messages made of them.

A message says which fields it has, in their order, and is written and read by that. Whatever reads
raises ValueError with a plain text and nothing of the bytes themselves; the caller says whose
message it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, NamedTuple, Self

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


class Field(NamedTuple):
    """How a value is written and read; the digest of the terms is for messages within messages.

    Args:
        pack: value and digest in, bytes out.
        read: reader and digest in, value out.
    """

    pack: Callable[[Any, bytes], bytes]
    read: Callable[[Reader, bytes], Any]


def fixed(size: int) -> Field:
    """So many bytes."""
    return Field(lambda data, _: data, lambda reader, _: reader.take(size))


def _listed(one: Field, name: Callable[[Any], str]) -> Field:
    """A count, then as many values, sorted by a name that each has for itself."""

    def pack(values: tuple[Any, ...], terms: bytes) -> bytes:
        return pack_count(len(values)) + b"".join(one.pack(each, terms) for each in values)

    def read(reader: Reader, terms: bytes) -> tuple[Any, ...]:
        values = tuple(one.read(reader, terms) for _ in range(reader.count()))
        in_order([name(each) for each in values])
        return values

    return Field(pack, read)


def rows(*columns: Field) -> Field:
    """A list of tuples, each of which starts with its name."""

    def pack(row: tuple[Any, ...], terms: bytes) -> bytes:
        return b"".join(how.pack(each, terms) for how, each in zip(columns, row, strict=True))

    one = Field(pack, lambda reader, terms: tuple(how.read(reader, terms) for how in columns))
    return _listed(one, itemgetter(0))


def message(kind: type[Message]) -> Field:
    """A whole message, its length before it."""
    return Field(
        lambda made, terms: pack_blob(made.to_bytes(terms)),
        lambda reader, terms: kind.read(reader.blob(), terms),
    )


def messages(kind: type[Message]) -> Field:
    """A list of whole messages, each of another client."""
    return _listed(message(kind), attrgetter("client"))


NAME = Field(lambda name, _: pack_name(name), lambda reader, _: reader.name())
NAMES = Field(lambda names, _: pack_names(names), lambda reader, _: reader.names())
BYTE = Field(lambda number, _: bytes([number]), lambda reader, _: reader.take(1)[0])
KEY = fixed(KEY_BYTES)
SIGNATURE = Field(lambda data, _: pack_blob(data), lambda r, _: read_signature(r))


@dataclass(frozen=True)
class Message:
    """What all messages share: each is a dataclass with one entry of FIELDS for each field."""

    KIND: ClassVar[bytes]
    """One byte, which no other message has."""
    FIELDS: ClassVar[tuple[Field, ...]]

    def packed(self, terms: bytes) -> list[bytes]:
        """The bytes of each field."""
        values = [getattr(self, own.name) for own in fields(self)]
        return [how.pack(each, terms) for how, each in zip(self.FIELDS, values, strict=True)]

    def to_bytes(self, terms: bytes) -> bytes:
        """The message under the terms with this digest."""
        return head(self.KIND, terms) + b"".join(self.packed(terms))

    @classmethod
    def read(cls, data: bytes, terms: bytes) -> Self:
        """The message in some bytes."""
        reader = body(data, cls.KIND, terms)
        made = cls(*(how.read(reader, terms) for how in cls.FIELDS))
        reader.end()
        return made
