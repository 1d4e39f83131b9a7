"""Weight-ensembling mixture of experts: blocks whose task vectors are weighted for each sample."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.config.values import Number
from neulig_fl.core.errors import InputError
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Answers, Given, Needs
from neulig_fl.merging.methods._entropy import BatchSize, Rate, Search, Steps
from neulig_fl.merging.running_statistics import is_statistic
from neulig_fl.models.families import device

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neulig_fl.merging.methods._routed import Router

SOURCE = "arXiv:2402.00433"
NEEDS = Needs(each=("parameters",), start=True, queries=True, outputs=("pool", "evaluation"))
AGREES = False  # equal task vectors are added up, and the sum of their weights is learnt

MLP = re.compile(r"^(.+\.mlp)\.c_fc\.weight$")
BOTTLENECK = re.compile(r"^(.+)\.conv1\.weight$")
SPREAD = 0.01
"""Standard deviation of a router's first weights."""

First = Annotated[
    Number, Field(description="Weight of task vectors: a router's at first, and where none is.")
]


def model(
    given: Given,
    *,
    lambda_: First = 0.3,
    steps: Steps = 1000,
    lr: Rate = 1e-4,
    batch_size: BatchSize = 16,
) -> nn.Module:
    """Route the MLP blocks: theta_0 + sum_t r_t(h) (theta_t - theta_0), h the block's input.

    r(h) is the mean over tokens of W_2 relu(W_1 h + b_1) + b_2: one vector of weights for a sample
    and a block, neither clamped nor normalised. At first W_1, W_2 ~ N(0, 0.01^2), b_1 = 0, and
    b_2 = lambda; W_1 has as many outputs as inputs. All else (attention, embeddings, norms) is
    theta_0 + lambda sum_t (theta_t - theta_0). Routers learn by Adam so that the predictions'
    entropy, summed over the tasks, falls; the learning rate falls to 0 along half a cosine, as in
    the official code (FusionBench keeps it).

    Departures: the queries are the public pool's, where the paper adapts to the test inputs; a step
    reads them in turn and not at random. Each sample has its own r(h), in training too, as in the
    paper's formula; FusionBench's configuration trains routers by the mean of r(h) over the batch
    (`batch_reduce`). The paper starts from lambda = 0.3.

    On ResNets an extension of ours: of each bottleneck, the 1x1 convolutions are routed, which are
    linear layers at every position as an MLP's are; h are the channels of the bottleneck's input,
    and the mean is over positions. BatchNorm's weights go with the rest, by task arithmetic; its
    running statistics are averaged.

    Args:
        given: each client's parameters, theta_0, the architecture, and unlabelled queries.
        lambda_: weight of task vectors where nothing is routed, and a router's answer at first.
        steps: of the optimiser.
        lr: its learning rate at first.
        batch_size: queries of each task in a step.

    Returns:
        A model from inputs, (queries, 3, size, size), to features, (queries, dim), on the CPU.

    Raises:
        InputError: there is nothing to route in such a model, or no query.

    Source: arXiv:2402.00433, sections 3.2 (modules) and 3.3 (routers and their training).
    """
    search = Search(steps, lr, batch_size, annealed=True, on_step=given.on_step)
    routed = blocks(given.entries)
    network = _by_task_arithmetic(given, lambda_)
    routers = [_route(network, given, block, lambda_) for block in routed]
    network.to(device())
    parameters = [p.requires_grad_() for router in routers for p in router.parameters()]
    search.on_queries(network, given.queries(), parameters)
    return network.cpu().eval().requires_grad_(False)


