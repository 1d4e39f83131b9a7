"""Portland: its terms against slow formulas, its gradient against finite differences."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.scenario import PortlandOptions
from neulig_fl.core.errors import RunError
from neulig_fl.merging import portland
from neulig_fl.merging.portland import (
    Portland,
    TrainingQueries,
    alignment,
    batches,
    standardised_offset_sums,
)

EXPERTS = ("ada", "bob", "cyd")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _queries(
    outputs: str = "features", labelled: bool = True, seed: int = 0, rows: int = 5
) -> TrainingQueries:
    """Random outputs of three experts: 4 features and 3 classes, or 5 logits of which 3 compete."""
    generator = _generator(seed)
    width = 4 if outputs == "features" else 5
    return TrainingQueries(
        outputs=torch.randn(rows, 3, width, generator=generator, dtype=torch.float64),
        head=(
            2 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
            if outputs == "features"
            else None
        ),
        columns=None if outputs == "features" else slice(1, 4),
        labels=torch.randint(3, (rows,), generator=generator) if labelled else None,
    )


# ---------------------------------------------------------------- the loss, one number at a time


def _softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def _slow_loss(
    weight: np.ndarray, bias: np.ndarray, task: TrainingQueries, xi: list[float], rule: str,
    alpha: float, beta: float,
) -> float:  # fmt: skip
    """Eq. 9 with loops: alpha * (Eq. 6 or 7) + beta * (Eq. 8, or Eq. 5 squared)."""
    total = 0.0
    for q, outputs in enumerate(task.outputs.tolist()):
        flat = list(itertools.chain(*outputs))
        coop = _softmax([sum(w * z for w, z in zip(row, flat, strict=True)) + b
                         for row, b in zip(weight, bias, strict=True)])  # fmt: skip
        mixed = [
            sum(c * o[d] for c, o in zip(coop, outputs, strict=True))
            for d in range(len(outputs[0]))
        ]
        if task.head is not None:
            length = math.sqrt(sum(m * m for m in mixed))
            mixed = [
                sum(h * m / length for h, m in zip(row, mixed, strict=True))
                for row in task.head.tolist()
            ]
        else:
            mixed = mixed[task.columns]
        p = _softmax(mixed)
        if task.labels is None:
            boost = -sum(v * math.log(v) for v in p)
        else:
            boost = -math.log(p[int(task.labels[q])])
        if rule == "paper":
            align = sum((c * x) ** 2 for c, x in zip(coop, xi, strict=True))
        elif rule == "code":
            align = sum(c * x for c, x in zip(coop, xi, strict=True)) ** 2
        else:
            align = 0.0
        total += alpha * boost + beta * align
    return total / len(task.outputs)


@pytest.mark.parametrize("rule", ["paper", "code", "none"])
@pytest.mark.parametrize("labelled", [True, False], ids=["supervised", "semi"])
@pytest.mark.parametrize("outputs", ["features", "logits"])
def test_the_gradient_is_that_of_equation_nine(outputs: str, labelled: bool, rule: str) -> None:
    """Without it Portland would learn something else than the paper's objective."""
    task = _queries(outputs, labelled)
    xi = [-1.1, 0.3, 0.8]
    options = PortlandOptions(alpha=0.7, beta=0.9, alignment=rule)  # type: ignore[arg-type]
    layer = torch.nn.Linear(task.outputs[0].numel(), 3, dtype=torch.float64)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=_generator(3), dtype=torch.float64) * 0.3)
    before = [p.detach().clone().numpy() for p in layer.parameters()]
    tally = portland._Tally()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    rows = torch.arange(len(task.outputs))
    portland._step(
        layer, optimiser, task, rows, torch.tensor(xi, dtype=torch.float64), options, tally
    )

    weight, bias = before
    slow = lambda w, b: _slow_loss(w, b, task, xi, rule, 0.7, 0.9)  # noqa: E731
    assert tally.means()["loss"] == pytest.approx(slow(weight, bias), rel=1e-6)
    found = weight - layer.weight.detach().numpy()
    for place in [(0, 0), (1, 3), (2, weight.shape[1] - 1)]:
        step = np.zeros_like(weight)
        step[place] = 1e-5
        numeric = (slow(weight + step, bias) - slow(weight - step, bias)) / 2e-5
        assert found[place] == pytest.approx(numeric, rel=1e-4, abs=1e-8)
    step_b = np.array([0.0, 1e-5, 0.0])
    numeric = (slow(weight, bias + step_b) - slow(weight, bias - step_b)) / 2e-5
    assert (bias - layer.bias.detach().numpy())[1] == pytest.approx(numeric, rel=1e-4, abs=1e-8)


