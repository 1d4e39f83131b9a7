"""Fisher merging: the mean of the parameters, weighted by how much predictions depend on each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neulig_fl.core.errors import RunError
from neulig_fl.merging.fisher import FISHER, MOMENT
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._variances import not_below_zero

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2111.09832"
NEEDS = Needs(sums=("fisher",))


def merge(given: Given) -> Entries:
    """Weigh by information: theta = sum_t F_t theta_t / sum_t F_t, entry by entry.

    F_t is the diagonal Fisher information that client t computes on its own examples, at least
    1e-6, and then divided by its norm over all entries (`merging.fisher`). The official code has
    the same floor and the same norm, but takes the norm before it raises F to the floor: the fewer
    the examples, the more numbers are below it, and the more the two differ (merged numbers by 2e-5
    at 16 examples and 6e-3 at 6, in one measurement). A client cannot wait for the others' floor,
    and a floor that no F falls below keeps every sum above 0. The paper's formula has no norm. All
    clients weigh the same: lambda_t = 1/T, which the paper also chooses on validation data.
    BatchNorm's running statistics have F = 1, so they are averaged; variances are kept from falling
    below 0, where sums are rounded.

    Args:
        given: the means of F and of F * theta.

    Yields:
        Every entry of the merged model.

    Raises:
        RunError: some sum of F is not above 0.

    Source: arXiv:2111.09832, equation 4; github.com/mmatena/model_merging.
    """
    yield from not_below_zero(_weighted(given))


def _weighted(given: Given) -> Entries:
    for name in given.entries:
        weight = given.mean(FISHER + name, "fisher")
        _require_positive(name, weight)
        yield name, given.mean(MOMENT + name, "fisher") / weight


def _require_positive(name: str, weight: Tensor) -> None:
    bad = int((weight <= 0).sum())
    if bad:
        raise RunError(
            f"Fisher information of {name}: {bad} of {weight.numel()} numbers are not above 0; "
            "its sums are rounded too coarsely: ask for it without secure-aggregation, or with a "
            "lower clip"
        )