def ensemble(
    pool: Sequence[Answers],
    evaluation: Sequence[Answers],
    *,
    lambda_: First = 0.3,
    steps: Steps = 1000,
    lr: Rate = 1e-4,
    batch_size: BatchSize = 16,
) -> list[Tensor]:
    """f_0 + sum_t r_t(z) (f_t - f_0), z the mean of the experts' outputs.

    The paper reports an ensemble of WeMoE and gives no rule for it; this one is ours. The router is
    linear, r(z) = W z + b, and starts at W = 0 and b = lambda, so that nothing is drawn.

    Args:
        pool: the outputs on which the router is trained, theta_0's among them, a task at a time.
        evaluation: the outputs to mix.
        lambda_: the router's answer at first.
        steps: of the optimiser.
        lr: its learning rate at first.
        batch_size: queries of each task in a step.

    Returns:
        (queries, dim) for every task.
    """
    search = Search(steps, lr, batch_size, annealed=True)
    _, experts, dim = pool[0].outputs.shape
    weight = torch.zeros(experts, dim, requires_grad=True)
    bias = torch.full((experts,), lambda_, requires_grad=True)

    def mixed(answers: Answers, rows: slice) -> Tensor:
        outputs, base = answers.outputs[rows], answers.base[rows]
        routed = outputs.mean(dim=1) @ weight.T + bias
        return base + torch.einsum("qtd,qt->qd", outputs - base[:, None], routed)

    return search.on_answers(mixed, pool, evaluation, [weight, bias])


def extension(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is routed in place of MLP blocks; None for a model that has those.

    Args:
        entries: shape of every floating entry of the model.
    """
    if any(MLP.match(name) for name in entries):
        return None
    return "the 1x1 convolutions of a ResNet's bottlenecks are routed as MLP blocks are"


def unfit(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why nothing can be routed in a model with these entries; None where something can."""
    try:
        blocks(entries)
    except InputError as error:
        return str(error)
    return None


def blocks(entries: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the blocks that are routed, in order: MLPs, or else bottlenecks.

    Raises:
        InputError: there is neither.

    Example:
        >>> blocks({"h.0.mlp.c_fc.weight": (8, 2), "h.0.mlp.c_proj.weight": (2, 8)})
        ['h.0.mlp']
    """
    mlps = [found[1] for name in entries if (found := MLP.match(name))]
    if mlps:
        return mlps
    first = [found[1] for name in entries if (found := BOTTLENECK.match(name))]
    bottlenecks = [name for name in first if f"{name}.conv3.weight" in entries]
    if not bottlenecks:
        raise InputError(
            "wemoe routes the MLP blocks of transformers (*.mlp.c_fc, *.mlp.c_proj) or the "
            "bottlenecks of ResNets (*.conv1, *.conv2, *.conv3), and this model has neither; "
            "leave wemoe out"
        )
    return bottlenecks


def _stack(given: Given, name: str) -> Tensor:
    """theta_0's value of an entry and the task vectors, (1 + T, ...)."""
    start = given.start(name)[None]
    return torch.cat([start, given.own(name) - start])


def _by_task_arithmetic(given: Given, lambda_: float) -> nn.Module:
    """The architecture with theta_0 + lambda sum_t tau_t, and averaged running statistics."""
    network = given.network()
    held = network.state_dict()
    for name in given.entries:
        own, start = given.own(name), given.start(name)
        moved = start + lambda_ * (own - start).sum(dim=0)
        held[name].copy_(own.mean(dim=0) if is_statistic(name) else moved)
    return network


def _route(network: nn.Module, given: Given, name: str, lambda_: float) -> Router:
    """Replace a block by a routed one; returns its router, at its first values.

    Every client has its own generator, so that the order of the clients does not matter.
    """
    from neulig_fl.merging.methods._routed import RoutedBlock, Router

    first = "c_fc" if f"{name}.c_fc.weight" in given.entries else "conv1"
    router = Router(given.entries[f"{name}.{first}.weight"][1], len(given.experts))
    with torch.no_grad():
        router.first.weight.normal_(std=SPREAD, generator=given.generator(name))
        router.first.bias.zero_()
        for row, client in zip(router.last.weight, given.experts, strict=True):
            row.normal_(std=SPREAD, generator=given.generator(f"{name}/{client}"))
        router.last.bias.fill_(lambda_)
    parent, _, last = name.rpartition(".")
    around = network.get_submodule(parent)
    attention = [m for m in around.children() if isinstance(m, torch.nn.MultiheadAttention)]
    batch_first = all(m.batch_first for m in attention)
    block = network.get_submodule(name)
    routed = RoutedBlock(block, router, lambda entry: _stack(given, f"{name}.{entry}"), batch_first)
    setattr(around, last, routed)
    return router
