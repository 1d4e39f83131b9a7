"""A client's vector as masked chunks, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import RunError
from neulig_fl.privacy.secagg import masks
from neulig_fl.privacy.secagg.fixed_point import WORD, Words
from neulig_fl.privacy.secagg.masks import Mask
from neulig_fl.privacy.secagg.terms import Terms


def masked_chunks(
    terms: Terms,
    own: Sequence[Mask],
    pieces: Iterable[NDArray[Any]],
    weight: float,
    who: str,
    into: Words | None = None,
) -> Iterator[memoryview]:
    """The vector in fixed point, with every mask added, chunk by chunk.

    The last chunk waits for the end of the pieces, so that too long a vector is never sent whole.

    Args:
        terms: of the sum.
        own: this client's masks.
        pieces: float32 or float64 arrays of any shapes, already multiplied by `weight`.
        weight: this client's weight.
        who: whose vector it is, for errors.
        into: (entries,) where the chunks lie one after the other; new memory for each if not given.

    Yields:
        The bytes of each chunk, 4 an entry.

    Raises:
        RunError: entries that are not finite, out of range, too many or too few.
        ClientRefused: the weight is beyond the headroom.
    """
    fixed, sizes = terms.fixed_point, iter(terms.chunk_sizes)
    chunk, filled, index = _room(terms, into, 0, next(sizes)), 0, 0
    noise = masks.Noise()
    for piece in pieces:
        flat, start = np.asarray(piece).reshape(-1), 0
        while start < len(flat):
            if filled == len(chunk):
                size = next(sizes, None)
                if size is None:
                    raise _wrong_length(who, terms.entries, "more")
                yield _masked(own, index, chunk)
                chunk, filled, index = _room(terms, into, index + 1, size), 0, index + 1
            part = flat[start : start + len(chunk) - filled]
            end = filled + len(part)
            fixed.encode(part, noise.bits, chunk[filled:end], weight, who)
            start, filled = start + len(part), end
    if filled < len(chunk) or next(sizes, None) is not None:
        raise _wrong_length(who, terms.entries, "fewer")
    yield _masked(own, index, chunk)


def _room(terms: Terms, into: Words | None, index: int, size: int) -> Words:
    if into is None:
        return np.empty(size, WORD)
    start = index * terms.chunk_entries
    return into[start : start + size]


def _masked(own: Sequence[Mask], index: int, chunk: Words) -> memoryview:
    masks.apply(own, index, chunk)
    return chunk.view(np.uint8).data


def _wrong_length(who: str, entries: int, how: str) -> RunError:
    problem = f"its vector has {how} entries than the {entries} agreed on"
    return RunError(f"{who}: {problem}; give the vector of these terms", public_reason=problem)
