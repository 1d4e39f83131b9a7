"""SLERP: two experts, along the arc between them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts, t: float) -> list[float]:
    """Shoemake's formula for every entry, one number at a time, float64."""
    first, second = source.models.values()
    found = []
    for name in source.entries:
        one = first[name].double().flatten().tolist()
        two = second[name].double().flatten().tolist()
        dot = sum(a * b for a, b in zip(one, two, strict=True))
        cosine = dot / (math.hypot(*one) * math.hypot(*two))
        if abs(cosine) > 0.9995:
            found += [(1 - t) * a + t * b for a, b in zip(one, two, strict=True)]
            continue
        w = math.acos(cosine)
        left, right = math.sin((1 - t) * w) / math.sin(w), math.sin(t * w) / math.sin(w)
        found += [left * a + right * b for a, b in zip(one, two, strict=True)]
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    t=st.floats(0, 1),
    spread=st.sampled_from([0.001, 0.1, 1.0, 3.0]),
)
def test_slerp_is_shoemakes(seed: int, t: float, spread: float) -> None:
    """The arc, or the line near it, would be another."""
    source = model.source(2, seed=seed, spread=spread)
    assert model.close(merged("slerp", source, t=t), slow(source, t))


def test_the_default_is_the_middle_and_theta_0_is_not_needed() -> None:
    """The option t would not be 0.5, or experts of diverse origin could not be merged."""
    source = StateDicts(model.source(2, spread=1.0).models)
    assert model.close(merged("slerp", source), slow(source, 0.5))


def test_both_branches_are_met() -> None:
    """The golden test would see only lines, or only arcs."""
    near, far = model.source(2, spread=0.001), model.source(2, spread=1.0)
    lines = [[0.5 * (a + b) for a, b in zip(*_flats(one), strict=True)] for one in (near, far)]
    assert model.close(merged("slerp", near), lines[0])
    assert not model.close(merged("slerp", far), lines[1], 1e-2)


def _flats(source: StateDicts) -> list[Any]:
    return [model.flat(one) for one in source.models.values()]


def test_the_length_is_kept() -> None:
    """Between two vectors of one length the merged one would be shorter."""
    one, two = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([0.0, 5.0, 0.0])
    source = StateDicts({"a": {"w": one}, "b": {"w": two}})
    for t in (0.25, 0.5, 0.9):
        found = merged("slerp", source, t=t)["w"]
        assert found.norm().item() == pytest.approx(5.0)
        angle = math.acos(float(found @ one) / 25)
        assert angle == pytest.approx(t * math.pi / 2, abs=1e-5)


def test_the_ends_are_the_experts_and_t_counts_from_the_first() -> None:
    """The option t would be the first expert's share."""
    source = model.source(2, spread=1.0)
    first, second = source.models.values()
    assert model.same(merged("slerp", source, t=0.0), dict(first))
    assert model.same(merged("slerp", source, t=1.0), dict(second))


def test_order_matters_but_for_the_middle() -> None:
    """The declaration SYMMETRIC would be wrong."""
    source = model.source(2, spread=1.0)
    other = model.permuted(source, [1, 0])
    assert model.same(merged("slerp", source), merged("slerp", other))
    assert not model.same(merged("slerp", source, t=0.2), merged("slerp", other, t=0.2))
    assert model.same(merged("slerp", source, t=0.2), merged("slerp", other, t=0.8))


def test_identical_experts_give_the_expert() -> None:
    """The arc of length 0 would give NaN."""
    expert = model.state(9)
    assert model.same(merged("slerp", StateDicts({"a": expert, "b": expert}), t=0.3), expert)


def test_longer_experts_give_a_longer_merged_model() -> None:
    """The weights would depend on the length of the experts."""
    source = model.source(2, spread=1.0)
    longer = {
        name: {key: 4.0 * value for key, value in one.items() if key in model.SHAPES}
        for name, one in source.models.items()
    }
    wanted = 4.0 * model.flat(merged("slerp", source, t=0.3))
    assert model.close(merged("slerp", StateDicts(longer), t=0.3), wanted)


@pytest.mark.parametrize("other", [[0.0, 0.0], [-1.0, -2.0]])
def test_where_there_is_no_arc_it_is_the_line(other: list[float]) -> None:
    """An entry of 0, or opposite ones, would give NaN or a number that is out of all proportion."""
    models = {"a": {"w": torch.tensor([1.0, 2.0])}, "b": {"w": torch.tensor(other)}}
    found = merged("slerp", StateDicts(models), t=0.25)["w"]
    wanted = 0.75 * models["a"]["w"] + 0.25 * models["b"]["w"]
    assert torch.allclose(found, wanted)


def test_running_variances_stay_above_zero() -> None:
    """A negative running variance would make the merged model's outputs NaN."""
    found = merged("slerp", model.source(2, spread=1.0), t=0.7)
    assert (found["bn.running_var"] > 0).all()


def test_three_experts_are_refused() -> None:
    """A third expert would be left out without a word."""
    with pytest.raises(InputError, match=r"slerp merges 2 experts \(got 3\)"):
        merged("slerp", model.source(3))


@pytest.mark.parametrize(("name", "value"), [("t", 1.5), ("t", -0.1), ("weight", 0.5)])
def test_bad_options_are_refused(name: str, value: float) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=f"option {name} of slerp|no option '{name}'"):
        merged("slerp", model.source(2), **{name: value})
