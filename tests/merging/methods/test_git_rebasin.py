"""Git Re-Basin: weight matching against a slow search, and experts that are each other's permutations."""

from __future__ import annotations

import itertools

import encoders
import pytest
import torch
from torch import Tensor

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Given, git_rebasin, merged
from neulig_fl.merging.methods._units import Units


@pytest.mark.parametrize("name", encoders.CASES)
def test_an_expert_and_its_permutation_give_the_expert(name: str) -> None:
    """A matching that does not find the permutation would average units that are not the same."""
    make, size = encoders.CASES[name]
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 7))
    other = encoders.permuted(found, model, encoders.shuffled(found, 8))
    source = encoders.source(make, model, other)
    assert encoders.worst(make, encoders.by_rule("git-rebasin", source), model, size, 8) <= 1e-5
    assert encoders.worst(make, merged("simple-average", source), model, size, 8) > 0.1


def test_three_permutations_of_an_expert_give_the_expert() -> None:
    """With more than two experts, each has to be matched to the others, and not only once."""
    make, size = encoders.CASES["vit"]
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 7))
    others = [encoders.permuted(found, model, encoders.shuffled(found, s)) for s in (8, 9)]
    source = encoders.source(make, model, *others)
    assert encoders.worst(make, merged("git-rebasin", source), model, size, 8) <= 1e-5
    assert encoders.worst(make, merged("simple-average", source), model, size, 8) > 0.1


def _slow_product(found: Units, wanted: encoders.State, moving: encoders.State) -> float:
    """<wanted, moving> over what is matched, one entry after the other, float64."""
    kept = (k for k in wanted if k in found.axes and "running" not in k)
    return sum(float((wanted[k].double() * moving[k].double()).sum()) for k in kept)


def _slow_orders(found: Units, sets: tuple[str, ...], heads: int) -> list[dict[str, Tensor]]:
    """Every order of a bundle's units, by enumeration."""
    size = found.sizes[sets[0]] // heads
    inside = list(itertools.permutations(range(size)))
    orders = []
    for places in itertools.permutations(range(heads)):
        for chosen in itertools.product(inside, repeat=heads * len(sets)):
            rest = iter(chosen)
            orders.append({
                name: torch.tensor([h * size + u for h in places for u in next(rest)])
                for name in sets
            })  # fmt: skip
    return orders


def _slow_match(
    found: Units, wanted: encoders.State, model: encoders.State, generator: torch.Generator
) -> tuple[dict[str, Tensor], bool]:
    """Algorithm 1 by enumeration of every order of every bundle."""
    orders = {name: torch.arange(size) for name, size in found.sizes.items()}
    progress, moved = True, False
    while progress:
        progress = False
        for turn in torch.randperm(len(found.bundles), generator=generator).tolist():
            bundle = found.bundles[turn]
            tried = [{**orders, **o} for o in _slow_orders(found, bundle.sets, bundle.heads)]
            gains = [
                _slow_product(found, wanted, encoders.permuted(found, model, t)) for t in tried
            ]
            now = _slow_product(found, wanted, encoders.permuted(found, model, orders))
            if max(gains) > now + 1e-9 * abs(now):
                orders, progress, moved = tried[gains.index(max(gains))], True, True
    return orders, moved


def _slow_mean(models: list[encoders.State]) -> encoders.State:
    return {k: sum(m[k].double() for m in models).float() / len(models) for k in models[0]}


TINY = encoders.vit(width=4, layers=1, ratio=1.0)
"""Small enough that every order of every set of units can be tried."""


def _generator(source: object) -> torch.Generator:
    return Given(source, git_rebasin.NEEDS, "git-rebasin").generator()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_two_experts_are_matched_as_the_slow_search_does(seed: int) -> None:
    """A similarity that leaves an entry out, or permutes a wrong axis, would choose other orders."""
    found = encoders.units(TINY)
    first, second = (encoders.state(encoders.lively(TINY, s)) for s in (seed, seed + 50))
    source = encoders.source(TINY, first, second, seed=seed)
    orders, moved = _slow_match(found, first, second, _generator(source))
    assert moved
    want = _slow_mean([first, encoders.permuted(found, second, orders)])
    got = merged("git-rebasin", source)
    for name in found.axes:
        assert torch.allclose(got[name], want[name], atol=1e-5), name


