"""Choosing a merge method's options by accuracy on the labelled pool, never on evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


def combinations(tune: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the values to try, the last option's changing fastest.

    Example:
        >>> list(combinations({"lambda": [0.3, 1.0], "density": [0.2]}))
        [{'lambda': 0.3, 'density': 0.2}, {'lambda': 1.0, 'density': 0.2}]
    """
    for values in itertools.product(*tune.values()):
        yield dict(zip(tune, values, strict=True))


def accuracy(predictions: Sequence[Tensor | None], targets: Sequence[Tensor]) -> float:
    """Accuracy on pool queries, percent: the mean over the tasks, each weighing the same.

    Args:
        predictions: classes, (queries,) for every task.
        targets: true classes, (queries,) for every task.
    """
    found = [
        float((guess == true).double().mean())
        for guess, true in zip(predictions, targets, strict=True)
        if guess is not None and len(true)
    ]
    return 100.0 * sum(found) / len(found)
