"""Task arithmetic: theta_0 plus the sum of the task vectors, scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neulig_fl.merging.methods import Answers, Entries, Given, Needs
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2212.04089"
NEEDS = Needs(sums=("parameters",), start=True, outputs=("evaluation",))
AGREES = False  # the sum of equal task vectors is as many times as long, and scaled by lambda


def merge(given: Given, *, lambda_: Lambda = 0.3) -> Entries:
    """Add: theta = theta_0 + lambda * sum_t (theta_t - theta_0).

    The sum of the task vectors is T times the difference of the experts' mean to theta_0, so sums
    of parameters are enough. BatchNorm's running statistics are averaged, not scaled.

    Args:
        given: the mean of every entry, and theta_0.
        lambda_: weight of the sum of the task vectors.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2212.04089, section 2 ("Learning via addition").
    """
    yield from with_statistics(given, _moved(parameters(given), lambda_))


def _moved(given: Given, lambda_: float) -> Entries:
    weight = lambda_ * len(given.experts)
    for name in given.entries:
        start = given.start(name)
        yield name, start + weight * (given.mean(name) - start)


def ensemble(
    pool: Sequence[Answers],  # noqa: ARG001
    evaluation: Sequence[Answers],
    *,
    lambda_: Lambda = 0.3,
) -> list[Tensor]:
    """f_0 + lambda * sum_t (f_t - f_0): to first order what the merged model computes.

    The paper reports an ensemble of task arithmetic and gives no rule for it; this one is ours.

    Args:
        pool: not read.
        evaluation: the outputs to mix, theta_0's among them, a task at a time.
        lambda_: weight of the sum of the differences.

    Returns:
        (queries, dim) for every task.
    """
    return [
        answers.base + lambda_ * (answers.outputs - answers.base[:, None]).sum(dim=1)
        for answers in evaluation
    ]
