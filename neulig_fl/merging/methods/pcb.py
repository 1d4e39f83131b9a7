"""PCB-Merging: numbers compete within and across task vectors, the winners are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.config.values import Number
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs
from neulig_fl.merging.methods._entrywise import entrywise
from neulig_fl.merging.methods._magnitudes import order_statistics, size, task_vectors
from neulig_fl.merging.methods._options import Lambda, PositiveShare
from neulig_fl.merging.methods._statistics import parameters, with_statistics

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2410.02396"
NEEDS = Needs(each=("parameters",), start=True)
AGREES = False  # what scores low is dropped, and lambda is 1.2

LEAST_SUM = 1e-12
"""What the scores of a place are divided by at least, as in the paper's code."""

Ratio = Annotated[
    PositiveShare, Field(description="Share of each task vector that is kept: the highest scores.")
]
Clip = Annotated[
    Number,
    Field(ge=0, lt=0.5, description="Share of the magnitudes that is clipped at either end."),
]


def merge(
    given: Given, *, ratio: Ratio = 0.05, lambda_: Lambda = 1.2, clip: Clip = 0.0001
) -> Entries:
    """Balance, drop, rescale: theta = theta_0 + lambda * sum_t s_t c_t / sum_t s_t at each place.

    Each tau_t is taken as one vector of all entries, of T experts. c_t is tau_t, its magnitudes
    clipped to their quantiles `clip` and 1 - `clip`; n_t are those magnitudes scaled to [0, 1].
    Within a task a number scores exp(T n_t^2), across tasks tanh(tau_t * sum_j tau_j); b_t is the
    product. s_t is b_t, raised to its quantile 1 - `ratio` where it is below, scaled to [0, 1]: so
    the rest weighs 0, and where all do the merged model has theta_0.

    This is the rule of the paper's code (`pcb-merging.py`, with the ratio and lambda that it uses).
    The paper has softmax over the whole vector, in place of both exp and tanh, of squares scaled to
    [0, 1], and no clipping. The codes of its vision experiments clip at 0.01, and score across
    tasks by numbers n with their signs: sum_j tanh(n_t n_j), both factors scaled and tanh inside of
    the sum (`pcb_ES.py`), or tanh(tau_t * sum_j n_j) (`pcb.py`). Ours has exp(T (n_t^2 - 1)), which
    gives the same s_t and does not overflow, and gives 0 where all magnitudes or all scores of a
    vector are equal (the code: NaN). BatchNorm's running statistics are no part of the task
    vectors; they are averaged.

    Args:
        given: each client's parameters, and theta_0.
        ratio: share of each task vector that is kept.
        lambda_: weight of the merged task vector.
        clip: share of the magnitudes that is clipped at either end.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2410.02396, section 3; github.com/duguodong7/pcb-merging.
    """
    inner = parameters(given)
    count = size(inner)
    ends = [int(count * clip) + 1, int(count * (1 - clip) - 1) + 1]
    magnitudes = order_statistics(lambda: (one.abs() for one in task_vectors(inner)), ends)

    def scores() -> Iterator[Tensor]:
        return (_scores(one, magnitudes) for one in task_vectors(inner))

    last = min(count, int(count * (1 - ratio)) + 1)
    kept = order_statistics(scores, [last, count])

    def rule(vectors: Tensor, start: Tensor) -> Tensor:
        flat = vectors.flatten(1)
        weights = _scaled(_scores(flat, magnitudes), kept)
        clipped = _between(flat.abs(), magnitudes).copysign_(flat)
        total = weights.sum(dim=0).clamp(min=LEAST_SUM)
        return start + lambda_ * ((weights * clipped).sum(dim=0) / total).view(start.shape)

    yield from with_statistics(given, entrywise(inner, rule))


def _scores(vectors: Tensor, magnitudes: Tensor) -> Tensor:
    """The scores b of a piece, (experts, numbers), up to the factor exp(-experts)."""
    count = len(vectors)
    within = _scaled(vectors.abs(), magnitudes).square_().sub_(1).mul_(count).exp_()
    return (vectors * vectors.sum(dim=0)).tanh_().mul_(within)


def _between(values: Tensor, ends: Tensor) -> Tensor:
    """Values (experts, numbers) moved between their experts' ends, (experts, 2)."""
    return torch.clamp(values, ends[:, :1], ends[:, 1:])


def _scaled(values: Tensor, ends: Tensor) -> Tensor:
    """Values between their experts' ends, scaled to [0, 1]; 0 where the ends are equal."""
    width = ends[:, 1:] - ends[:, :1]
    width = torch.where(width > 0, width, torch.inf)
    return _between(values, ends).sub_(ends[:, :1]).div_(width)
