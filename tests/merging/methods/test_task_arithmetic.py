"""Task arithmetic and simple averaging, the two rules that everything is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import three_layers as three
import torch

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Answers, StateDicts, merged, simple_average, task_arithmetic

STATISTICS = ("running_mean", "running_var")


@pytest.mark.parametrize("count", [2, 4])
def test_it_is_the_papers_formula(count: int) -> None:
    """Every row that starts from task vectors would be compared with another rule."""
    known = three.source(count)
    assert known.checkpoint is not None
    found = merged("task-arithmetic", known, **{"lambda": 0.7})
    for name, start in known.checkpoint.items():
        if not start.is_floating_point():
            continue
        models = [model[name].double() for model in known.models.values()]
        slow = start.double().clone()
        for model in models:
            slow += 0.7 * (model - start.double())
        if name.endswith(STATISTICS):
            slow = sum(models, torch.zeros_like(slow)) / count
        torch.testing.assert_close(found[name].double(), slow, rtol=0, atol=1e-5)


def test_averaging_is_the_mean() -> None:
    """The control that every figure stands beside would be another model."""
    known = three.source(3)
    slow = np.mean([three.flat(dict(model)) for model in known.models.values()], axis=0)

    assert three.close(merged("simple-average", known), slow)


def test_one_over_the_experts_is_averaging() -> None:
    """Lambda would not weigh the sum of the task vectors."""
    known = three.source(4)

    assert three.same(
        merged("task-arithmetic", known, **{"lambda": 0.25}), merged("simple-average", known)
    )


@pytest.mark.parametrize("factor", [-1.0, 0.5, 3.0])
def test_task_vectors_are_scaled(factor: float) -> None:
    """A negative lambda would not go the other way, or a longer vector not count for more."""
    known = three.source(3)
    longer = merged("task-arithmetic", three.scaled(known, factor), **{"lambda": 0.3})
    weighed = merged("task-arithmetic", known, **{"lambda": 0.3 * factor})
    for name in three.SHAPES:
        if not name.endswith(STATISTICS):
            torch.testing.assert_close(longer[name], weighed[name], rtol=1e-5, atol=1e-6)


def test_without_a_checkpoint_there_is_no_task_vector() -> None:
    """The experts' own parameters would be taken for task vectors."""
    with pytest.raises(InputError, match="needs theta_0"):
        merged("task-arithmetic", StateDicts(three.source(2).models))


def test_a_lambda_that_is_no_number_is_refused() -> None:
    """A model of NaN would come out."""
    with pytest.raises(InputError, match="option lambda of task-arithmetic"):
        merged("task-arithmetic", three.source(2), **{"lambda": float("nan")})


def test_ensembles_are_those_of_the_formulas() -> None:
    """The ensemble beside the merge would be another method's."""
    outputs = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    start = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    answers = [Answers("a", outputs, start, lambda mixed: mixed)]
    (average,) = simple_average.ensemble([], answers)
    (moved,) = task_arithmetic.ensemble([], answers, lambda_=0.3)
    for row in range(5):
        torch.testing.assert_close(
            average[row], (outputs[row, 0] + outputs[row, 1] + outputs[row, 2]) / 3
        )
        slow = start[row] + 0.3 * sum(
            (outputs[row, t] - start[row] for t in range(3)), torch.zeros(2)
        )
        torch.testing.assert_close(moved[row], slow)