def test_three_experts_are_matched_as_the_slow_merge_many_does() -> None:
    """MergeMany matches to the mean of the others as permuted by then, in random order, to the end."""
    found = encoders.units(TINY)
    models = [encoders.state(encoders.lively(TINY, s)) for s in (1, 2, 3)]
    source = encoders.source(TINY, *models, seed=4)
    generator = _generator(source)
    progress = True
    while progress:
        progress = False
        for i in torch.randperm(3, generator=generator).tolist():
            wanted = _slow_mean([m for j, m in enumerate(models) if j != i])
            orders, moved = _slow_match(found, wanted, models[i], generator)
            models[i] = encoders.permuted(found, models[i], orders)
            progress = progress or moved
    want, got = _slow_mean(models), merged("git-rebasin", source)
    for name in found.axes:
        assert torch.allclose(got[name], want[name], atol=1e-5), name


def test_running_statistics_are_permuted_and_match_nothing() -> None:
    """Large running variances would decide the matching; left in place, they would be others' units'."""
    make = encoders.CASES["resnet"][0]
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 7))
    other = encoders.permuted(found, model, encoders.shuffled(found, 8))
    for name in model:
        if name.endswith("running_var"):
            other[name] = torch.rand(other[name].shape) * 1e6
    plain = encoders.by_rule("git-rebasin", encoders.source(make, model, other))
    kept = [name for name in found.axes if "running" not in name]
    assert all(torch.allclose(plain[name], model[name], atol=1e-5) for name in kept)
    assert all((plain[n] >= 0).all() for n in plain if n.endswith("running_var"))


def test_identical_experts_give_the_expert() -> None:
    """Experts that agree unit by unit have nothing to gain from any other order."""
    model = encoders.state(encoders.lively(encoders.resnet(), 3))
    got = encoders.by_rule("git-rebasin", encoders.source(encoders.resnet(), model, model, model))
    assert all(torch.allclose(got[name], model[name], atol=1e-6) for name in model)


def test_scale_of_all_experts_scales_the_merge() -> None:
    """The matching compares weights by inner products, which a common factor does not reorder."""
    make = encoders.vit()
    models = [encoders.state(encoders.lively(make, s)) for s in (1, 2)]
    doubled = [{k: 2 * v for k, v in m.items()} for m in models]
    got = merged("git-rebasin", encoders.source(make, *doubled))
    once = merged("git-rebasin", encoders.source(make, *models))
    assert all(torch.allclose(got[name], 2 * once[name], atol=1e-5) for name in once)


def test_the_seed_alone_decides_what_is_random() -> None:
    """A merge that cannot be repeated would not be the one in the report."""
    make = encoders.vit()
    models = [encoders.state(encoders.lively(make, s)) for s in (1, 2, 3)]
    first, second = (merged("git-rebasin", encoders.source(make, *models)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_experts_are_not_changed() -> None:
    """A merge in place would spoil what the next method of the same run is given."""
    make = encoders.CASES["resnet"][0]
    models = {str(seed): encoders.state(encoders.lively(make, seed)) for seed in (1, 2, 3)}
    source = encoders.Kept(models, architecture=make)
    encoders.by_rule("git-rebasin", source)
    assert source.changed() == []


def test_bad_options_are_refused() -> None:
    """No sweep at all would be uniform averaging under another name."""
    model = encoders.state(encoders.vit()())
    source = encoders.source(encoders.vit(), model, model)
    with pytest.raises(InputError, match=r"option sweeps of git-rebasin: .*\(got 0\)"):
        merged("git-rebasin", source, sweeps=0)
    with pytest.raises(InputError, match="git-rebasin has no option 'sweep'"):
        merged("git-rebasin", source, sweep=3)
