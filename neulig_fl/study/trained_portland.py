"""What `train-portland` leaves for the later stages, in whichever group they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neulig_fl.merging.coopvecs import coopvec_map, mean_coopvec, restricted
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study.coopvec_needs import map_queries, require_read


@dataclass(frozen=True)
class TrainedPortland:
    """A trained Portland and what was chosen with it.

    Args:
        fit: Portland and its trajectory.
        stage: where it was trained.
        group: on whose outputs.
        queries: on which query set.
        best_single: the expert that does best alone on those queries.
        choice: how it was chosen, one sentence.
    """

    fit: Fit
    stage: str
    group: str
    queries: str
    best_single: str
    choice: str

    @property
    def portland(self) -> Portland:
        """The network."""
        return self.fit.portland

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose outputs it reads, in order."""
        return self.fit.portland.experts


def positions(all_experts: tuple[str, ...], kept: tuple[str, ...]) -> list[int]:
    """Where the kept experts stand among all; those who are not there are left out."""
    return [all_experts.index(name) for name in kept if name in all_experts]


def coopvecs(
    released: ReleasedRecords,
    trained: TrainedPortland,
    group: str,
    queries: str,
    kept: tuple[str, ...],
) -> list[Tensor]:
    """CoopVecs of a query set, block by block, restricted to the experts that consent.

    Args:
        released: the records.
        trained: the trained Portland.
        group: whose outputs it reads now.
        queries: the query set.
        kept: the experts that are mixed.

    Raises:
        NotAvailable: what `require_read` raises.
    """
    require_read(released, trained, group, queries, kept)
    where = positions(trained.experts, kept)
    found = []
    for outputs in released.stacked(group, queries, trained.portland.experts):
        # An expert that Portland does not read, because it gave no offset sum or no training
        # outputs, has no weight.
        beta = torch.zeros(len(outputs), len(kept))
        read = positions(kept, trained.portland.experts)
        beta[:, sorted(read)] = restricted(trained.portland.log_coopvecs(outputs), where)
        found.append(beta)
    return found


def by_task(
    released: ReleasedRecords, group: str, queries: str, parts: list[Tensor]
) -> list[Tensor]:
    """CoopVecs of blocks, joined by task, in the scenario's order of tasks."""
    tasks = [q.task for q in released.questions(group, queries)]
    none = torch.zeros(0, 1)
    return [
        torch.cat([p for p, t in zip(parts, tasks, strict=True) if t == name] or [none])
        for name in released.setting.tasks
    ]


def public_coopvecs(
    released: ReleasedRecords, trained: TrainedPortland, group: str, kept: tuple[str, ...]
) -> list[Tensor]:
    """Each task's CoopVecs on the queries that maps are made from, for the group at hand.

    Raises:
        NotAvailable: what `map_queries` raises.
    """
    queries = map_queries(released, trained, group, kept)
    return by_task(released, group, queries, coopvecs(released, trained, group, queries, kept))


def task_coopvecs(
    released: ReleasedRecords, trained: TrainedPortland, group: str, kept: tuple[str, ...]
) -> Tensor:
    """The CoopVec Map, (tasks, experts)."""
    return coopvec_map(public_coopvecs(released, trained, group, kept)).values


def global_coopvec(
    released: ReleasedRecords, trained: TrainedPortland, group: str, kept: tuple[str, ...]
) -> Tensor:
    """One mean CoopVec, (experts,)."""
    return mean_coopvec(public_coopvecs(released, trained, group, kept))
