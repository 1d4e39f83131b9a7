"""The running sum: words of whole vectors, added modulo 2^32, and opened chunk by chunk."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import RunError
from neulig_fl.privacy.secagg import masks
from neulig_fl.privacy.secagg.fixed_point import WORD
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.terms import Terms

Payload = bytes | bytearray | memoryview


class RunningSum:
    """The sum of the vectors added so far, still masked: 4 bytes an entry.

    Args:
        terms: of the sum.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._words = np.zeros(terms.entries, WORD)

    def add(self, payload: Payload) -> None:
        """Add a whole vector.

        Raises:
            ValueError: another size than 4 bytes an entry; nothing is added.
        """
        _require_size(memoryview(payload).nbytes, self._words.nbytes, "bytes")
        self._add(0, payload)

    def add_chunks(self, chunks: Iterable[Payload], folder: Path | None) -> None:
        """Add a vector in chunks, which lie in a file until all are there.

        Raises:
            ValueError: other chunks than the terms say; nothing is added.
            RunError: the file cannot be written; nothing is added.
        """
        sizes = [size * WORD.itemsize for size in self._terms.chunk_sizes]
        with _file(folder) as file:
            count = 0
            for chunk in chunks:
                allowed = sizes[count] if count < len(sizes) else 0
                _require_size(memoryview(chunk).nbytes, allowed, "bytes in a chunk")
                with _writing():
                    file.write(chunk)
                count += 1
            _require_size(count, len(sizes), "chunks")
            with _writing():
                file.seek(0)
            for index, size in enumerate(sizes):
                self._add(index * self._terms.chunk_entries, file.read(size))

    def opened(self, left: Sequence[Mask]) -> Iterator[NDArray[np.float64]]:
        """The sum without masks, chunk by chunk; the masked one stays as it is.

        Args:
            left: masks whose adding takes off those that are left.

        Raises:
            BadReply: they do not cancel.
        """
        fixed, size = self._terms.fixed_point, self._terms.chunk_entries
        for index, start in enumerate(range(0, self._terms.entries, size)):
            chunk = self._words[start : start + size].copy()
            masks.apply(left, index, chunk)
            yield fixed.decode(chunk, "secure sum")

    def _add(self, start: int, payload: Payload) -> None:
        words = np.frombuffer(payload, WORD)
        into = self._words[start : start + len(words)]
        np.add(into, words, out=into)


def _require_size(found: int, allowed: int, what: str) -> None:
    if found != allowed:
        raise ValueError(f"{found} {what} instead of {allowed}")


@contextlib.contextmanager
def _file(folder: Path | None) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        with _writing():
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        yield file


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"secure sum: a vector cannot be kept in a file ({error.strerror or error}); free "
            "space in the folder for temporary files, then run again"
        ) from error
