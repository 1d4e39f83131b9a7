"""Query sets: the inputs that all experts answer.

`pool` and `evaluation` queries come task by task, `train` queries owner by owner. Queries travel by
reference (everyone opens the same split) or by value (the server sends the images).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.resizing import Resize
from neulig_fl.data.sources import Task, open_task


@dataclass(frozen=True)
class Block:
    """The queries of one task (or, for `train`, of one owner).

    Args:
        task: the task that they belong to.
        indices: which of the task's images, in order; int64 of shape (queries,).
        owner: the client whose training images they are; None for public queries.
    """

    task: Task
    indices: NDArray[np.int64]
    owner: str | None = None

    @property
    def rows(self) -> int:
        """Number of queries."""
        return len(self.indices)

    @property
    def images(self) -> str:
        """Identifies the images in their order, whatever the task is called."""
        source = self.task.source
        ids = source.ids()
        return "\n".join(
            (f"{source.collection}:{source.version}", *(ids[int(i)] for i in self.indices))
        )

    def labels(self) -> NDArray[np.int64]:
        """True classes, shape (queries,)."""
        return self.task.labels(self.indices)

    def pixels(self, size: int | Resize) -> NDArray[np.uint8]:
        """Images, shape (queries, 3, size, size)."""
        return self.task.pixels(self.indices, size)


def task_names(scenario: Scenario) -> list[str]:
    """The tasks of a scenario, each once, in the order of the clients."""
    return list(dict.fromkeys(client.task for client in scenario.clients))


def open_tasks(scenario: Scenario, seed: int) -> dict[str, Task]:
    """Every task of a scenario, in the order of the clients."""
    return {name: open_task(scenario, name, seed) for name in task_names(scenario)}


def blocks(
    scenario: Scenario, tasks: Mapping[str, Task], queries: str, group: str, fraction: float
) -> list[Block]:
    """The queries of one set, in the order in which every expert answers them.

    Args:
        queries: `pool`, `evaluation` or `train`.
        group: whose training half `train` is.
        fraction: share of each block that is asked, in (0, 1]; at least one query; smaller
            fractions are the first part of larger ones.
    """
    most = getattr(scenario.queries, queries)
    if queries == "train":
        pairs: Sequence[tuple[str, str | None]] = [(c.task, c.name) for c in scenario.clients]
        split = f"train-{group}"
    else:
        pairs, split = [(name, None) for name in tasks], queries
    found = []
    for name, owner in pairs:
        indices = tasks[name].indices(split, most)
        kept = max(1, round(fraction * len(indices))) if len(indices) else 0
        found.append(Block(tasks[name], indices[:kept], owner))
    return found


def class_count(tasks: dict[str, Task]) -> int:
    """Number of classes in the union label space."""
    return sum(len(task.source.class_names) for task in tasks.values())


def class_columns(tasks: dict[str, Task]) -> dict[str, slice]:
    """Where each task's classes stand in the union label space."""
    columns, start = {}, 0
    for name, task in tasks.items():
        stop = start + len(task.source.class_names)
        columns[name] = slice(start, stop)
        start = stop
    return columns
