"""Fisher merging: means weighted by information."""

from __future__ import annotations

from typing import Any

import pytest
import three_matrices as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.merging.methods import StateDicts, merged


def weights(shapes: model.Shapes, seed: int) -> model.State:
    """Random information, above 0 and of very different size; 1 for running statistics."""
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.ones(shape)
        if "running" in k
        else (4 * torch.randn(shape, generator=generator)).exp()
        for k, shape in shapes.items()
    }


def with_records(models: dict[str, model.State], information: list[model.State]) -> StateDicts:
    """The experts with what each of them gives away: F and F * theta."""
    records = {}
    for (name, state), own in zip(models.items(), information, strict=True):
        moments = {f"moment:{k}": value * state[k] for k, value in own.items()}
        records[name] = {f"fisher:{k}": value for k, value in own.items()} | moments
    return StateDicts(models, records={"fisher": records})


def example(shapes: model.Shapes = model.CONVOLUTIONS, count: int = 3, seed: int = 0) -> Any:
    """Experts and their information."""
    models = {k: dict(v) for k, v in model.source(shapes, count, seed).models.items()}
    return models, [weights(shapes, seed + i) for i in range(count)]


def slow(models: dict[str, model.State], information: list[model.State]) -> dict[str, Any]:
    """The paper's formula, a number at a time, float64."""
    found: dict[str, Any] = {}
    for name, value in next(iter(models.values())).items():
        numbers = []
        for place in range(value.numel()):
            above = below = 0.0
            for state, own in zip(models.values(), information, strict=True):
                f = float(own[name].flatten()[place].double())
                above += f * float(state[name].flatten()[place].double())
                below += f
            numbers.append(above / below)
        found[name] = torch.tensor(numbers, dtype=torch.float64).reshape(value.shape).numpy()
    return found


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 5), st.integers(0, 1000))
def test_fisher_merging_is_the_papers(count: int, seed: int) -> None:
    """A parameter would not be weighted by its own information."""
    models, information = example(count=count, seed=seed)
    found = merged("fisher", with_records(models, information))
    assert model.close(found, slow(models, information))


def test_equal_experts_give_the_expert() -> None:
    """Law 1, whatever their information is."""
    one = model.state(model.CONVOLUTIONS, 3)
    information = [weights(model.CONVOLUTIONS, seed) for seed in range(3)]
    found = merged("fisher", with_records(dict.fromkeys("abc", one), information))
    assert model.close(found, one)


def test_equal_information_gives_the_mean() -> None:
    """A client would count more than another that knows as much."""
    models, information = example()
    found = merged("fisher", with_records(models, information[:1] * 3))
    assert model.close(found, merged("simple-average", StateDicts(models)))


def test_an_expert_that_knows_much_more_is_kept() -> None:
    """Parameters on which one client's predictions depend would be washed out by the others'."""
    models, information = example()
    sure = {k: 1e14 * value for k, value in information[1].items()}
    found = merged("fisher", with_records(models, [information[0], sure, information[2]]))
    assert model.close(found, models["b"], 1e-4)


def test_a_common_scale_and_the_order_do_not_matter() -> None:
    """A common unit of the information, or a client's place, would decide about the model."""
    models, information = example()
    plain = merged("fisher", with_records(models, information))
    larger = [{k: 1e4 * v for k, v in own.items()} for own in information]
    assert model.close(merged("fisher", with_records(models, larger)), plain)
    turned = with_records(dict(reversed(models.items())), information[::-1])
    assert model.close(merged("fisher", turned), plain)


def test_running_statistics_are_averaged() -> None:
    """BatchNorm's statistics have no gradient, and would be lost or be taken from one client."""
    models, information = example()
    found = merged("fisher", with_records(models, information))
    for name in ("bn.running_mean", "bn.running_var"):
        wanted = torch.stack([state[name] for state in models.values()]).mean(dim=0)
        assert torch.allclose(found[name], wanted, atol=1e-6)


def test_a_rounded_variance_is_not_below_zero() -> None:
    """A variance just above 0 comes out of rounded sums below it, and outputs would be NaN."""
    models, information = example()
    source = with_records(models, information)
    for own in source.records["fisher"].values():
        own["moment:bn.running_var"][0] = -1e-7
    assert float(merged("fisher", source)["bn.running_var"][0]) == 0.0


def test_information_that_was_rounded_away_is_refused() -> None:
    """0 divided by 0 would stand in the merged model."""
    models, information = example()
    for own in information:
        own["fc.weight"][1, 2:4] = 0.0
    words = r"Fisher information of fc\.weight: 2 of 30 numbers are not above 0"
    with pytest.raises(RunError, match=words):
        merged("fisher", with_records(models, information))


def test_an_option_is_refused() -> None:
    """A floor would be asked for where it can no longer be set, and be ignored."""
    with pytest.raises(InputError, match="fisher has no option 'floor'"):
        merged("fisher", with_records(*example()), floor=1e-3)
