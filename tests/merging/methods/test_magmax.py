"""MagMax: the largest magnitude wins."""

from __future__ import annotations

from typing import Any

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts, weight: float) -> list[float]:
    """The number of the largest magnitude at each place, float64."""
    vectors = model.vectors(source)
    found = []
    for place, start in enumerate(model.starts(source)):
        best = vectors[0][place]
        for vector in vectors:
            if abs(vector[place]) > abs(best):
                best = vector[place]
        found.append(start + weight * best)
    return model.whole(source, found)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 7), seed=st.integers(0, 99), weight=st.floats(0, 1))
def test_magmax_is_the_papers(count: int, seed: int, weight: float) -> None:
    """Another expert's number would be taken, or it would lose its sign."""
    source = model.source(count, seed=seed)
    assert model.close(merged("magmax", source, **{"lambda": weight}), slow(source, weight))


@pytest.mark.parametrize("piece", [1, 7])
def test_the_default_is_one_half_and_pieces_do_not_matter(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default would not be that of the paper's code, or pieces would be put together wrongly."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(5)
    assert model.close(merged("magmax", source), slow(source, 0.5))


def test_of_equal_magnitudes_the_positive_number_is_taken() -> None:
    """The order of the clients would matter where magnitudes are equal."""
    vectors = [{"w": torch.tensor([-2.0, 1.0])}, {"w": torch.tensor([2.0, -3.0])}]
    for order in (vectors, vectors[::-1]):
        found = merged("magmax", model.of(order, {"w": torch.zeros(2)}), **{"lambda": 1.0})
        assert found["w"].tolist() == [2.0, -3.0]


def test_identical_experts_with_lambda_1_give_the_expert() -> None:
    """The task vector that is taken would not be one of the experts'."""
    expert = model.state(9)
    source = StateDicts({"a": expert, "b": expert}, checkpoint=model.state(8))
    assert model.same(merged("magmax", source, **{"lambda": 1.0}), expert)


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(4, spread=0.01)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("magmax", source)) - start
    for factor in (-1.0, 3.0):
        found = merged("magmax", model.scaled(source, factor))
        assert model.close(found, start + factor * plain)
    assert model.same(
        merged("magmax", model.permuted(source, [1, 3, 0, 2])), merged("magmax", source)
    )


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("magmax", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


@pytest.mark.parametrize(("name", "value"), [("lambda", "0.5"), ("lambda", float("inf")), ("k", 1)])
def test_bad_options_are_refused(name: str, value: Any) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=f"option {name} of magmax|no option '{name}'"):
        merged("magmax", model.source(), **{name: value})
