"""AdaMerging: task vectors with weights that make predictions on unlabelled queries certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from neulig_fl.config.values import Number
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Answers, Entries, Given, Needs
from neulig_fl.merging.methods._entropy import BatchSize, Rate, Search, Steps
from neulig_fl.merging.methods._variances import least_variance
from neulig_fl.models.families import device

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2310.02575"
NEEDS = Needs(each=("parameters",), start=True, queries=True, outputs=("pool", "evaluation"))
AGREES = False  # equal task vectors are added up, and the sum of their weights is learnt

Level = Annotated[
    Literal["task", "layer"],
    Field(description="One weight for each client, or for each client and entry."),
]
First = Annotated[Number, Field(ge=0, le=1, description="Every task vector's weight at first.")]


def merge(
    given: Given,
    *,
    level: Level = "layer",
    lambda_: First = 0.3,
    steps: Steps = 500,
    lr: Rate = 1e-3,
    batch_size: BatchSize = 16,
) -> Entries:
    """Add weighted task vectors: theta^l = theta_0^l + sum_t lambda_t^l (theta_t^l - theta_0^l).

    The weights minimise sum_t H(f_theta, queries of task t), the entropy of predictions on
    unlabelled queries, by Adam from lambda = 0.3. They are clamped to [0, 1] where they are used,
    as in the official code (FusionBench has that as an option, off). A layer is an entry of the
    state dict, as there.

    Departures: the queries are the public pool's, where the paper adapts to the test inputs
    themselves; a step reads 16 of a task, as the paper says (the official code's loop reads 32 of
    them), in turn and not at random. FusionBench runs 1000 steps, the official code 500.

    BatchNorm's running statistics are entries like others, with weights of their own. The sum of
    weights can be above 1, and a merged variance below 0: none falls below the least variance of
    the experts and theta_0 in its channel.

    Args:
        given: each client's parameters, theta_0, the architecture, and unlabelled queries.
        level: `task` for one weight a client, `layer` for one a client and entry.
        lambda_: every weight at first.
        steps: of the optimiser.
        lr: its learning rate.
        batch_size: queries of each task in a step.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2310.02575, section 3.2 (task-wise and layer-wise AdaMerging) and 3.3 (entropy).
    """
    search = Search(steps, lr, batch_size, on_step=given.on_step)
    vectors = _TaskVectors.of(given)
    layers = len(given.entries) if level == "layer" else 1
    weights = torch.full((layers, len(given.experts)), lambda_, device=device())
    _learn(weights, given, vectors, search)
    for name, value in vectors.merged(weights).items():
        yield name, value.cpu()


def ensemble(
    pool: Sequence[Answers],
    evaluation: Sequence[Answers],
    *,
    lambda_: First = 0.3,
    steps: Steps = 500,
    lr: Rate = 1e-3,
    batch_size: BatchSize = 16,
) -> list[Tensor]:
    """f_0 + sum_t lambda_t (f_t - f_0), the weights by entropy minimisation on the pool's outputs.

    The paper reports an ensemble of AdaMerging and gives no rule for it; this one is ours. Outputs
    have one layer only, so that there is one weight for each client, whatever the level.

    Args:
        pool: the outputs on which the weights are learnt, theta_0's among them, a task at a time.
        evaluation: the outputs to mix.
        lambda_: every weight at first.
        steps: of the optimiser.
        lr: its learning rate.
        batch_size: queries of each task in a step.

    Returns:
        (queries, dim) for every task.
    """
    search = Search(steps, lr, batch_size)
    weights = torch.full((pool[0].outputs.shape[1],), lambda_, requires_grad=True)

    def mixed(answers: Answers, rows: slice) -> Tensor:
        base = answers.base[rows]
        moved = answers.outputs[rows] - base[:, None]
        return base + torch.einsum("qtd,t->qd", moved, weights.clamp(0, 1))

    return search.on_answers(mixed, pool, evaluation, [weights])


def extension(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is added to the rule for a model with BatchNorm; None for other models.

    Args:
        entries: shape of every floating entry of the model.
    """
    if not any(name.endswith("running_var") for name in entries):
        return None
    return (
        "BatchNorm's running statistics are merged with weights of their own, and a variance does "
        "not fall below the least of the models'"
    )


@dataclass(frozen=True)
class _TaskVectors:
    """What is weighted, kept through all steps.

    Args:
        start: theta_0, by entry.
        own: the experts' task vectors, (experts, *shape), by entry.
        least: of entries that are variances, what they must not fall below.
    """

    start: dict[str, Tensor]
    own: dict[str, Tensor]
    least: dict[str, Tensor]

    @classmethod
    def of(cls, given: Given) -> _TaskVectors:
        """Those of the clients."""
        found = cls({}, {}, {})
        for name in given.entries:
            own, start = given.own(name).to(device()), given.start(name).to(device())
            found.start[name], found.own[name] = start, own - start
            if name.endswith("running_var"):
                found.least[name] = least_variance(own, start)
        return found

    def merged(self, weights: Tensor) -> dict[str, Tensor]:
        """Every entry of the merged model; weights are (entries, experts), or (1, experts)."""
        rows = weights.clamp(0, 1).expand(len(self.start), -1)
        found = {}
        for (name, start), row in zip(self.start.items(), rows, strict=True):
            moved = row @ self.own[name].flatten(1) if start.dim() else row @ self.own[name]
            value = start + moved.view(start.shape)
            found[name] = value.maximum(self.least[name]) if name in self.least else value
        return found


def _learn(weights: Tensor, given: Given, vectors: _TaskVectors, search: Search) -> None:
    """Change the weights in place so that the merged model's entropy falls."""
    from neulig_fl.merging.inference.by_hand import BatchNormByHand

    network = given.network().to(device())
    weights.requires_grad_()

    def model(inputs: Tensor) -> Tensor:
        with BatchNormByHand():
            features: Tensor = torch.func.functional_call(
                network, vectors.merged(weights), (inputs,)
            )
        return features

    search.on_queries(model, given.queries(), [weights])
    weights.requires_grad_(False)
