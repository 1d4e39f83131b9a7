"""Portland: one linear layer and a softmax that turn the experts' outputs into a CoopVec.

    beta(x) = softmax(W [z_1; ...; z_T] + b)

It is trained on released records alone. The boosting term makes the ensemble good (Eq. 6 or 7), the
alignment term is meant to bring merging in line with it (Eq. 8 or 5):

    L = alpha * boosting + beta * alignment                                            (Eq. 9)

`objective_on` is an extension, not the paper's: the boosting term can judge the merged models of
the training queries, f(sum_t beta_t(x) theta_t, x), instead of the ensemble, or both.

Source: Li, Yu, Wang, "Multi-Level Collaboration in Model Merging", arXiv:2503.01268, section 3.3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neulig_fl.config.scenario import PortlandOptions
from neulig_fl.core.errors import RunError
from neulig_fl.metrics.concentration import effective_experts
from neulig_fl.models.outputs import classify

EpochMeans = dict[str, float | None]
"""An epoch's means, by name; accuracy in percent, None without labels."""


@dataclass(frozen=True)
class Portland:
    """A trained Portland.

    Args:
        weight: W, (experts, experts * outputs).
        bias: b, (experts,).
        experts: the clients' names, in the order of the inputs and of the CoopVec's entries.
    """

    weight: Tensor
    bias: Tensor
    experts: tuple[str, ...]

    def log_coopvecs(self, outputs: Tensor) -> Tensor:
        """Logarithms of the CoopVecs.

        Args:
            outputs: the experts' outputs, (queries, experts, dim).

        Returns:
            (queries, experts); the exponentials of a row sum to 1.
        """
        return torch.log_softmax(outputs.flatten(1) @ self.weight.T + self.bias, dim=1)

    def coopvecs(self, outputs: Tensor) -> Tensor:
        """CoopVecs beta, (queries, experts)."""
        return self.log_coopvecs(outputs).exp()


MergedLogits = Callable[[Tensor, Tensor], Tensor]
"""Logits of merged models, differentiable in the CoopVecs: of (query positions, CoopVecs)."""


@dataclass(frozen=True)
class TrainingQueries:
    """What Portland learns from in one task.

    Args:
        outputs: (queries, experts, dim).
        head: (classes, dim) for features; None when the outputs are logits already.
        columns: the classes that compete, as a slice of the logits; all of them when None.
        labels: (queries,) int64, in the label space; None when there are no labels.
        merged: logits of the queries' merged models, over the classes that compete; needed for an
            `objective_on` other than `ensemble`.
    """

    outputs: Tensor
    head: Tensor | None
    columns: slice | None
    labels: Tensor | None
    merged: MergedLogits | None = None


@dataclass(frozen=True)
class Fit:
    """A trained Portland and how it came about.

    Args:
        portland: the result.
        trajectory: one entry an epoch, as in the report.
        seconds: training time.
        samples: queries seen, over all epochs.
    """

    portland: Portland
    trajectory: list[dict[str, Any]]
    seconds: float
    samples: int


def standardised_offset_sums(sums: Tensor) -> Tensor:
    """xi*: the experts' offset sums with mean 0 and unbiased standard deviation 1.

    Subtracting the mean of the sums is the same as summing theta_t - theta_bar, because theta_bar
    is the unweighted mean. Equal experts have no offset: all zeros.

    Args:
        sums: each expert's parameter sum, float64 of shape (experts,).

    Example:
        >>> standardised_offset_sums(torch.tensor([1.0, 3.0]))
        tensor([-0.7071,  0.7071])
    """
    centred = sums - sums.mean()
    deviation = sums.std(unbiased=True)
    # The mean of equal sums is off by rounding; that is no offset.
    if not deviation > 1e-12 * sums.abs().max():
        return torch.zeros_like(sums, dtype=torch.float32)
    return (centred / deviation).float()


def mix(coopvecs: Tensor, outputs: Tensor) -> Tensor:
    """The ensemble's outputs: sum_t beta_t z_t.

    Args:
        coopvecs: (queries, experts).
        outputs: (queries, experts, dim).

    Returns:
        (queries, dim).
    """
    return torch.einsum("qt,qtd->qd", coopvecs, outputs)


