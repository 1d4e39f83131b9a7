"""Where a merge method's inputs come from in a run: released records, or secure sums of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neulig_fl.config.values import MODEL_KINDS
from neulig_fl.merging.inference.layout import laid_out
from neulig_fl.merging.methods import Needs, Queries
from neulig_fl.records import kinds
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study.method_requirements import Reach
from neulig_fl.study.mixture import model_parts
from neulig_fl.study.mixture_inputs import Experts, Summed, Sums

Means = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class RunSource:
    """The inputs of a merge method (`merges.Source`) as a run has them.

    Args:
        released: the records.
        group: whose experts.
        experts: those that are merged, in order.
        means: by kind, what secure sums gave; the other kinds are single records.
        bytes: of the sums.
    """

    released: ReleasedRecords
    group: str
    experts: tuple[str, ...]
    means: Mapping[str, Means] = field(default_factory=dict, repr=False)
    bytes: int = 0

    @property
    def seed(self) -> int:
        """The scenario's seed."""
        return self.released.setting.seed

    @cached_property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry of the model, in order."""
        return self.released.setting.family.entries()

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind."""
        return kinds.shapes(kind, self.entries)

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every client's record, (experts, *shape); of parameters a view."""
        if kind not in MODEL_KINDS:
            known = self.released.statistics[(self.group, kind, None)]
            return torch.stack([_tensor(known[expert][name]) for expert in self.experts])
        stack = self.released.stacks[self.group]
        rows = self._stacked[name]
        if self.experts != stack.experts:
            rows = rows[[stack.experts.index(expert) for expert in self.experts]]
        return laid_out(rows, self.entries[name])

    def mean(self, kind: str, name: str) -> Tensor:
        """The mean of one array over the clients, (*shape)."""
        if kind in self.means:
            return _tensor(self.means[kind][name])
        if kind in MODEL_KINDS:
            return self.own(kind, name).mean(dim=0)
        known = self.released.statistics[(self.group, kind, None)]
        total = torch.zeros(self.arrays(kind)[name])
        for expert in self.experts:
            total += _tensor(known[expert][name])
        return total / len(self.experts)

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, (*shape)."""
        return self._start[name]

    def network(self) -> nn.Module:
        """The architecture, new each time."""
        return self.released.setting.family.encoder()

    def queries(self) -> Sequence[Queries]:
        """All pool queries, a task at a time; their labels stay behind."""
        family = self.released.setting.family
        return [
            Queries(
                question.task,
                family.normalise(question.images),
                partial(self.released.scored, question.task),
            )
            for question in self.released.questions_at(self.group, "pool", 1.0)
        ]

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        return self.released.setting.family.encoder().state_dict()

    @cached_property
    def _stacked(self) -> dict[str, Tensor]:
        return self.released.stacks[self.group].stacked()


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


def collected(reach: Reach, needs: Needs, released: ReleasedRecords, sums: Sums) -> RunSource:
    """The inputs of a method, of all clients that give what it needs.

    Args:
        reach: what the stage can give.
        needs: of the method.
        released: the records.
        sums: who asks for secure sums.

    Raises:
        NotAvailable: what it needs is not released, or the clients refuse the sums.
    """

    def ask(kind: str, experts: Experts) -> Summed:
        parts, _ = model_parts([torch.full((1, len(experts)), 1.0 / len(experts))], experts)
        return sums.summed(kind, None, parts)

    experts, given = reach.collected(needs, ask)
    means = {kind: summed.values[0] for kind, summed in given.items()}
    size = sum(summed.bytes for summed in given.values())
    return RunSource(released, reach.inputs.stage.group, experts, means, size)