def test_equation_eight_and_equation_five_differ_in_sign_cancellation() -> None:
    """Without it `code` and `paper` could be the same rule under two names."""
    beta, xi = torch.tensor([[0.25, 0.75], [0.5, 0.5]]), torch.tensor([-1.0, 1.0])
    assert alignment(beta, xi, "paper").item() == pytest.approx((0.0625 + 0.5625 + 0.25 + 0.25) / 2)
    assert alignment(beta, xi, "code").item() == pytest.approx(0.25 / 2)
    assert alignment(beta, xi, "none").item() == 0.0
    with pytest.raises(KeyError):
        alignment(beta, xi, "papre")


def test_with_two_experts_the_paper_rule_only_pulls_the_weights_together() -> None:
    """Without it the docs' remark on two experts would be untrue."""
    xi = standardised_offset_sums(torch.tensor([3.0, 11.0], dtype=torch.float64))
    weights = torch.linspace(0, 1, 11)
    losses = [alignment(torch.tensor([[w, 1 - w]]), xi, "paper").item() for w in weights.tolist()]
    assert losses.index(min(losses)) == 5
    assert losses == pytest.approx(losses[::-1], rel=1e-5)


# ---------------------------------------------------------------- offset sums


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=7, unique=True),
    st.integers(-999, 999),
)
def test_offset_sums_are_standardised_as_numpy_would(sums: list[int], shift: int) -> None:
    """Without it the alignment term would depend on the parameters' scale or on theta_bar."""
    values = torch.tensor(sums, dtype=torch.float64)
    found = standardised_offset_sums(values)
    expected = (np.array(sums) - np.mean(sums)) / np.std(sums, ddof=1)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert found.dtype == torch.float32
    assert standardised_offset_sums(values + shift).tolist() == pytest.approx(
        found.tolist(), abs=1e-5
    )
    assert standardised_offset_sums(7 * values).tolist() == pytest.approx(found.tolist(), abs=1e-5)


@given(st.floats(-1e6, 1e6), st.integers(2, 9))
def test_equal_experts_have_no_offset(value: float, experts: int) -> None:
    """Without it rounding in the mean of equal sums would be blown up to offsets of size 1."""
    sums = torch.full((experts,), value, dtype=torch.float64)
    assert standardised_offset_sums(sums).tolist() == [0.0] * experts


@pytest.mark.parametrize("size", [1e-9, 1.0, 3e7])
def test_the_smallest_real_offset_counts_and_rounding_does_not(size: float) -> None:
    """Without it experts that differ little would count as equal, or equal ones as different."""
    apart = torch.tensor([size, size * (1 + 1e-11)], dtype=torch.float64)
    assert standardised_offset_sums(apart).tolist() == pytest.approx(
        [-0.7071068, 0.7071068], abs=1e-4
    )
    assert standardised_offset_sums(-apart).tolist() == pytest.approx(
        [0.7071068, -0.7071068], abs=1e-4
    )
    rounded = torch.tensor([size, size * (1 + 1e-13)], dtype=torch.float64)
    for equal in (rounded, -rounded, 0 * apart):
        assert standardised_offset_sums(equal).tolist() == [0.0, 0.0]
        assert standardised_offset_sums(equal).dtype == torch.float32


