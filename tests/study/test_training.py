"""Training Portland in a run: which expert is the best alone, and what the report has of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.merging.portland import TrainingQueries
from neulig_fl.study.training import best_single

NAMES = ("ada", "bob", "cyd")
CLASSES = 2


def _task(right: list[list[bool]], labelled: bool = True) -> TrainingQueries:
    """Logits of a task's queries under every expert; class 0 is the true one.

    Args:
        right: for every query, whether each expert finds its class.
    """
    of_class = torch.tensor([[-1.0, 2.0], [2.0, -1.0]])
    labels = torch.zeros(len(right), dtype=torch.long) if labelled else None
    return TrainingQueries(of_class[torch.tensor(right).long()], None, None, labels)


@given(
    st.lists(
        st.lists(st.tuples(*[st.booleans()] * 3).map(list), min_size=1, max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_the_best_expert_has_the_highest_mean_accuracy_over_tasks(
    tasks: list[list[list[bool]]],
) -> None:
    """Without it the control would be another expert than the one that does best."""
    shares = [
        sum(sum(row[expert] for row in task) / len(task) for task in tasks) / len(tasks)
        for expert in range(3)
    ]
    name, how = best_single([_task(task) for task in tasks], NAMES)
    assert shares[NAMES.index(name)] == pytest.approx(max(shares), abs=1e-6)
    clear = [n for n, share in zip(NAMES, shares, strict=True) if share > max(shares) - 1e-6]
    assert len(clear) > 1 or name == clear[0]
    assert how == "highest accuracy on Portland's training queries"


def test_of_equally_good_experts_the_first_is_chosen() -> None:
    """Without it the control would change with the version of PyTorch."""
    assert best_single([_task([[True] * 3])], NAMES)[0] == "ada"
    assert best_single([_task([[False, True, True]])], NAMES)[0] == "bob"


def test_every_task_weighs_the_same_whatever_its_number_of_queries() -> None:
    """Without it the expert of the largest task would always be the best one."""
    large, small = [[True, False, False]] * 9 + [[False] * 3], [[False, True, True]] * 2
    others = [[False, True, False]] * 2
    assert best_single([_task(t) for t in (large, small, others)], NAMES)[0] == "bob"


@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=3, unique=True))
def test_without_labels_the_best_expert_is_the_surest_one(chances: list[float]) -> None:
    """Without it the control of a semi-supervised run would read labels, or be the least sure."""
    logits = torch.tensor([[[math.log(p), math.log(1 - p)] for p in chances]], dtype=torch.float64)
    task = TrainingQueries(logits, None, None, None)
    entropies = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in chances]
    name, how = best_single([task], NAMES)
    assert entropies[NAMES.index(name)] == pytest.approx(min(entropies), abs=1e-9)
    assert how == "lowest mean entropy on Portland's training queries"


def test_an_expert_is_judged_with_the_tasks_own_head_and_classes() -> None:
    """Without it features would be taken for logits, or other tasks' classes compete."""
    head = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[[0.1, 9.0], [0.2, 0.1], [3.0, 3.1]]])
    labels = torch.tensor([0])
    assert best_single([TrainingQueries(features, head, None, labels)], NAMES)[0] == "bob"
    swapped = TrainingQueries(features, head.flip(0), None, labels)
    assert best_single([swapped], NAMES)[0] == "ada"
    logits = torch.tensor([[[9.0, 0.0, 1.0], [9.0, 1.0, 0.0], [9.0, 0.0, 1.0]]])
    within = TrainingQueries(logits, None, slice(1, 3), labels)
    assert best_single([within], NAMES)[0] == "bob"
