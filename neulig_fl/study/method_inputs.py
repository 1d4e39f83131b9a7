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
from neulig_fl.core.errors import NotAvailable
from neulig_fl.merging.inference.layout import laid_out
from neulig_fl.merging.methods import Needs, Queries
from neulig_fl.records import kinds
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study.mixture import model_parts
from neulig_fl.study.mixture_inputs import Sources, Sums

NO_COUNTERPART = "the method has no ensemble counterpart"

Means = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class RunSource:
    """The inputs of a merge method (`merges.Source`) as a run has them.

    Args:
        knowledge: what was released.
        group: whose experts.
        experts: those that are merged, in order.
        means: by kind, what secure sums gave; the other kinds are single records.
        bytes: of the sums.
    """

    knowledge: ReleasedRecords
    group: str
    experts: tuple[str, ...]
    means: Mapping[str, Means] = field(default_factory=dict, repr=False)
    bytes: int = 0

    @property
    def seed(self) -> int:
        """The scenario's seed."""
        return self.knowledge.setting.seed

    @cached_property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry of the model, in order."""
        return self.knowledge.setting.family.entries()

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind."""
        return kinds.shapes(kind, self.entries)

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every client's record, (experts, *shape); of parameters a view."""
        if kind not in MODEL_KINDS:
            known = self.knowledge.statistics[(self.group, kind, None)]
            return torch.stack([_tensor(known[expert][name]) for expert in self.experts])
        stack = self.knowledge.stacks[self.group]
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
        known = self.knowledge.statistics[(self.group, kind, None)]
        total = torch.zeros(self.arrays(kind)[name])
        for expert in self.experts:
            total += _tensor(known[expert][name])
        return total / len(self.experts)

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, (*shape)."""
        return self._start[name]

    def network(self) -> nn.Module:
        """The architecture, new each time."""
        return self.knowledge.setting.family.encoder()

    def queries(self) -> Sequence[Queries]:
        """All pool queries, a task at a time; their labels stay behind."""
        family = self.knowledge.setting.family
        return [
            Queries(
                question.task,
                family.normalise(question.images),
                partial(self.knowledge.scored, question.task),
            )
            for question in self.knowledge.questions_at(self.group, "pool", 1.0)
        ]

    @cached_property
    def _start(self) -> dict[str, Tensor]:
        return self.knowledge.setting.family.encoder().state_dict()

    @cached_property
    def _stacked(self) -> dict[str, Tensor]:
        return self.knowledge.stacks[self.group].stacked()


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"]))


@dataclass(frozen=True)
class Reach:
    """What a stage can give merge methods.

    Args:
        sources: what the stage has released, or shares within sums.
        sums: who asks for sums.
    """

    sources: Sources
    sums: Sums

    def source(self, needs: Needs) -> RunSource:
        """The inputs of a method, of all clients that give what it needs.

        Sums are asked for under the weights of a simple average, which clients who let that pass
        have let pass before.

        Raises:
            NotAvailable: what it needs is not released, or the clients refuse the sums.
        """
        problem = self.refusal(needs)
        if problem is not None:
            raise NotAvailable(problem)
        experts = self.experts(needs)
        means: dict[str, Means] = {}
        size = 0
        for kind in self.summed_kinds(needs):
            parts, _ = model_parts([torch.full((1, len(experts)), 1.0 / len(experts))], experts)
            summed = self.sums.summed(kind, None, parts)
            if means and summed.experts != experts:
                missing = ", ".join(name for name in experts if name not in summed.experts)
                raise NotAvailable(f"the sum of {kind} is without {missing}, the others are not")
            experts, size = summed.experts, size + summed.bytes
            means[kind] = summed.values[0]
        return RunSource(self.sources.knowledge, self.sources.stage.group, experts, means, size)

    def refusal(self, needs: Needs) -> str | None:
        """Why a method is not permitted here; None when it is, as far as is known."""
        lacking = [kind for kind in needs.each if not self._giving(kind)]
        lacking += [
            kind for kind in needs.sums if not self._giving(kind) and not self.sources.in_sums(kind)
        ]
        if lacking:
            return f"needs {', '.join(needs.released)}"
        experts = self.experts(needs)
        if not experts:
            return f"needs {', '.join(needs.released)}, and no client gives all of it"
        if needs.experts is not None and len(experts) != needs.experts:
            return f"needs {needs.experts} experts; here are {len(experts)}"
        return None

    def experts(self, needs: Needs) -> tuple[str, ...]:
        """Clients that give what a method needs, in order; sums may leave some of them out."""
        kinds = [k for k in (*needs.each, *needs.sums) if self._giving(k)]
        everyone = self.sources.knowledge.clients
        return tuple(name for name in everyone if all(name in self._giving(k) for k in kinds))

    def answering(self, needs: Needs, merged: tuple[str, ...]) -> tuple[str, ...]:
        """Whose outputs an ensemble counterpart mixes: the merged experts' where some are merged.

        Args:
            needs: of the method.
            merged: whose experts are merged; nobody's where nothing is.

        Raises:
            NotAvailable: there is no counterpart, or not every expert's outputs are known.
        """
        if not needs.outputs:
            raise NotAvailable(NO_COUNTERPART)
        knowledge, group = self.sources.knowledge, self.sources.stage.group
        known = [knowledge.sharing(group, queries) for queries in needs.outputs]
        there = [n for n in knowledge.clients if all(n in names for names in known)]
        wanted = merged or tuple(there)
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            on = " and ".join(needs.outputs)
            who = f", and not from {', '.join(missing)}" if missing and there else ""
            raise NotAvailable(f"no ensemble: needs {knowledge.kind} of each client on {on}{who}")
        return wanted

    def summed_kinds(self, needs: Needs) -> list[str]:
        """Kinds that a method reads from secure sums here."""
        return [kind for kind in needs.sums if not self._giving(kind)]

    def _giving(self, kind: str) -> tuple[str, ...]:
        return self.sources.knowledge.giving(self.sources.stage.group, kind)
