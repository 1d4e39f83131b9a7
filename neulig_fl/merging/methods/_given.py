"""What a merge method reads: what it declared that it needs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from neulig_fl.core.errors import RunError
from neulig_fl.core.lazy import torch
from neulig_fl.core.randomness import torch_generator
from neulig_fl.merging.method_needs import Needs

if TYPE_CHECKING:
    from torch import Tensor, nn

Entries = Iterator[tuple[str, "Tensor"]]
"""Of a merged model: every floating entry's name and its value, float32."""

Score = Callable[["Tensor"], "Tensor"]

PARAMETERS = "parameters"


@dataclass(frozen=True)
class Queries:
    """Unlabelled inputs at the merger, of one task.

    Args:
        task: their task.
        inputs: as the encoder takes them, float32 (queries, 3, size, size).
        logits: of the encoder's features, (queries, dim) -> (queries, classes that compete).
    """

    task: str
    inputs: Tensor
    logits: Score


@dataclass(frozen=True)
class Answers:
    """The experts' outputs on one task's queries, for a method's ensemble counterpart.

    Args:
        task: the queries' task.
        outputs: features, or logits, float32 (queries, experts, dim).
        start: the same of theta_0, (queries, dim); None where there is no theta_0.
        logits: of mixed outputs, (queries, dim) -> (queries, classes that compete).
    """

    task: str
    outputs: Tensor
    start: Tensor | None
    logits: Score

    @property
    def base(self) -> Tensor:
        """The outputs of theta_0, (queries, dim).

        Raises:
            RunError: there is no theta_0.
        """
        if self.start is None:
            raise RunError("a method asks for the outputs of theta_0, and there is none")
        return self.start


class MergeInputs(Protocol):
    """Where a method's inputs come from: a run's records, or state dicts."""

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose experts are merged, in order."""
        ...

    @property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry of the model, in order."""
        ...

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind."""
        ...

    def own(self, kind: str, name: str) -> Tensor:
        """One array of every client's record, (experts, *shape), float32; not to be changed."""
        ...

    def mean(self, kind: str, name: str) -> Tensor:
        """The mean of one array over the clients, (*shape), float32; not to be changed."""
        ...

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, (*shape), float32; not to be changed."""
        ...

    def network(self) -> nn.Module:
        """The architecture, new each time, in eval mode; its parameters mean nothing."""
        ...

    def queries(self) -> Sequence[Queries]:
        """Unlabelled pool queries, a task at a time."""
        ...

    @property
    def seed(self) -> int:
        """The scenario's seed."""
        ...


@dataclass(frozen=True)
class Given:
    """What a merge method is given. It can read what it declared, and nothing else.

    Args:
        source: where it comes from.
        needs: what the method declared.
        method: its name, for errors and for its own randomness.
        on_step: takes (steps done, all steps) from rules that take long.
    """

    source: MergeInputs
    needs: Needs
    method: str
    on_step: Callable[[int, int], object] = lambda done, total: None

    @property
    def experts(self) -> tuple[str, ...]:
        """Whose experts are merged, in order."""
        return self.source.experts

    @property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every floating entry of the model, in order."""
        return self.source.entries

    def own(self, name: str, kind: str = PARAMETERS) -> Tensor:
        """One array of each client's record, (experts, *shape), float32; not to be changed.

        Raises:
            RunError: the method did not declare that it needs each client's own.
        """
        if kind not in self.needs.each:
            self._undeclared(f"{kind} of each client")
        return self.source.own(kind, name)

    def mean(self, name: str, kind: str = PARAMETERS) -> Tensor:
        """The mean of one array over the clients, (*shape), float32; not to be changed.

        Raises:
            RunError: the method did not declare that it needs sums of it.
        """
        self._require_sums(kind)
        return self.source.mean(kind, name)

    def arrays(self, kind: str) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every array in a record of that kind.

        Raises:
            RunError: the method did not declare that it needs it.
        """
        self._require_sums(kind)
        return self.source.arrays(kind)

    def start(self, name: str) -> Tensor:
        """One entry of theta_0, (*shape), float32; not to be changed.

        Raises:
            RunError: the method did not declare that it needs theta_0.
        """
        if not self.needs.start:
            self._undeclared("theta_0")
        return self.source.start(name)

    def network(self) -> nn.Module:
        """The architecture, new each time, in eval mode; its parameters are NaN."""
        network = self.source.network()
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.fill_(torch.nan)
        return network.eval().requires_grad_(False)

    def queries(self) -> Sequence[Queries]:
        """Unlabelled inputs at the merger, a task at a time.

        Raises:
            RunError: the method did not declare that it needs them.
        """
        if not self.needs.queries:
            self._undeclared("unlabelled queries")
        return self.source.queries()

    def generator(self, name: str = "") -> torch.Generator:
        """A generator of the method's own, from the scenario's seed."""
        return torch_generator(self.source.seed, f"merge-{self.method}", name)

    def _require_sums(self, kind: str) -> None:
        """Check that sums of a kind are declared; each client's own say as much."""
        if kind not in (*self.needs.sums, *self.needs.each):
            self._undeclared(f"sums of {kind}")

    def _undeclared(self, what: str) -> NoReturn:
        declared = f"{self.method} reads {what} and declares: {self.needs}"
        raise RunError(f"{declared}; say it in its NEEDS")
