"""Consensus merging: the sum of the task vectors where enough tasks want it."""

from __future__ import annotations

from typing import Any

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts, weight: float, mask_lambda: float, k: int) -> list[float]:
    """TALL masks from the models' distances, as the paper writes them, one number at a time."""
    vectors = model.vectors(source)
    found = []
    for place, start in enumerate(model.starts(source)):
        summed = start + sum(vector[place] for vector in vectors)
        wanting = 0
        for vector in vectors:
            expert = start + vector[place]
            if abs(start - expert) >= mask_lambda * abs(summed - expert):
                wanting += 1
        found.append(start + weight * (summed - start) if wanting >= k else start)
    return model.whole(source, found)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(2, 6),
    seed=st.integers(0, 99),
    mask_lambda=st.sampled_from([0.2, 0.4, 0.6, 1.0]),
    k=st.integers(1, 6),
)
def test_consensus_is_the_papers(count: int, seed: int, mask_lambda: float, k: int) -> None:
    """A mask or the count of the tasks that want a number would be wrong."""
    source, k = model.source(count, seed=seed), min(k, count)
    found = merged("consensus", source, mask_lambda=mask_lambda, k=k, **{"lambda": 0.2})
    assert model.close(found, slow(source, 0.2, mask_lambda, k))


@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_the_defaults_are_those_of_the_docstring(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default would be another, or pieces would be put together wrongly."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(5)
    assert model.close(merged("consensus", source), slow(source, 0.3, 0.4, 2))


def test_selfish_and_catastrophic_numbers_are_dropped() -> None:
    """What one task or none wants would stay in the merged model."""
    rows = [[9.0, 1.0, 2.0, 1.0], [0.1, 1.0, 2.0, 1.0], [0.1, -1.9, 1.0, 1.0], [0.1, 1.0, 0.0, 1.0]]
    source = model.of([{"w": torch.tensor(row)} for row in rows], {"w": torch.zeros(4)})
    for k, wanted in ((1, [9.3, 1.1, 5.0, 0]), (2, [0, 1.1, 5.0, 0]), (4, [0, 1.1, 0, 0])):
        found = merged("consensus", source, k=k, **{"lambda": 1.0})
        assert found["w"].tolist() == pytest.approx(wanted)


def test_with_masks_that_want_everything_it_is_task_arithmetic() -> None:
    """The sum or lambda would not be those of task arithmetic."""
    source = model.source(4)
    found = merged("consensus", source, mask_lambda=0.0, k=4)
    assert model.same_parameters(found, merged("task-arithmetic", source))


def test_a_higher_k_keeps_less() -> None:
    """The option k would not be the least number of tasks."""
    source = model.source(5)
    start = model.flat(source.checkpoint)
    kept = [(model.flat(merged("consensus", source, k=k)) != start).sum() for k in (1, 2, 3, 4)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(4, spread=0.01)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("consensus", source)) - start
    for factor in (-1.0, 3.0):
        found = merged("consensus", model.scaled(source, factor))
        assert model.close(found, start + factor * plain)
    found = merged("consensus", model.permuted(source, [1, 3, 0, 2]))
    assert model.same(found, merged("consensus", source))


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("consensus", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"k": 5}, "k of consensus is 5 and there are 4 experts.*use 4 or fewer"),
        ({"k": 0}, "k of consensus.*0"),
        ({"mask_lambda": -0.1}, "mask_lambda of consensus"),
        ({"mask": 0.4}, "no option 'mask'; allowed: lambda, mask_lambda, k"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=match):
        merged("consensus", model.source(), **options)