def test_two_experts_always_standardise_to_the_same() -> None:
    """Without it the remark in design and docs would be untrue."""
    found = standardised_offset_sums(torch.tensor([123.456, -9.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.7071068, -0.7071068])


# ---------------------------------------------------------------- the network


def test_coopvecs_are_the_softmax_of_a_linear_layer() -> None:
    """Without it the network would not be the paper's, or read the experts in another order."""
    weight, bias = torch.randn(3, 6, generator=_generator()), torch.tensor([0.1, -0.4, 0.3])
    outputs = torch.randn(4, 3, 2, generator=_generator(1))
    network = Portland(weight, bias, EXPERTS)
    for q in range(4):
        flat = [*outputs[q, 0], *outputs[q, 1], *outputs[q, 2]]
        scores = [
            float(sum(w * z for w, z in zip(weight[t], flat, strict=True)) + bias[t])
            for t in range(3)
        ]
        assert network.coopvecs(outputs)[q].tolist() == pytest.approx(_softmax(scores), rel=1e-5)
    assert torch.allclose(network.log_coopvecs(outputs).exp(), network.coopvecs(outputs))


def test_mixing_is_a_weighted_sum_of_unnormalised_outputs() -> None:
    """Without it an expert's feature length would be lost before the mix."""
    beta = torch.tensor([[0.25, 0.75]])
    outputs = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]])
    mixed = portland.mix(beta, outputs)
    assert mixed.tolist() == [[1.0, 6.0]]
    head = torch.eye(2) * 10
    logits = portland.to_logits(mixed, head, None)
    assert logits[0].tolist() == pytest.approx([10 / math.sqrt(37), 60 / math.sqrt(37)])


def test_logits_need_no_head_and_only_the_tasks_columns_compete() -> None:
    """Without it a given task's query could be taken for another task's class."""
    mixed = torch.tensor([[9.0, 1.0, 2.0, 7.0]])
    assert portland.to_logits(mixed, None, slice(1, 3)).tolist() == [[1.0, 2.0]]
    assert portland.to_logits(mixed, None, None) is mixed


def test_boosting_is_cross_entropy_with_labels_and_entropy_without() -> None:
    """Without it `semi` could read labels, or `supervised` ignore them."""
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    assert portland.boosting(logits, torch.tensor([0, 1])).item() == pytest.approx(
        -(math.log(0.5) + math.log(0.1)) / 2
    )
    entropy = (math.log(2) - 0.9 * math.log(0.9) - 0.1 * math.log(0.1)) / 2
    assert portland.boosting(logits, None).item() == pytest.approx(entropy)


# ---------------------------------------------------------------- training


