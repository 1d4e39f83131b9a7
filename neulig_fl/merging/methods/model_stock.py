"""Model stock: each entry lies between theta_0 and the mean, nearer the mean if experts agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._entrywise import pieces

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2403.19522"
NEEDS = Needs(each=("parameters",), start=True)


def merge(given: Given) -> Entries:
    """Interpolate: theta = t * mean + (1 - t) * theta_0, t = T cos / (1 + (T - 1) cos), per entry.

    cos is the cosine of the angle between task vectors; for more than two experts the paper does
    not say which, and we take the mean over all pairs, as mergekit does. The paper's layer is one
    entry: a weight, a bias, a norm's scale, BatchNorm's statistics each have their own t. A task
    vector of an entry that is 0 has no angle: its pairs count as cos 0. The paper assumes angles
    below 90 degrees; where the mean is beyond, t is 0 (the formula would go away from the mean). So
    t is within 0 and 1, and running variances stay above 0.

    The rule is made for experts of one task; of different tasks, which are nearly orthogonal, not
    much more than theta_0 is left.

    Args:
        given: each client's parameters, and theta_0.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2403.19522, section 4, and its appendix for more than two.
    """
    for name in given.entries:
        cosine, count = _mean_cosine(_products(given, name)), len(given.experts)
        weight = max(0.0, count * cosine / (1 + (count - 1) * cosine)) if cosine > 0 else 0.0
        start = given.start(name)
        yield name, start + weight * (given.mean(name) - start)


def _products(given: Given, name: str) -> Tensor:
    """Inner products of the task vectors of one entry, float64 (experts, experts)."""
    count = len(given.experts)
    total = torch.zeros(count, count, dtype=torch.float64)
    for vectors, _, _ in pieces(given, name):
        flat = vectors.flatten(1)
        total += flat @ flat.T
    return total


def _mean_cosine(products: Tensor) -> float:
    """Over all pairs; a pair with a vector of 0 counts as 0."""
    lengths = products.diagonal().sqrt()
    scale = lengths[:, None] * lengths
    cosines = torch.where(scale > 0, products / scale, 0)
    pairs = torch.ones_like(cosines, dtype=torch.bool).triu(diagonal=1)
    return float(cosines[pairs].mean())
