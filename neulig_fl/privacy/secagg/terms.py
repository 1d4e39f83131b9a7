"""The terms of one secure sum: what every party must hold to be the same before it takes part."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property

from neulig_fl.core.errors import InputError
from neulig_fl.privacy.secagg.fixed_point import FixedPoint
from neulig_fl.privacy.secagg.wire import Reader, pack_blob, pack_names

CHUNK_ENTRIES = 2**20
"""Entries of a chunk: 4 MiB on the wire."""
LEAST_CLIENTS = 3
MOST_CLIENTS = 2**12
MOST_CHUNK_ENTRIES = 2**26
_NUMBERS = struct.Struct(">HQddL")
_LABEL = b"neulig-fl secure-aggregation 1 terms"


def default_threshold(clients: int) -> int:
    """Two thirds of the clients, rounded up.

    Example:
        >>> [default_threshold(n) for n in (3, 5, 20, 100)]
        [2, 4, 14, 67]
    """
    return -(-2 * clients // 3)


def colluders(clients: int, threshold: int) -> int:
    """How many clients may work together with the server without learning another's vector.

    Two vectors of others must stay in the sum (threshold - 2), and two lists of survivors must
    not both find enough signatures (2 threshold - clients - 1).

    Args:
        clients: who are invited.
        threshold: how many of them must stay until the end.

    Example:
        >>> [colluders(n, default_threshold(n)) for n in (5, 20, 100)]
        [2, 7, 33]
    """
    return min(threshold - 2, 2 * threshold - clients - 1)


@dataclass(frozen=True)
class Terms:
    """What the parties of one secure sum agree on. Another sum has other terms.

    Every key, mask, share and signature is bound to `digest`, so parties with different terms
    cannot take part in the same sum.

    Args:
        context: what is summed: run, stage, kind, hash of the weights, whatever else must be the
            same for all; and what is never the same twice, such as the number of the attempt.
        clients: the names of all who are invited, sorted, 3 at least.
        threshold: how many clients must stay until the end; more than half.
        entries: numbers in each client's vector.
        clip: the largest |entry| of an unweighted vector.
        headroom: the largest sum of |weights|; 1 for convex combinations.
        chunk_entries: numbers that are masked and sent at once.

    Raises:
        InputError: a value that cannot be; the message says what is allowed.
    """

    context: bytes
    clients: tuple[str, ...]
    threshold: int
    entries: int
    clip: float
    headroom: float = 1.0
    chunk_entries: int = CHUNK_ENTRIES

    def __post_init__(self) -> None:
        n = len(self.clients)
        _require(LEAST_CLIENTS <= n <= MOST_CLIENTS, "clients", n, "3 to 4096 of them")
        in_order = list(self.clients) == sorted(set(self.clients))
        _require(in_order, "clients", "an unsorted list", "each name once, sorted")
        _require(all(0 < len(c.encode()) < 256 for c in self.clients), "clients", "a name that is "
                 "empty or too long", "names of 1 to 255 bytes")  # fmt: skip
        allowed = f"more than half of {n} clients, at most {n}"
        _require(n < 2 * self.threshold <= 2 * n, "threshold", self.threshold, allowed)
        _require(1 <= self.entries < 2**48, "entries", self.entries, "1 or more")
        in_range = 1 <= self.chunk_entries <= MOST_CHUNK_ENTRIES
        _require(in_range, "chunk_entries", self.chunk_entries, f"1 to {MOST_CHUNK_ENTRIES}")
        FixedPoint(self.clip, n, self.headroom)

    @property
    def fixed_point(self) -> FixedPoint:
        """The grid on which this sum is made."""
        return FixedPoint(self.clip, len(self.clients), self.headroom)

    @property
    def quantisation(self) -> float:
        """The largest error of one entry of the sum, if nobody drops out."""
        return len(self.clients) / self.fixed_point.scale

    @property
    def colluders(self) -> int:
        """`colluders` of these clients and this threshold."""
        return colluders(len(self.clients), self.threshold)

    @property
    def chunk_sizes(self) -> list[int]:
        """Entries of each chunk, in order."""
        whole, rest = divmod(self.entries, self.chunk_entries)
        return [self.chunk_entries] * whole + [rest] * (rest > 0)

    def to_bytes(self) -> bytes:
        """The terms in the one form that `digest` is of."""
        numbers = _NUMBERS.pack(
            self.threshold, self.entries, self.clip, self.headroom, self.chunk_entries
        )
        return pack_blob(self.context) + pack_names(self.clients) + numbers

    @staticmethod
    def read(reader: Reader) -> Terms:
        """The terms from what `to_bytes` gave.

        Raises:
            ValueError: they are malformed.
            InputError: they are no possible terms.
        """
        context, clients = reader.blob(), reader.names()
        threshold, entries, clip, headroom, chunk = _NUMBERS.unpack(reader.take(_NUMBERS.size))
        return Terms(context, clients, threshold, entries, clip, headroom, chunk)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the terms."""
        return hashlib.sha256(_LABEL + self.to_bytes()).digest()


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"secure sum: {field} is {value}; allowed: {allowed}")
