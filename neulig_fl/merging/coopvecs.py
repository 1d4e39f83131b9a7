"""CoopVecs: what they look like, restricted to those who consent, and as a map over tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 50
ESTIMATOR = f"mean of the fullest of {BINS} bins on [0, 1]"


def restricted(log_coopvecs: Tensor, kept: list[int]) -> Tensor:
    """CoopVecs over some of the experts, renormalised.

    Works on logarithms, so an expert with a tiny weight keeps its proportion to another such.

    Args:
        log_coopvecs: (queries, experts).
        kept: positions of the experts that stay, in order.

    Returns:
        (queries, len(kept)); rows sum to 1.
    """
    return torch.softmax(log_coopvecs[:, kept], dim=1)


def one_hot(positions: Tensor, experts: int) -> Tensor:
    """CoopVecs that give one expert everything, float32 of shape (queries, experts)."""
    return torch.nn.functional.one_hot(positions, experts).float()


@dataclass(frozen=True)
class CoopVecMap:
    """One CoopVec per task: the peak of every entry's distribution, renormalised (section 4.4).

    Args:
        values: (tasks, experts); rows sum to 1.
        raw_sums: (tasks,); the peaks' sum before renormalising.
        counts: (tasks, experts, bins); the histograms.
    """

    values: Tensor
    raw_sums: Tensor
    counts: Tensor


def histogram(values: Tensor, bins: int = BINS) -> Tensor:
    """Counts of values in equal bins on [0, 1]."""
    index = (values * bins).long().clamp(max=bins - 1)
    return torch.bincount(index, minlength=bins)


def peak(values: Tensor, bins: int = BINS) -> Tensor:
    """The mode of values on [0, 1]: the mean of those in the fullest bin (the first, on a tie).

    Example:
        >>> round(float(peak(torch.tensor([0.11, 0.12, 0.13, 0.9]), bins=5)), 2)
        0.12
    """
    index = (values * bins).long().clamp(max=bins - 1)
    fullest = torch.bincount(index).argmax()
    return values[index == fullest].mean()


def coopvec_map(per_task: list[Tensor]) -> CoopVecMap:
    """The CoopVec Map of each task's CoopVecs.

    Where every entry of a task has its peak at exactly 0, as with one-hot CoopVecs that name one
    expert after another, there is nothing to renormalise: the task gets its mean CoopVec, and its
    raw sum says 0. The paper does not say what it does then.

    Args:
        per_task: for every task, CoopVecs of its queries, (queries, experts), at least one.
    """
    peaks = torch.stack([torch.stack([peak(column) for column in beta.T]) for beta in per_task])
    counts = torch.stack([torch.stack([histogram(column) for column in b.T]) for b in per_task])
    sums = peaks.sum(dim=1)
    means = torch.stack([beta.mean(dim=0) for beta in per_task])
    values = torch.where(sums[:, None] > 0, peaks / sums[:, None], means)
    return CoopVecMap(values, sums, counts)


def mean_coopvec(per_task: list[Tensor]) -> Tensor:
    """One CoopVec for everything: the mean over queries, tasks weighing the same; (experts,)."""
    return torch.stack([beta.mean(dim=0) for beta in per_task]).mean(dim=0)