def to_logits(mixed: Tensor, head: Tensor | None, columns: slice | None) -> Tensor:
    """Logits of mixed outputs.

    Args:
        mixed: mixed features, or mixed logits when there is no head.
        head: (classes, dim), or None.
        columns: which classes compete; None for all.
    """
    if head is not None:
        return classify(mixed, head)
    return mixed if columns is None else mixed[:, columns]


def boosting(logits: Tensor, labels: Tensor | None) -> Tensor:
    """The boosting term, in nats: cross-entropy (Eq. 6), or entropy without labels (Eq. 7).

    The released code has log(p + 1e-6) in the entropy; here it is log p.
    """
    if labels is not None:
        return nn.functional.cross_entropy(logits, labels)
    log_p = torch.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def alignment(coopvecs: Tensor, offsets: Tensor, rule: str) -> Tensor:
    """The alignment term, averaged over queries.

    Args:
        coopvecs: (queries, experts).
        offsets: xi*, (experts,).
        rule: `paper` is Eq. 8, sum_t (beta_t xi*_t)^2; `code` is Eq. 5 squared,
            (sum_t beta_t xi*_t)^2; `none` is 0. The released code's xi* counts BatchNorm's
            `num_batches_tracked` in; ours is of floating entries under every rule.

    Example:
        >>> beta, xi = torch.tensor([[0.5, 0.5]]), torch.tensor([-1.0, 1.0])
        >>> alignment(beta, xi, "paper"), alignment(beta, xi, "code")
        (tensor(0.5000), tensor(0.))
    """
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "paper": lambda weighted: weighted.square().sum(dim=1),
        "code": lambda weighted: weighted.sum(dim=1).square(),
        "none": lambda weighted: torch.zeros(len(weighted)),
    }
    return rules[rule](coopvecs * offsets).mean()


@dataclass(frozen=True)
class Batch:
    """Some of a task's queries in one step of training.

    Args:
        task: all queries of the task.
        rows: which of them, (queries,).
        outputs: the experts' outputs, (queries, experts, dim).
        coopvecs: Portland's, (queries, experts).
    """

    task: TrainingQueries
    rows: Tensor
    outputs: Tensor
    coopvecs: Tensor


def ensembled_logits(batch: Batch) -> Tensor:
    """The ensemble's logits, (queries, classes)."""
    return to_logits(mix(batch.coopvecs, batch.outputs), batch.task.head, batch.task.columns)


def merged_logits(batch: Batch) -> Tensor:
    """The merged models' logits, (queries, classes).

    Raises:
        RunError: the task has no merged models.
    """
    if batch.task.merged is None:
        raise RunError(
            "Portland cannot be trained through merged models: none were given for a task's "
            "queries; set portland.objective_on to ensemble"
        )
    return batch.task.merged(batch.rows, batch.coopvecs)


def logits_of_both(batch: Batch) -> Tensor:
    """The ensemble's logits, then the merged models': a mean over all is the mean of the two."""
    return torch.cat([ensembled_logits(batch), merged_logits(batch)])


JUDGED: dict[str, Callable[[Batch], Tensor]] = {
    "ensemble": ensembled_logits,
    "merge": merged_logits,
    "both": logits_of_both,
}
"""What the boosting term judges, by `objective_on`."""


