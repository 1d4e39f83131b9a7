"""How far apart checkpoints of one model are, as measured figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from neulig_fl.models.checkpoints.contents import StoredTensor, floats
from neulig_fl.models.checkpoints.fitting import value


@dataclass(frozen=True)
class Pair:
    """Two checkpoints a and b, as vectors of all their floating entries.

    Args:
        first: place of a among those compared.
        second: place of b.
        distance: ||a - b|| / ||(a + b) / 2||. 0 is the same weights; 2 is what two vectors of one
            length have that are at right angles.
        cosine: of the angle between them.
    """

    first: int
    second: int
    distance: float
    cosine: float


def pairs(checkpoints: Sequence[Mapping[str, StoredTensor]], names: Sequence[str]) -> list[Pair]:
    """Every two checkpoints compared; one entry of each is in memory at a time.

    Args:
        checkpoints: entries of the same names and shapes.
        names: what they are called in errors.

    Raises:
        CheckpointError: a file cannot be read any more.
    """
    couples = list(itertools.combinations(range(len(checkpoints)), 2))
    apart = dict.fromkeys(couples, 0.0)
    along = dict.fromkeys(couples, 0.0)
    length = [0.0] * len(checkpoints)
    for name, entry in checkpoints[0].items():
        if entry.dtype not in floats():
            continue
        parts = [
            value(held[name], name, what).double().flatten()
            for held, what in zip(checkpoints, names, strict=True)
        ]
        for at, part in enumerate(parts):
            length[at] += float(part @ part)
        for one, other in couples:
            apart[one, other] += float(torch.dist(parts[one], parts[other])) ** 2
            along[one, other] += float(parts[one] @ parts[other])
    return [
        Pair(i, j, *_figures(length[i], length[j], apart[i, j], along[i, j])) for i, j in couples
    ]


def _figures(one: float, other: float, apart: float, along: float) -> tuple[float, float]:
    """Distance and cosine from squared lengths, the squared distance and the scalar product."""
    mean = math.sqrt(max(one + other + 2 * along, 0.0)) / 2
    both = math.sqrt(one * other)
    distance = math.sqrt(apart) / mean if mean else (math.inf if apart else 0.0)
    return distance, along / both if both else math.nan
