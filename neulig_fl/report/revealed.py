"""How much of a model a record reveals: an order of kinds, which nothing measures.

It is coarse on purpose: what an attack gets from a record depends on the model and the queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LEVELS = (
    "nothing",
    "offset sum",
    "class names",
    "noised outputs",
    "outputs",
    "sums over clients",
    "statistics",
    "part of the model",
    "noised model",
    "model",
    "training images",
)
"""From least to most."""

_OF_KIND = {
    "offset-sum": "offset sum",
    "labels": "class names",
    "top-k": "class names",
    "probabilities": "outputs",
    "logits": "outputs",
    "features": "outputs",
    "gram": "statistics",
    "fisher": "statistics",
    "trimmed-task-vector": "part of the model",
    "task-vector": "model",
    "parameters": "model",
    "inputs": "training images",
}
_NOISED = {
    "outputs": "noised outputs",
    "class names": "noised outputs",
    "model": "noised model",
    "part of the model": "noised model",
}


def level(release: Mapping[str, Any]) -> str:
    """What a release reveals, of `LEVELS`; a kind that is not known here counts as a model.

    Args:
        release: of the report.

    Example:
        >>> sealed = {"kind": "parameters", "protection": "sealed", "epsilon": None}
        >>> level(sealed), level({**sealed, "protection": "secure-aggregation"})
        ('model', 'sums over clients')
    """
    found = _OF_KIND.get(release["kind"], "model")
    if release["protection"] == "secure-aggregation":
        return "sums over clients"
    if isinstance(release["epsilon"], int | float):
        return _NOISED.get(found, found)
    return found


def most(releases: Iterable[Mapping[str, Any]]) -> str:
    """The level of the most revealing release; "nothing" where there is none."""
    return max(map(level, releases), key=LEVELS.index, default=LEVELS[0])
