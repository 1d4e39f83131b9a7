"""Rules that look at one number of every expert at a time, in pieces: little memory is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods._given import Entries, Given

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2**17
"""Numbers of one expert in a piece; a rule makes several copies of a piece."""

Rule = Callable[["Tensor", "Tensor"], "Tensor"]
"""From task vectors, (experts, ...), and theta_0, (...), to merged values, (...)."""


def pieces(given: Given, name: str) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """One entry's task vectors and theta_0, piece by piece along its first dimension.

    Args:
        given: each client's parameters, and theta_0.
        name: of the entry.

    Yields:
        Task vectors, (experts, rows, ...), theta_0's, (rows, ...), and which rows. An entry without
        dimensions is one piece of one row.
    """
    own, start = given.own(name), given.start(name)
    if start.dim() == 0:
        own, start = own[:, None], start[None]
    rows = max(1, PIECE * len(start) // max(1, start.numel()))
    for first in range(0, len(start), rows):
        where = slice(first, first + rows)
        piece = start[where]
        yield own[:, where] - piece, piece, where


def entrywise(given: Given, rule: Rule) -> Entries:
    """Merge by a rule that looks at one number of every expert at a time.

    Args:
        given: each client's parameters, and theta_0.
        rule: of one piece.

    Yields:
        Every entry of the merged model.
    """
    for name, shape in given.entries.items():
        found = torch.empty(shape)
        flat = found if found.dim() else found[None]
        for vectors, start, where in pieces(given, name):
            flat[where] = rule(vectors, start)
        yield name, found
