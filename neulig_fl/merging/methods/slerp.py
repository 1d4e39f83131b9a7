"""SLERP: two experts, interpolated along the arc between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._options import Share

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "doi:10.1145/325334.325242"
NEEDS = Needs(each=("parameters",), experts=2)
SYMMETRIC = False  # t is the second expert's share; both are treated alike where it is 0.5

NEARLY_PARALLEL = 0.9995
"""Cosine beyond which the arc is as good as a line."""

SecondShare = Annotated[
    Share, Field(description="Place between the first expert (0) and the second (1).")
]


def merge(given: Given, *, t: SecondShare = 0.5) -> Entries:
    """Along the arc: theta = (sin((1 - t) w) theta_1 + sin(t w) theta_2) / sin w, for each entry.

    w is the angle between the two experts' values of the entry, taken as vectors from 0: the
    parameters themselves are interpolated, not task vectors, as mergekit does, and theta_0 is not
    needed. The arc is replaced by the line (1 - t) theta_1 + t theta_2 where |cos w| is above
    0.9995, as in mergekit, and where an expert's entry is 0, so that there is no angle (mergekit
    takes a right angle there). Experts of one checkpoint are often that near to each other. Every
    entry has its own angle; no weight is below 0, so running variances are not either.

    Args:
        given: each client's parameters.
        t: place between the first expert and the second.

    Yields:
        Every entry of the merged model.

    Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985; for models mergekit,
        arXiv:2403.13257.
    """
    for name in given.entries:
        first, second = given.own(name)
        one, two = _weights(_cosine(first, second), t)
        yield name, one * first + two * second


def _cosine(first: Tensor, second: Tensor) -> float | None:
    """Of the angle between two tensors; None where one of them is 0."""
    scale = float(torch.linalg.vector_norm(first)) * float(torch.linalg.vector_norm(second))
    return float(first.flatten() @ second.flatten()) / scale if scale > 0 else None


def _weights(cosine: float | None, t: float) -> tuple[float, float]:
    if cosine is None or abs(cosine) > NEARLY_PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
