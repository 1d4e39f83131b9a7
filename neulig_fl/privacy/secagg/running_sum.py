"""The running sum: words of whole vectors, added modulo 2^32, and opened chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

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
        found, allowed = memoryview(payload).nbytes, self._words.nbytes
        if found != allowed:
            raise ValueError(f"{found} bytes instead of {allowed}")
        np.add(self._words, np.frombuffer(payload, WORD), out=self._words)

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
