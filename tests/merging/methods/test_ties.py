"""TIES: trim, elect, merge."""

from __future__ import annotations

from typing import Any

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts, density: float, combine: str, weight: float) -> list[float]:
    """Algorithm 1 of the paper, one number at a time, float64."""
    vectors = model.vectors(source)
    size = len(vectors[0])
    trimmed = []
    for vector in vectors:
        order = sorted(abs(x) for x in vector)
        least = order[max(1, size - int(size * density)) - 1]
        trimmed.append([x if abs(x) >= least else 0.0 for x in vector])
    found = []
    for place, start in enumerate(model.starts(source)):
        values = [vector[place] for vector in trimmed]
        mass = sum(values)
        agreeing = [x for x in values if x * mass > 0]
        total = sum(agreeing)
        if combine == "mean" and agreeing:
            total /= len(agreeing)
        found.append(start + weight * total)
    return model.whole(source, found)


@pytest.mark.parametrize("piece", [1, 7, 2**20])
@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.63, 1.0])
def test_ties_is_the_papers(
    density: float, combine: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule would not be the paper's, or it would depend on how the entries are cut."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(5)
    found = merged("ties", source, density=density, combine=combine, **{"lambda": 0.8})
    assert model.close(found, slow(source, density, combine, 0.8))


def test_the_defaults_are_the_papers() -> None:
    """A default would not be what the docstring says: 20 %, mean, lambda 1."""
    source = model.source(3, seed=4)
    assert model.close(merged("ties", source), slow(source, 0.2, "mean", 1.0))


def test_the_threshold_is_of_the_whole_vector() -> None:
    """Every entry would be trimmed for itself, so that small entries keep too much."""
    start = {"small": torch.zeros(10), "large": torch.zeros(10)}
    vector = {"small": torch.arange(1.0, 11) / 100, "large": torch.arange(1.0, 11)}
    found = merged("ties", model.of([vector, vector], start), density=0.2)
    assert not found["small"].any()
    assert found["large"].tolist() == [0, 0, 0, 0, 0, 6, 7, 8, 9, 10]


def test_numbers_at_the_threshold_are_all_kept() -> None:
    """Of equal magnitudes some would be kept and others dropped, by their place."""
    start = {"w": torch.zeros(10)}
    vector = {"w": torch.tensor([1.0, 2, 2, 2, 2, 2, 2, 2, 2, 3])}
    found = merged("ties", model.of([vector, vector], start), density=0.2)
    assert found["w"].tolist() == [0, 2, 2, 2, 2, 2, 2, 2, 2, 3]


def test_where_the_signs_have_the_same_mass_theta_0_stays() -> None:
    """A sign would be elected where the masses cancel, so that the order of clients can matter."""
    start = {"w": torch.tensor([5.0, 5.0])}
    vectors = [{"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([-1.0, 2.0])}]
    found = merged("ties", model.of(vectors, start), density=1.0)
    assert found["w"].tolist() == [5.0, 6.5]


def test_all_kept_and_agreeing_is_task_arithmetic() -> None:
    """With nothing to trim and no conflict, the sum would not be that of task arithmetic."""
    source = model.source(4)
    start = source.checkpoint
    assert start is not None
    vectors = [
        {name: (one[name] - start[name]).abs() for name in model.SHAPES}
        for one in source.models.values()
    ]
    agreeing = model.of(vectors, {name: start[name] for name in model.SHAPES})
    found = merged("ties", agreeing, density=1.0, combine="sum", **{"lambda": 0.3})
    assert model.same_parameters(found, merged("task-arithmetic", agreeing))


def test_identical_experts_that_keep_everything_give_the_expert() -> None:
    """The mean of agreeing numbers would not be their mean."""
    expert = model.state(9)
    source = StateDicts({"a": expert, "b": expert, "c": expert}, checkpoint=model.state(8))
    assert model.same(merged("ties", source, density=1.0), expert)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 50), factor=st.sampled_from([0.25, -1.0, -4.0]))
def test_scale_and_sign(count: int, seed: int, factor: float) -> None:
    """Longer or flipped task vectors would not give a longer or flipped merged one."""
    source = model.source(count, seed=seed, spread=0.01)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("ties", source)) - start
    assert model.close(merged("ties", model.scaled(source, factor)), start + factor * plain)


def test_order_of_the_clients_does_not_matter() -> None:
    """The order of the clients would change the merged model."""
    source = model.source(4)
    found = merged("ties", model.permuted(source, [2, 0, 3, 1]))
    assert model.same(found, merged("ties", source))


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("ties", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"density": 2.0}, "density of ties.*2.0"),
        ({"density": 0.0}, "density of ties.*0.0"),
        ({"combine": "max"}, "combine of ties.*allowed: mean, sum"),
        ({"lambda": float("nan")}, "lambda of ties"),
        ({"trim": 0.2}, "no option 'trim'; allowed: density, combine, lambda"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=match):
        merged("ties", model.source(), **options)
