"""AdaMerging: weights of task vectors, learnt on unlabelled queries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from encoders import answers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.merging.methods import Answers, Queries, StateDicts, adamerging, merged
from neulig_fl.merging.methods._entropy import Search

LR, EPS, DECAY_1, DECAY_2 = 0.05, 1e-8, 0.9, 0.999
TASKS = ("first", "second")
State = dict[str, Tensor]


class Three(nn.Module):
    """Convolution, BatchNorm, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Features, (queries, 5)."""
        return self.fc(self.bn(self.conv(x)).relu().mean(dim=(2, 3)))


def head(classes: int) -> Tensor:
    """A task's head, (classes, 5)."""
    return torch.randn(classes, 5, generator=torch.Generator().manual_seed(classes))


def score(classes: int) -> Callable[[Tensor], Tensor]:
    """A task's logits of features."""
    return lambda features: features @ head(classes).to(features.dtype).T


def states(count: int, seed: int = 0, spread: float = 0.4) -> list[State]:
    """A checkpoint and experts around it; statistics are lively, and variances above 0."""
    generator = torch.Generator().manual_seed(seed)
    entries = {k: v.shape for k, v in Three().state_dict().items() if v.is_floating_point()}
    start = {k: torch.randn(shape, generator=generator) for k, shape in entries.items()}
    start["bn.running_var"] = start["bn.running_var"].abs() + 0.5
    found = [start]
    for _ in range(count):
        moved = {
            k: v + spread * torch.randn(v.shape, generator=generator) for k, v in start.items()
        }
        moved["bn.running_var"] = moved["bn.running_var"].abs() + 0.1
        found.append(moved)
    return [{**state, "bn.num_batches_tracked": torch.tensor(i)} for i, state in enumerate(found)]


def source(start: State, experts: Sequence[State], sizes: Sequence[int] = (7, 5)) -> StateDicts:
    """Experts with two tasks of so many queries, of 2 and 3 classes."""
    generator = torch.Generator().manual_seed(9)
    pool = [
        Queries(task, torch.randn(size, 3, 6, 6, generator=generator), score(2 + i))
        for i, (task, size) in enumerate(zip(TASKS, sizes, strict=True))
    ]
    named = {f"e{i}": expert for i, expert in enumerate(experts)}
    return StateDicts(named, checkpoint=start, architecture=Three, pool=pool)


# ---------------------------------------------------------------- slow and obvious, float64


def slow_entropy(logits: Tensor) -> Tensor:
    """The mean over queries of -sum_c p log p, one query after the other."""
    total = torch.zeros((), dtype=torch.float64)
    for row in logits:
        p = row.exp() / row.exp().sum()
        total = total - sum(x * x.log() for x in p)
    return total / len(logits)


def slow_entry(name: str, start: State, experts: Sequence[State], weights: Sequence[Any]) -> Tensor:
    """theta_0 + sum_t lambda_t tau_t; a variance not below the least of the models'."""
    value = start[name].double()
    for expert, weight in zip(experts, weights, strict=True):
        value = value + weight.clamp(0, 1) * (expert[name].double() - start[name].double())
    if name == "bn.running_var":
        models = [start, *experts]
        least = torch.stack([model[name].double() for model in models]).min(dim=0).values
        value = torch.where(value < least, least, value)
    return value


def slow_features(entries: State, x: Tensor) -> Tensor:
    """The network by its formulas."""
    h = nn.functional.conv2d(x.double(), entries["conv.weight"], entries["conv.bias"], stride=2)
    h = torch.stack(
        [
            (h[:, c] - entries["bn.running_mean"][c])
            / (entries["bn.running_var"][c] + 1e-5).sqrt()
            * entries["bn.weight"][c]
            + entries["bn.bias"][c]
            for c in range(4)
        ],
        dim=1,
    )
    pooled = h.clamp(min=0).flatten(2).mean(dim=2)
    return pooled @ entries["fc.weight"].T + entries["fc.bias"]


