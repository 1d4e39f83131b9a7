"""TIES: task vectors are trimmed, a sign is elected at each place, what agrees is averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._elected import Combine, Density, elected, trimmed
from neulig_fl.merging.methods._entrywise import entrywise
from neulig_fl.merging.methods._magnitudes import size, task_vectors, thresholds
from neulig_fl.merging.methods._options import Lambda
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2306.01708"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # every expert's small changes are dropped


def merge(
    given: Given, *, density: Density = 0.2, combine: Combine = "mean", lambda_: Lambda = 1.0
) -> Entries:
    """Trim, elect, merge: theta = theta_0 + lambda * mean{tau_t : sign(tau_t) = gamma}.

    Of each tau_t = theta_t - theta_0, taken as one vector of all entries as in the paper's code,
    the largest magnitudes are kept (mergekit trims every tensor alone, to the same density); at
    each place gamma = sign(sum_t tau_t) of what is kept. The numbers at the threshold are all kept,
    as in the paper's code. Where the kept numbers cancel exactly, gamma is 0 and the merged model
    has theta_0: so says the paper's algorithm 1, while its code takes the sign that is elected most
    often in the whole vector.

    Defaults are the paper's for use without validation data. FusionBench and others add the
    agreeing numbers instead (`combine: sum`, lambda 0.3 or 0.5). BatchNorm's running statistics are
    no part of the task vectors; they are averaged.

    Args:
        given: each client's parameters, and theta_0.
        density: share of each task vector that is kept.
        combine: whether the agreeing numbers are averaged or added.
        lambda_: weight of the merged task vector.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2306.01708, section 4 and algorithm 1.
    """
    inner = parameters(given)
    least = thresholds(lambda: task_vectors(inner), size(inner), density)

    def rule(vectors: Tensor, start: Tensor) -> Tensor:
        return start + lambda_ * elected(trimmed(vectors, least), combine)

    yield from with_statistics(given, entrywise(inner, rule))
