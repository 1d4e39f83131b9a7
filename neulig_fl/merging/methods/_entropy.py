"""Entropy minimisation on unlabelled queries, for the methods that learn how to merge.

Every step takes a batch of each task. Batches are evenly spaced queries, in turn: nothing is drawn,
and a pool that is sorted by class is no worse than another. (The official codes shuffle.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.config.values import Count, Positive
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods._given import Answers, Queries, Score
from neulig_fl.models.families import device

if TYPE_CHECKING:
    from torch import Tensor

Rate = Annotated[Positive, Field(description="Learning rate of Adam.")]
Steps = Annotated[Count, Field(description="Steps of the optimiser.")]
BatchSize = Annotated[Count, Field(description="Queries of each task in a step.")]


@dataclass(frozen=True)
class Search:
    """How the entropy is minimised: by Adam, with betas (0.9, 0.999) and no weight decay.

    Args:
        steps: of the optimiser.
        lr: learning rate.
        batch_size: queries of each task in a step, at most.
        annealed: whether the learning rate falls to 0 along half a cosine.
        on_step: takes (steps done, all steps).
    """

    steps: int
    lr: float
    batch_size: int
    annealed: bool = False
    on_step: Callable[[int, int], object] = lambda done, total: None

    def minimise(self, loss: Callable[[int], Tensor], parameters: Iterable[Tensor]) -> None:
        """Change parameters in place so that a loss falls.

        Args:
            loss: of the step's number, 0 and up; in nats.
            parameters: to be changed.

        Raises:
            RunError: the loss is not finite.
        """
        optimiser = torch.optim.Adam(parameters, lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=self.steps)
        for step in range(self.steps):
            optimiser.zero_grad(set_to_none=True)
            with torch.enable_grad():
                value = loss(step)
            if not torch.isfinite(value):
                raise RunError(
                    f"the entropy is {float(value.detach())} at step {step + 1} of {self.steps}; "
                    f"lower the method's lr (it is {self.lr:g})"
                )
            value.backward()
            optimiser.step()
            if self.annealed:
                schedule.step()
            self.on_step(step + 1, self.steps)

    def on_queries(
        self,
        model: Callable[[Tensor], Tensor],
        queries: Sequence[Queries],
        parameters: Iterable[Tensor],
    ) -> None:
        """Minimise a model's entropy: the sum over the tasks of the mean entropy of a batch.

        Args:
            model: features of inputs; the batches of all tasks go through it at once.
            queries: of every task.
            parameters: of the model, to be changed in place.

        Raises:
            InputError: a task has no queries.
            RunError: the entropy is not finite.
        """
        _require([(q.task, len(q.inputs)) for q in queries])

        def loss(step: int) -> Tensor:
            batches = [q.inputs[self.rows(step, len(q.inputs))] for q in queries]
            features = model(torch.cat(batches).to(device())).float().cpu()
            parts = features.split([len(batch) for batch in batches])
            return _summed([q.logits for q in queries], parts)

        self.minimise(loss, parameters)

    def on_answers(
        self,
        mixed: Callable[[Answers, slice], Tensor],
        pool: Sequence[Answers],
        evaluation: Sequence[Answers],
        parameters: Iterable[Tensor],
    ) -> list[Tensor]:
        """Minimise the entropy of mixed outputs, as `on_queries` does, then mix others.

        Args:
            mixed: some of a task's answers, mixed.
            pool: the answers on which it is minimised, of every task.
            evaluation: the answers to mix with what was learnt.
            parameters: of the mixing, to be changed in place.

        Returns:
            (queries, dim) for every task.

        Raises:
            InputError: a task has no queries.
            RunError: the entropy is not finite.
        """
        _require([(answers.task, len(answers.outputs)) for answers in pool])

        def loss(step: int) -> Tensor:
            parts = [mixed(each, self.rows(step, len(each.outputs))) for each in pool]
            return _summed([each.logits for each in pool], parts)

        self.minimise(loss, parameters)
        with torch.no_grad():
            return [mixed(answers, slice(None)) for answers in evaluation]

    def rows(self, step: int, count: int) -> slice:
        """Which of a task's queries a step reads.

        Example:
            >>> search = Search(steps=3, lr=1e-3, batch_size=4)
            >>> [list(range(10)[search.rows(step, 10)]) for step in range(4)]
            [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8], [0, 3, 6, 9]]
        """
        turns = -(-count // self.batch_size)
        return slice(step % turns, None, turns)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of predictions, in nats: -mean_q sum_c p_qc log p_qc.

    Args:
        logits: (queries, classes).

    Example:
        >>> entropy(torch.zeros(3, 2))
        tensor(0.6931)
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def _summed(scores: Sequence[Score], outputs: Sequence[Tensor]) -> Tensor:
    pairs = zip(scores, outputs, strict=True)
    return torch.stack([entropy(score(part)) for score, part in pairs]).sum()


def _require(counts: Sequence[tuple[str, int]]) -> None:
    """Check that every task has queries.

    Raises:
        InputError: one has none, or there is no task.
    """
    lacking = [task for task, count in counts if count == 0]
    if lacking or not counts:
        whose = f"task {lacking[0]}" if lacking else "any task"
        raise InputError(f"there are no pool queries of {whose}; entropy is minimised on them")
