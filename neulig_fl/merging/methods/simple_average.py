"""Simple averaging: the mean of the experts' parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neulig_fl.merging.methods import Answers, Entries, Given, Needs

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2203.05482"
NEEDS = Needs(sums=("parameters",), outputs=("evaluation",))


def merge(given: Given) -> Entries:
    """The mean: theta = mean_t theta_t.

    Args:
        given: the mean of every entry.

    Yields:
        Every entry of the merged model.

    Source: Model soups (uniform), arXiv:2203.05482; the paper's Simple-Averaging.
    """
    for name in given.entries:
        yield name, given.mean(name)


def ensemble(pool: Sequence[Answers], evaluation: Sequence[Answers]) -> list[Tensor]:  # noqa: ARG001
    """The mean of the experts' outputs.

    Args:
        pool: not read.
        evaluation: the outputs to mix, a task at a time.

    Returns:
        (queries, dim) for every task.
    """
    return [answers.outputs.mean(dim=1) for answers in evaluation]