def batches(
    sizes: Sequence[int], batch_size: int, generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    """One epoch: the tasks in turn, each task's queries in random order, until none is left.

    The released code ends an epoch when the first task has no batch left, and takes 1,000 epochs.

    Yields:
        The task's index and the batch's query indices.
    """
    shuffled = [torch.randperm(n, generator=generator).split(batch_size) for n in sizes]
    for turn in range(max((len(s) for s in shuffled), default=0)):
        for index, parts in enumerate(shuffled):
            if turn < len(parts) and sizes[index]:
                yield index, parts[turn]


def train(
    queries: Sequence[TrainingQueries],
    offsets: Tensor,
    experts: Sequence[str],
    options: PortlandOptions,
    generator: torch.Generator,
    on_epoch: Callable[[int, Portland, EpochMeans], None] = lambda epoch, portland, means: None,
) -> Fit:
    """Train Portland with Adam on released outputs.

    Args:
        queries: one entry a task; they take turns.
        offsets: xi*, (experts,); ignored with `alignment: none`.
        experts: the clients' names, in the order of the outputs.
        options: objective and what it is on, weights of the terms, epochs, learning rate, batch
            size.
        generator: for the first weights and the order of the queries.
        on_epoch: called after every epoch with (epochs done, Portland so far, the epoch's means).

    Raises:
        RunError: merged models are asked for, and a task has none; or the training diverges, to a
            loss or to weights that are not finite.
    """
    inputs = queries[0].outputs[0].numel()
    bound = inputs**-0.5
    layer = nn.Linear(inputs, len(experts))
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    optimiser = torch.optim.Adam(layer.parameters(), lr=options.lr)
    trajectory, samples, spent = [], 0, 0.0
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        tally = _Tally()
        for index, rows in batches(
            [len(q.outputs) for q in queries], options.batch_size, generator
        ):
            _step(layer, optimiser, queries[index], rows, offsets, options, tally)
        spent += time.perf_counter() - start
        samples += tally.queries
        means = tally.means()
        _require_finite(layer, means["loss"], epoch, options)
        trajectory.append({"epoch": epoch, **means})
        on_epoch(epoch, _frozen(layer, experts), means)
    return Fit(_frozen(layer, experts), trajectory, spent, samples)


def _require_finite(
    layer: nn.Linear, loss: float | None, epoch: int, options: PortlandOptions
) -> None:
    """Refuse a Portland whose CoopVecs would be no numbers."""
    whole = all(bool(torch.isfinite(each).all()) for each in layer.parameters())
    if loss is not None and math.isfinite(loss) and whole:
        return
    raise RunError(
        f"Portland diverged in epoch {epoch}: its loss is {loss}, its weights are "
        f"{'finite' if whole else 'not finite'}; lower portland.lr ({options.lr:g}), and "
        f"portland.alpha ({options.alpha:g}) and portland.beta ({options.beta:g}) where they are "
        "large"
    )


def _frozen(layer: nn.Linear, experts: Sequence[str]) -> Portland:
    return Portland(layer.weight.detach().clone(), layer.bias.detach().clone(), tuple(experts))


def _step(
    layer: nn.Linear,
    optimiser: torch.optim.Optimizer,
    task: TrainingQueries,
    rows: Tensor,
    offsets: Tensor,
    options: PortlandOptions,
    tally: _Tally,
) -> None:
    outputs = task.outputs[rows]
    coopvecs = torch.softmax(layer(outputs.flatten(1)), dim=1)
    logits = JUDGED[options.objective_on](Batch(task, rows, outputs, coopvecs))
    labels = None if task.labels is None else task.labels[rows]
    if labels is not None and len(logits) > len(labels):
        labels = labels.repeat(len(logits) // len(labels))
    boost = boosting(logits, labels)
    align = alignment(coopvecs, offsets, options.alignment)
    loss = options.alpha * boost + options.beta * align
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    tally.add(loss, boost, align, coopvecs, logits, labels)


class _Tally:
    """Sums over an epoch, weighted by batch size, kept as tensors until the epoch ends."""

    def __init__(self) -> None:
        self.queries = 0
        self._labelled = True
        self._sums = torch.zeros(5, dtype=torch.float64)

    @torch.no_grad()
    def add(
        self,
        loss: Tensor,
        boost: Tensor,
        align: Tensor,
        coopvecs: Tensor,
        logits: Tensor,
        labels: Tensor | None,
    ) -> None:
        """Count one batch."""
        n = len(coopvecs)
        self.queries += n
        self._labelled = labels is not None
        right = (
            torch.zeros(()) if labels is None else (logits.argmax(1) == labels).sum() / len(labels)
        )
        spread = effective_experts(coopvecs).mean()
        self._sums += n * torch.stack([loss, boost, align, right, spread]).double()

    def means(self) -> EpochMeans:
        """What the epoch came to."""
        loss, boost, align, right, spread = (self._sums / max(1, self.queries)).tolist()
        return {
            "loss": loss,
            "boosting": boost,
            "alignment": align,
            "accuracy": 100.0 * right if self._labelled else None,
            "effective_experts": spread,
        }
