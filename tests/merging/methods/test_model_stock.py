"""Model stock: between theta_0 and the mean, by the angle between the task vectors."""

from __future__ import annotations

import math

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts) -> list[float]:
    """The paper's ratio for every entry, from the mean over pairs of cosines, float64."""
    assert source.checkpoint is not None
    found = []
    for name in source.entries:
        start = source.checkpoint[name].double().flatten().tolist()
        rows = [one[name].double().flatten().tolist() for one in source.models.values()]
        vectors = [[a - b for a, b in zip(row, start, strict=True)] for row in rows]
        cosines = []
        for i, first in enumerate(vectors):
            for second in vectors[i + 1 :]:
                dot = sum(a * b for a, b in zip(first, second, strict=True))
                lengths = math.hypot(*first) * math.hypot(*second)
                cosines.append(dot / lengths if lengths else 0.0)
        cosine, count = sum(cosines) / len(cosines), len(vectors)
        ratio = count * cosine / (1 + (count - 1) * cosine) if cosine > 0 else 0.0
        for place, value in enumerate(start):
            mean = sum(row[place] for row in rows) / count
            found.append(ratio * mean + (1 - ratio) * value)
    return found


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 6), seed=st.integers(0, 99), spread=st.sampled_from([1e-3, 0.1, 1.0]))
def test_model_stock_is_the_papers(count: int, seed: int, spread: float) -> None:
    """An angle or the ratio of an entry would not be the paper's."""
    source = model.source(count, seed=seed, spread=spread)
    assert model.close(merged("model-stock", source), slow(source))


@pytest.mark.parametrize("piece", [1, 7])
def test_pieces_do_not_matter(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The angle would be that of a piece of the entry."""
    source = model.source(5)
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    assert model.close(merged("model-stock", source), slow(source))


def test_two_experts_at_60_degrees_go_two_thirds_of_the_way() -> None:
    """The ratio would not be 2 cos / (1 + cos), the paper's for two experts."""
    one = {"w": torch.tensor([1.0, 0.0])}
    two = {"w": torch.tensor([0.5, 0.75**0.5])}
    found = merged("model-stock", model.of([one, two], {"w": torch.zeros(2)}))
    assert found["w"].tolist() == pytest.approx([2 / 3 * 0.75, 2 / 3 * 0.75**0.5 / 2])


def test_identical_experts_give_the_expert() -> None:
    """Experts that agree would be drawn back to theta_0."""
    expert = model.state(9)
    source = StateDicts({"a": expert, "b": expert, "c": expert}, checkpoint=model.state(8))
    assert model.same(merged("model-stock", source), expert)


@pytest.mark.parametrize("second", [[0.0, 1.0], [-1.0, 0.5], [0.0, 0.0]])
def test_without_agreement_theta_0_stays(second: list[float]) -> None:
    """At 90 degrees, beyond, or without an angle, the merged model would leave theta_0."""
    vectors = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor(second)}]
    found = merged("model-stock", model.of(vectors, {"w": torch.tensor([3.0, 4.0])}))
    assert found["w"].tolist() == [3.0, 4.0]


def test_an_expert_that_has_not_moved_counts_as_a_right_angle() -> None:
    """One expert without an angle would undo what the others agree about."""
    rows = ([1.0, 0.0], [1.0, 0.0], [0.0, 0.0])
    source = model.of([{"w": torch.tensor(row)} for row in rows], {"w": torch.zeros(2)})
    found = merged("model-stock", source)  # cos 1/3, so 3/5 of the mean
    assert found["w"].tolist() == pytest.approx([0.6 * 2 / 3, 0.0])


def test_scale_sign_and_order() -> None:
    """Longer, flipped or permuted task vectors would not give the same merged one."""
    source = model.source(4, spread=0.01)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("model-stock", source)) - start
    for factor in (-1.0, 3.0):
        found = merged("model-stock", model.scaled(source, factor))
        assert model.close(found, start + factor * plain)
    found = merged("model-stock", model.permuted(source, [1, 3, 0, 2]))
    assert model.same(found, merged("model-stock", source))


def test_it_lies_between_theta_0_and_the_mean() -> None:
    """An entry would go beyond the mean, and a running variance below 0."""
    source = model.source(3, spread=2.0)
    start, mean = model.flat(source.checkpoint), model.flat(merged("simple-average", source))
    found = model.flat(merged("model-stock", source))
    assert ((found - start) * (found - mean) <= 1e-6).all()


def test_there_are_no_options() -> None:
    """An option that the rule does not have would be ignored."""
    with pytest.raises(InputError, match="no option 't'"):
        merged("model-stock", model.source(), t=0.5)
