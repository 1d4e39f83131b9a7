"""`bench ties`: both sides look at the same numbers, and the merge is TIES."""

from __future__ import annotations

import pytest
import torch

from neulig_fl.merging import methods
from neulig_fl.merging.methods import Given
from neulig_fl.merging.methods._magnitudes import size, task_vectors, thresholds
from neulig_fl.study.bench import sentence, ties


def test_both_sides_find_the_same_thresholds() -> None:
    """If this fails, the ratio compares two different tasks."""
    source = ties.experts(blocks=1, width=8)
    given = Given(source, methods.load("ties").NEEDS, "ties")
    streamed = torch.as_tensor(thresholds(lambda: task_vectors(given), size(given), 0.2)).flatten()
    for expert, least in zip(source.models.values(), streamed, strict=True):
        flat = ties._flat(expert, source).abs_()
        assert float(flat.kthvalue(len(flat) - int(0.2 * len(flat))).values) == float(least)


def test_the_measurement_is_a_ratio_of_one_run() -> None:
    """If this fails, a figure could be compared with another machine's."""
    found = ties.measure(repeats=2, blocks=1, width=16)

    assert found.name == "ties"
    assert len(found.values) == 2
    assert found.met is (found.figure < ties.GOAL)
    assert found.figure == pytest.approx(sum(found.values) / 2)
    assert "of torch.kthvalue over the same task vectors (goal: under 1.5" in sentence(found)


def test_the_number_of_threads_is_put_back() -> None:
    """If this fails, whatever runs after the benchmark is slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ties.measure(repeats=1, blocks=1, width=8)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