def slow_adam(
    loss: Callable[[int, list[Tensor]], Tensor], values: list[Tensor], steps: int, lr: float
) -> None:
    """Adam by its formulas, one number at a time."""
    means, squares = [0.0] * len(values), [0.0] * len(values)
    for step in range(steps):
        slopes = torch.autograd.grad(loss(step, values), values)
        for i, slope in enumerate(float(s) for s in slopes):
            means[i] = DECAY_1 * means[i] + (1 - DECAY_1) * slope
            squares[i] = DECAY_2 * squares[i] + (1 - DECAY_2) * slope**2
            mean = means[i] / (1 - DECAY_1 ** (step + 1))
            square = squares[i] / (1 - DECAY_2 ** (step + 1))
            with torch.no_grad():
                values[i] -= lr * mean / (math.sqrt(square) + EPS)


def turn(count: int, batch_size: int, step: int) -> list[int]:
    """Which queries a step reads: evenly spaced ones, from the next one on."""
    turns = math.ceil(count / batch_size)
    return [i for i in range(count) if i % turns == step % turns]


def slow(given: StateDicts, level: str, first: float, steps: int, batch_size: int) -> State:
    """The method: a number for each client, or each client and entry."""
    start, experts = dict(given.checkpoint or {}), list(given.models.values())
    names = [name for name, value in start.items() if value.is_floating_point()]
    keys = [(n if level == "layer" else "", i) for n in names for i in range(len(experts))]
    keys = list(dict.fromkeys(keys))
    values = [torch.tensor(first, dtype=torch.float64, requires_grad=True) for _ in keys]

    def entries(values: list[Tensor]) -> State:
        weight = dict(zip(keys, values, strict=True))
        of = [
            [weight[n if level == "layer" else "", i] for i in range(len(experts))] for n in names
        ]
        return {n: slow_entry(n, start, experts, w) for n, w in zip(names, of, strict=True)}

    def loss(step: int, values: list[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for queries in given.pool:
            rows = turn(len(queries.inputs), batch_size, step)
            features = slow_features(entries(values), queries.inputs[rows])
            total = total + slow_entropy(queries.logits(features))
        return total

    slow_adam(loss, values, steps, LR)
    return {name: value.detach() for name, value in entries(values).items()}


@pytest.mark.parametrize("level", ["task", "layer"])
@pytest.mark.parametrize(("first", "spread"), [(0.3, 0.2), (0.96, 0.2), (0.02, 0.2), (0.9, 0.6)])
def test_it_is_the_papers_rule(level: str, first: float, spread: float) -> None:
    """Weights, gradients, clamps, variances or Adam would not be the paper's."""
    start, *experts = states(3, spread=spread)
    known = source(start, experts)
    options = {"level": level, "lambda": first, "steps": 4, "lr": LR, "batch_size": 3}
    found = merged("adamerging", known, **options)
    for name, value in slow(known, level, first, steps=4, batch_size=3).items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-5)


def test_the_golden_cases_reach_clamps_and_the_least_variance() -> None:
    """The cases above would not see a wrong clamp, or a variance that falls below 0."""
    start, *experts = states(3, spread=0.6)
    start_var = start["bn.running_var"]
    added = start_var + 0.9 * sum(e["bn.running_var"] - start_var for e in experts)
    assert (added < 0).any()
    high = merged("adamerging", source(start, experts), **{"lambda": 1.0, "steps": 1, "lr": 0.5})
    least = torch.stack([m["bn.running_var"] for m in (start, *experts)]).amin(dim=0)
    assert (high["bn.running_var"] >= least).all()
    assert (high["bn.running_var"] == least).any()


# ---------------------------------------------------------------- laws


def entropies(known: StateDicts, entries: State) -> float:
    """The sum over the tasks of a model's entropy on all their queries."""
    network = Three().eval()
    network.load_state_dict(entries)
    with torch.no_grad():
        return float(sum(slow_entropy(q.logits(network(q.inputs)).double()) for q in known.pool))


@pytest.mark.parametrize("level", ["task", "layer"])
def test_predictions_become_certain(level: str) -> None:
    """The weights would be learnt, and for the worse."""
    start, *experts = states(3)
    known = source(start, experts)
    before = entropies(known, merged("task-arithmetic", known))
    after = entropies(known, merged("adamerging", known, level=level, steps=30, lr=0.01))
    assert after < 0.95 * before


@pytest.mark.parametrize("level", ["task", "layer"])
def test_without_learning_it_is_task_arithmetic(level: str) -> None:
    """Its start would be another than the one that it is compared with, statistics apart."""
    start, *experts = states(2, spread=0.1)
    known = source(start, experts)
    found = merged("adamerging", known, level=level, **{"lambda": 0.4, "steps": 1, "lr": 1e-12})
    wanted = merged("task-arithmetic", known, **{"lambda": 0.4})
    for name, value in wanted.items():
        if not name.endswith(("running_mean", "running_var")):  # those are averaged there
            torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("level", ["task", "layer"])
def test_the_order_of_the_clients_does_not_matter(level: str) -> None:
    """A client would gain by standing first."""
    start, *experts = states(4)
    known = source(start, experts)
    other = replace(known, models=dict(reversed(known.models.items())))
    options = {"level": level, "steps": 10, "lr": 0.02}
    first, second = (merged("adamerging", each, **options) for each in (known, other))
    for name, value in first.items():
        if value.is_floating_point():
            torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", ["task", "layer"])
def test_identical_experts_give_a_model_on_the_line_to_them(level: str) -> None:
    """Entries would be mixed with those of other entries, or levels be mixed up."""
    start, expert = states(1, spread=0.2)
    expert["bn.running_var"] = start["bn.running_var"] + 0.5
    found = merged("adamerging", source(start, [expert] * 2), level=level, steps=12, lr=0.02)
    steps = []
    for name in found:
        if found[name].is_floating_point():
            along = (found[name] - start[name]) / (expert[name] - start[name])
            assert along.std() < 2e-4
            steps.append(float(along.median()))
    spread = max(steps) - min(steps)
    assert spread < 1e-4 if level == "task" else spread > 0.05


def test_an_expert_that_learnt_nothing_changes_nothing() -> None:
    """A client without a task vector would move the others' weights."""
    start, *experts = states(2)
    options: dict[str, Any] = {"steps": 10, "lr": 0.02}
    alone = merged("adamerging", source(start, experts), **options)
    with_it = merged("adamerging", source(start, [start, *experts]), **options)
    for name, value in alone.items():
        if value.is_floating_point():
            torch.testing.assert_close(with_it[name], value, rtol=1e-5, atol=1e-5)


def test_nothing_is_drawn() -> None:
    """Two runs, or runs of two seeds, would differ for no reason that a reader could see."""
    start, *experts = states(3)
    known = source(start, experts)
    first = merged("adamerging", known, steps=3, lr=0.02)
    torch.manual_seed(1)
    second = merged("adamerging", replace(known, seed=5), steps=3, lr=0.02)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# ---------------------------------------------------------------- batches and steps


@given(st.integers(1, 400), st.integers(1, 64))
def test_every_query_is_read_once_in_a_round(count: int, batch_size: int) -> None:
    """Some queries would never be read, or a batch be larger than was said."""
    search = Search(steps=1, lr=1.0, batch_size=batch_size)
    turns = math.ceil(count / batch_size)
    batches = [list(range(count)[search.rows(step, count)]) for step in range(turns)]
    assert sorted(query for batch in batches for query in batch) == list(range(count))
    assert max(map(len, batches)) <= batch_size
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    assert list(range(count)[search.rows(turns, count)]) == batches[0]


@settings(max_examples=20)
@given(st.integers(1, 9), st.booleans())
def test_steps_are_adams_along_half_a_cosine(steps: int, annealed: bool) -> None:
    """WeMoE would keep the learning rate that the official code lets fall, or AdaMerging not."""
    value = torch.tensor(0.0, requires_grad=True)
    Search(steps, LR, 1, annealed).minimise(lambda step: -value, [value])
    # Adam's step is the learning rate, where the slope is always the same.
    rates = [0.5 * (1 + math.cos(math.pi * k / steps)) if annealed else 1.0 for k in range(steps)]
    assert float(value.detach()) == pytest.approx(LR * sum(rates), rel=1e-4)


# ---------------------------------------------------------------- ensemble


@pytest.mark.parametrize("first", [0.3, 0.97])
def test_the_ensemble_is_learnt_on_the_pool(first: float) -> None:
    """The outputs would be mixed with other weights than entropy gives."""
    pool, evaluation = [answers(1, 7), answers(2, 4)], [answers(3, 2), answers(4, 3)]
    found = adamerging.ensemble(pool, evaluation, lambda_=first, steps=4, lr=LR, batch_size=3)
    values = [torch.tensor(first, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def mixed(task: Answers, rows: Sequence[int], values: list[Tensor]) -> Tensor:
        base = task.base.double()
        moved = [
            base[q]
            + sum(w.clamp(0, 1) * (task.outputs[q, t] - base[q]) for t, w in enumerate(values))
            for q in rows
        ]
        return torch.stack(moved)

    def loss(step: int, values: list[Tensor]) -> Tensor:
        each = [mixed(t, turn(len(t.outputs), 3, step), values) for t in pool]
        return sum(
            (slow_entropy(t.logits(m)) for t, m in zip(pool, each, strict=True)),
            torch.zeros((), dtype=torch.float64),
        )

    slow_adam(loss, values, 4, LR)
    for one, task in zip(found, evaluation, strict=True):
        wanted = mixed(task, range(len(task.outputs)), values).detach()
        torch.testing.assert_close(one.double(), wanted, rtol=1e-5, atol=1e-5)
        assert not one.requires_grad


def test_an_ensemble_without_a_pool_is_refused() -> None:
    """Weights would be taken as learnt that nothing was learnt for."""
    with pytest.raises(InputError, match="no pool queries of task t2"):
        adamerging.ensemble([answers(1, 7), answers(2, 0)], [answers(3, 2)])


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("key", "value"),
    [("level", "entry"), ("lambda", 1.5), ("lambda", -0.1), ("steps", 0), ("lr", 0.0),
     ("batch_size", 0)],
)  # fmt: skip
def test_bad_options_are_refused(key: str, value: Any) -> None:
    """A typing mistake would be a long run with a meaningless result."""
    start, *experts = states(2)
    with pytest.raises(InputError, match=f"option {key} of adamerging"):
        merged("adamerging", source(start, experts), **{key: value})


def test_a_task_without_queries_is_refused() -> None:
    """One task's experts would be weighted by the others' queries, and nobody would know."""
    start, *experts = states(2)
    with pytest.raises(InputError, match="no pool queries of task second"):
        merged("adamerging", source(start, experts, sizes=(3, 0)))


def test_entropy_that_is_no_number_stops_it() -> None:
    """A model of NaN would be handed on."""
    start, *experts = states(2)
    known = source(start, experts)
    known.pool[0].inputs[2] = torch.nan
    with pytest.raises(RunError, match=r"entropy is nan at step 1 of 500; lower the method's lr"):
        merged("adamerging", known)


def test_batch_norm_is_marked_as_an_extension() -> None:
    """A reader would take the rule on ResNets for the paper's."""
    assert adamerging.extension({"conv1.weight": (8, 3, 4, 4), "ln.weight": (8,)}) is None
    assert "running statistics" in str(adamerging.extension({"bn1.running_var": (8,)}))