@given(st.lists(st.integers(0, 20), max_size=4), st.integers(1, 7), st.integers(0, 99))
def test_an_epoch_asks_every_query_once_and_the_tasks_take_turns(
    sizes: list[int], batch_size: int, seed: int
) -> None:
    """Without it a large task would be learnt first and forgotten, or a query left out."""
    drawn = list(batches(sizes, batch_size, _generator(seed)))
    for task, size in enumerate(sizes):
        rows = [int(i) for index, part in drawn if index == task for i in part]
        assert sorted(rows) == list(range(size))
    assert all(1 <= len(part) <= batch_size for _, part in drawn)
    turns = [-(-size // batch_size) for size in sizes]
    expected = [i for turn in range(max(turns, default=0)) for i, n in enumerate(turns) if turn < n]
    assert [index for index, _ in drawn] == expected


def test_an_epochs_order_is_drawn_and_every_order_can_be() -> None:
    """Without it each epoch would have the same batches, in the order of the scenario."""
    draw = _generator()
    epochs = [
        tuple(int(i) for index, part in batches([3, 4], 2, draw) if index == 0 for i in part)
        for _ in range(100)
    ]
    assert set(epochs) == set(itertools.permutations(range(3)))
    both = [torch.cat([p for i, p in batches([50, 50], 8, draw) if i == of]) for of in (0, 1)]
    assert not torch.equal(*both)


def _trained(seed: int = 0, queries: Any = None, **options: Any) -> portland.Fit:
    queries = queries or [_single(_queries(seed=1)), _single(_queries(seed=2, rows=9))]
    chosen = PortlandOptions(**{"epochs": 3, "batch_size": 4, **options})
    return portland.train(
        queries, torch.tensor([-1.0, 0.2, 0.8]), EXPERTS, chosen, _generator(seed)
    )


def _single(task: TrainingQueries) -> TrainingQueries:
    head = None if task.head is None else task.head.float()
    return TrainingQueries(task.outputs.float(), head, task.columns, task.labels)


def test_training_depends_on_its_generator_alone() -> None:
    """Without it the same scenario and seed would give two reports."""
    torch.manual_seed(1)
    first = _trained(5)
    torch.manual_seed(2)
    second, other = _trained(5), _trained(6)
    assert torch.equal(first.portland.weight, second.portland.weight)
    assert torch.equal(first.portland.bias, second.portland.bias)
    assert first.trajectory == second.trajectory
    assert not torch.equal(first.portland.weight, other.portland.weight)


def test_the_order_of_the_tasks_counts_but_never_by_chance() -> None:
    """Without it a scenario with its clients in another order would give a random third result."""
    tasks = [_single(_queries(seed=1)), _single(_queries(seed=2, rows=9))]
    forth, back = _trained(0, tasks), _trained(0, tasks[::-1])
    assert torch.equal(back.portland.weight, _trained(0, tasks[::-1]).portland.weight)
    assert not torch.equal(forth.portland.weight, back.portland.weight)


def test_the_first_adam_step_moves_every_weight_by_the_learning_rate() -> None:
    """Without it the optimiser would not be the paper's Adam at its learning rate."""
    task = [_single(_queries(seed=1, rows=4))]
    still = _trained(3, task, epochs=1, lr=1e-9).portland
    moved = _trained(3, task, epochs=1, lr=1e-3).portland
    steps = (moved.weight - still.weight).abs()
    assert steps.median().item() == pytest.approx(1e-3, rel=1e-2)
    assert steps.max().item() <= 1.01e-3


@pytest.mark.parametrize("labelled", [True, False], ids=["supervised", "semi"])
def test_training_lowers_the_loss_and_records_every_epoch(labelled: bool) -> None:
    """Without it the recorded trajectory would not be that of the training."""
    seen: list[tuple[int, Portland, portland.EpochMeans]] = []
    queries = [_single(_queries(labelled=labelled, rows=40))]
    fit = portland.train(
        queries,
        torch.tensor([-1.0, 0.2, 0.8]),
        EXPERTS,
        PortlandOptions(epochs=30, lr=0.01, batch_size=8),
        _generator(),
        lambda *each: seen.append(each),
    )
    losses = [entry["loss"] for entry in fit.trajectory]
    assert [entry["epoch"] for entry in fit.trajectory] == list(range(1, 31))
    assert losses[-1] < losses[0] - 0.05
    last = fit.trajectory[-1]
    assert last["loss"] == pytest.approx(last["boosting"] + 0.01 * last["alignment"], rel=1e-5)
    assert 1.0 <= last["effective_experts"] <= 3.0
    assert (last["accuracy"] is None) is not labelled
    assert fit.samples == 30 * 40
    assert [{"epoch": epoch, **means} for epoch, _, means in seen] == fit.trajectory
    assert torch.equal(seen[-1][1].weight, fit.portland.weight)
    assert not torch.equal(seen[0][1].weight, fit.portland.weight)


@pytest.mark.parametrize("labelled", [True, False], ids=["supervised", "semi"])
@pytest.mark.parametrize("outputs", ["features", "logits"])
def test_the_papers_training_is_this_loop_to_the_last_bit(outputs: str, labelled: bool) -> None:
    """Without it an extension that is off could still change every published figure."""
    tasks = [_single(_queries(outputs, labelled, seed, rows)) for seed, rows in ((1, 5), (2, 9))]
    xi, options = torch.tensor([-1.0, 0.2, 0.8]), PortlandOptions(epochs=3, batch_size=4)
    assert options.objective_on == "ensemble"
    draw = _generator(5)
    inputs = tasks[0].outputs[0].numel()
    layer = torch.nn.Linear(inputs, 3)
    with torch.no_grad():
        for p in (layer.weight, layer.bias):
            p.uniform_(-(inputs**-0.5), inputs**-0.5, generator=draw)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        for index, rows in batches([5, 9], 4, draw):
            task, z = tasks[index], tasks[index].outputs[rows]
            beta = torch.softmax(layer(z.flatten(1)), dim=1)
            mixed = torch.einsum("qt,qtd->qd", beta, z)
            if task.head is None:
                logits = mixed[:, task.columns]
            else:
                logits = torch.nn.functional.normalize(mixed, dim=-1) @ task.head.T
            labels = None if task.labels is None else task.labels[rows]
            loss = 1.0 * portland.boosting(logits, labels) + 0.01 * alignment(beta, xi, "paper")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(len(rows) * loss.item())
    fit = portland.train(tasks, xi, EXPERTS, options, _generator(5))
    assert torch.equal(fit.portland.weight, layer.weight)
    assert torch.equal(fit.portland.bias, layer.bias)
    assert fit.trajectory[-1]["loss"] == pytest.approx(sum(losses[-5:]) / 14, rel=1e-12)


@pytest.mark.parametrize("objective_on", ["merge", "both"])
@pytest.mark.parametrize("labelled", [True, False], ids=["supervised", "semi"])
def test_merged_models_that_answer_as_the_ensemble_does_teach_the_same(
    objective_on: str, labelled: bool
) -> None:
    """Without it merged models could be asked about other queries, or with other labels."""
    plain = [_single(_queries("features", labelled, seed, rows)) for seed, rows in ((1, 5), (2, 9))]

    def merged(task: TrainingQueries) -> portland.MergedLogits:
        return lambda rows, beta: portland.to_logits(
            portland.mix(beta, task.outputs[rows]), task.head, task.columns
        )

    tasks = [replace(task, merged=merged(task)) for task in plain]
    ensemble, found = _trained(0, plain), _trained(0, tasks, objective_on=objective_on)
    assert torch.allclose(found.portland.weight, ensemble.portland.weight, atol=1e-4)
    for one, two in zip(found.trajectory, ensemble.trajectory, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    assert found.seconds > 0.0


def test_semi_never_looks_at_labels() -> None:
    """Without it `semi` would train on what it claims not to have."""
    task = _single(_queries(labelled=False))
    assert task.labels is None
    assert all(entry["accuracy"] is None for entry in _trained(0, [task]).trajectory)


def test_alignment_moves_what_is_learnt_only_when_it_is_asked_for() -> None:
    """Without it `alignment: none` would still use offset sums that nobody released."""
    assert not torch.equal(
        _trained(beta=5.0, alignment="paper").portland.weight,
        _trained(beta=5.0, alignment="code").portland.weight,
    )
    queries = [_single(_queries(seed=1))]
    options = PortlandOptions(epochs=2, alignment="none", beta=5.0)
    fits = [
        portland.train(queries, offsets, EXPERTS, options, _generator())
        for offsets in (torch.zeros(3), torch.tensor([-1.0, 0.2, 0.8]))
    ]
    assert torch.equal(fits[0].portland.weight, fits[1].portland.weight)


def test_training_changes_none_of_its_arguments() -> None:
    """Without it a second training on the same records would start from other records."""
    task = _single(_queries(rows=6))
    outputs, head = task.outputs.clone(), task.head.clone()  # type: ignore[union-attr]
    _trained(0, [task])
    assert torch.equal(task.outputs, outputs)
    assert torch.equal(task.head, head)


def test_a_task_without_merged_models_cannot_be_judged_on_them() -> None:
    """Without it training through merged models would end in an error that says nothing."""
    task = _single(_queries())
    batch = portland.Batch(task, torch.arange(5), task.outputs, torch.full((5, 3), 1 / 3))
    with pytest.raises(RunError) as caught:
        portland.merged_logits(batch)
    assert str(caught.value) == (
        "Portland cannot be trained through merged models: none were given for a task's queries; "
        "set portland.objective_on to ensemble"
    )


def test_training_that_diverges_says_so() -> None:
    """Without it CoopVecs that are no numbers would end the server in a step that knows nothing."""
    task = replace(_queries(), outputs=_queries().outputs.float(), head=torch.ones(3, 4))
    options = PortlandOptions(epochs=1, alignment="none").model_copy(update={"lr": 1e308})
    told = r"Portland diverged in epoch 1: its loss is .*; lower portland\.lr \(1e\+308\)"
    with pytest.raises(RunError, match=told):
        portland.train([task], torch.zeros(3), EXPERTS, options, _generator())


def test_an_epochs_figures_are_means_over_its_queries() -> None:
    """Without it a last, smaller batch would count as much as a whole one."""
    tally = portland._Tally()
    assert tally.means()["loss"] == 0.0
    sure, even = torch.eye(3), torch.full((1, 3), 1 / 3)
    right, wrong = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0.0]])
    labels = torch.zeros(3, dtype=torch.long)
    tally.add(*torch.tensor([1.0, 2.0, 3.0]), sure, right, labels)
    tally.add(*torch.tensor([5.0, 6.0, 7.0]), even, wrong, torch.tensor([1]))
    assert tally.queries == 4
    means = {"loss": 2.0, "boosting": 3.0, "alignment": 4.0, "accuracy": 75.0}
    assert tally.means() == pytest.approx({**means, "effective_experts": 1.5})
    blind = portland._Tally()
    blind.add(*torch.tensor([1.0, 2.0, 3.0]), sure, right, None)
    assert blind.means()["accuracy"] is None
