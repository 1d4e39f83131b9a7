"""DARE: random numbers of each task vector are dropped, the rest is scaled up, then merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neulig_fl.config.values import Number
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._elected import Combine, Density, elected, trimmed
from neulig_fl.merging.methods._entrywise import Rule, entrywise
from neulig_fl.merging.methods._magnitudes import size, task_vectors, thresholds
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2311.03099"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # every expert loses other numbers, and lambda scales what is left

WEIGHTS = {"task-arithmetic": 0.3, "ties": 1.0}
"""Of the merged task vector, where none is given: those of the methods themselves."""

Drop = Annotated[
    Number,
    Field(ge=0, lt=1, description="Probability with which a number of a task vector is dropped."),
]
Then = Annotated[
    Literal["task-arithmetic", "ties"], Field(description="What merges the dropped task vectors.")
]
Weight = Annotated[
    Number | None,
    Field(description="Weight of the merged task vector; null for that of the method after it."),
]
DensityThen = Annotated[Density, Field(description="Share that `ties` keeps; `ties` only.")]
CombineThen = Annotated[Combine, Field(description="How `ties` combines; `ties` only.")]


def merge(
    given: Given,
    *,
    drop: Drop = 0.5,
    then: Then = "task-arithmetic",
    lambda_: Weight = None,
    density: DensityThen = 0.2,
    combine: CombineThen = "mean",
) -> Entries:
    """Drop and rescale: tau_t' = (1 - m_t) * tau_t / (1 - p), m_t ~ Bernoulli(p); then merge.

    With `then: task-arithmetic`, theta = theta_0 + lambda * sum_t tau_t'. With `then: ties`, the
    tau_t' are merged as by `ties`; its threshold is taken over all numbers, dropped ones among
    them, as in the paper's code. A client's mask depends on the seed and on its name only.

    The paper tries p from 0.1 to 0.99 and lambda from 0.1 to 1, and chooses by the task; p 0.5 is
    FusionBench's default. With `then: ties`, lambda 1 and the mean are those of the TIES paper and
    of DARE's own code; FusionBench's configuration has lambda 0.5 and the sum. The paper drops
    parameters of language models; here those of every layer are dropped. BatchNorm's running
    statistics are no part of the task vectors; they are averaged.

    Args:
        given: each client's parameters, and theta_0.
        drop: the probability p.
        then: what merges the task vectors that are left.
        lambda_: weight of the merged task vector; None for 0.3, or 1 with `then: ties`.
        density: share of each task vector that `ties` keeps.
        combine: whether `ties` averages or adds what agrees.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2311.03099, section 3.2.
    """
    weight = WEIGHTS[then] if lambda_ is None else lambda_
    inner = parameters(given)
    rule = _ties(inner, drop, density, combine) if then == "ties" else _sum(inner, drop)

    def merged(vectors: Tensor, start: Tensor) -> Tensor:
        return start + weight * rule(vectors, start)

    yield from with_statistics(given, entrywise(inner, merged))


def _sum(given: Given, drop: float) -> Rule:
    dropped = _dropping(given, drop)
    return lambda vectors, start: dropped(vectors).sum(dim=0)


def _ties(given: Given, drop: float, density: float, combine: Combine) -> Rule:
    def passing() -> Iterator[Tensor]:
        return map(_dropping(given, drop), task_vectors(given))

    least = thresholds(passing, size(given), density)
    dropped = _dropping(given, drop)
    return lambda vectors, start: elected(trimmed(dropped(vectors), least), combine)


def _dropping(given: Given, drop: float) -> Callable[[Tensor], Tensor]:
    """Drops and rescales the pieces of the task vectors in their order, the same in every pass."""
    generators = [given.generator(client) for client in given.experts]

    def dropped(vectors: Tensor) -> Tensor:
        shape = vectors.shape[1:]
        draws = torch.stack([torch.rand(shape, generator=one) for one in generators])
        return torch.where(draws >= drop, vectors, 0) / (1 - drop)

    return dropped
