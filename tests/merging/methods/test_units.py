"""The map of exchangeable units: any order of them leaves every output as it is."""

from __future__ import annotations

from itertools import chain, permutations, product

import encoders
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Given, Needs
from neulig_fl.merging.methods._assignment import best_orders, total
from neulig_fl.merging.methods._units import Axis, Units, reordered, units_of

CASES = {
    "vit": (encoders.vit(), 16),
    "vit-3-heads": (encoders.vit(width=24, layers=3, heads=3, size=24), 24),
    "resnet": (encoders.resnet(), 32),
    "resnet-64": (encoders.resnet(layers=(2, 1, 1, 3), width=6, size=64), 64),
    "micro-vit": (encoders.bundled("micro-vit"), 32),
    "micro-rn": (encoders.bundled("micro-rn"), 32),
}


@pytest.mark.parametrize("name", CASES)
def test_any_order_of_units_gives_the_same_outputs(name: str) -> None:
    """An entry left out, or an axis taken for another, would change what a permuted model answers."""
    make, size = CASES[name]
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 1, torch.float64))
    queries = encoders.inputs(3, size, dtype=torch.float64)
    want = encoders.outputs(make, model, queries)
    for seed in range(3):
        other = encoders.permuted(found, model, encoders.shuffled(found, seed))
        got = encoders.outputs(make, other, queries)
        assert (got - want).abs().max() <= 1e-9 * want.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_units_moved_on_one_side_alone_change_the_outputs(name: str) -> None:
    """Outputs that no order of units changes would make the test before this one pass for nothing."""
    make, size = CASES[name]
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 1, torch.float64))
    queries = encoders.inputs(2, size, dtype=torch.float64)
    want = encoders.outputs(make, model, queries)
    for units, size_ in found.sizes.items():
        for made in (True, False):
            order = torch.arange(size_).flip(0)  # the heads of an attention change places as well
            moved = {
                name: reordered(value, _side(found, name, units, made), {units: order})
                for name, value in model.items()
            }
            if any(not torch.equal(moved[k], model[k]) for k in model):
                changed = (encoders.outputs(make, moved, queries) - want).abs().max()
                assert changed > 1e-4 * want.abs().max(), (units, made)


def _side(found: Units, name: str, units: str, made: bool) -> tuple[Axis, ...]:
    """The axes of an entry that make the units, or that read them."""
    return tuple(a for a in found.axes.get(name, ()) if units in a.sets and a.makes is made)


@pytest.mark.parametrize("name", CASES)
def test_every_unit_is_in_one_bundle(name: str) -> None:
    """A set in no bundle would never be matched; one in two would be matched twice."""
    found = encoders.units(CASES[name][0])
    bundled = [units for bundle in found.bundles for units in bundle.sets]
    assert sorted(bundled) == sorted(found.sizes)
    attended = {units for b in found.bundles if b.attention for units in b.sets}
    assert sorted(attended | set(found.seen_by)) == sorted(found.sizes)


def test_streams_and_sizes_of_the_micro_resnet() -> None:
    """A stream shared by too few blocks would be permuted apart from the rest of its skip path."""
    found = encoders.units(encoders.bundled("micro-rn"))
    streams = {k: v for k, v in found.sizes.items() if k.endswith("stream")}
    assert streams == {
        "stem.stream": 16, "layer1.stream": 64, "layer2.stream": 128, "layer3.stream": 256,
        "layer4.stream": 512,
    }  # fmt: skip
    assert {b.heads for b in found.bundles if b.attention} == {8}
    assert found.sizes["attnpool.queries"] == found.sizes["attnpool.values"] == 512


def test_other_models_are_refused_with_the_entry() -> None:
    """A model that the map does not know would be merged with units of nobody knows what."""
    model = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(2)}
    source = encoders.source(lambda: torch.nn.Sequential(torch.nn.Linear(2, 2)), model, model)
    with pytest.raises(InputError, match=r"git-rebasin cannot tell .* '0\.weight'.*ModifiedResNet"):
        units_of(Given(source, Needs(each=("parameters",)), "git-rebasin"))


def test_blocks_with_more_than_plain_attention_are_refused() -> None:
    """Norms of queries and keys would be left as they are while their units move."""
    make = lambda: encoders.vit()(block_type="custom", qk_norm=True)  # noqa: E731
    model = encoders.state(make())
    with pytest.raises(InputError, match=r"resblocks\.0\.attn\.ln_q\.weight"):
        units_of(Given(encoders.source(make, model, model), Needs(each=("parameters",)), "zipit"))


def test_layer_scale_moves_with_the_stream() -> None:
    """Encoders with layer scale would answer otherwise after a permutation."""
    make = lambda: encoders.vit()(ls_init_value=0.1)  # noqa: E731
    found = encoders.units(make)
    model = encoders.state(encoders.lively(make, 2, torch.float64))
    assert "transformer.resblocks.0.ls_1.gamma" in model
    queries = encoders.inputs(2, 16, dtype=torch.float64)
    other = encoders.permuted(found, model, encoders.shuffled(found, 0))
    want = encoders.outputs(make, model, queries)
    assert torch.allclose(encoders.outputs(make, other, queries), want, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(heads=st.integers(1, 3), size=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_orders_of_heads_are_the_best_of_all(heads: int, size: int, seed: int) -> None:
    """A greedy or a mixed-up assignment would miss the order with the greatest similarity."""
    generator = torch.Generator().manual_seed(seed)
    units = heads * size
    similar = [torch.randn(units, units, generator=generator) for _ in range(2)]
    found = best_orders(similar, heads)
    best = max(
        sum(max(total(s, torch.tensor(order)) for order in orders) for s in similar)
        for orders in _orders_by_heads(heads, size)
    )
    got = sum(total(s, order) for s, order in zip(similar, found, strict=True))
    assert got == pytest.approx(best, abs=1e-6)


def _orders_by_heads(heads: int, size: int) -> list[list[list[int]]]:
    """For every order of the heads, all orders of the units in which heads stay whole."""
    found = []
    for places in permutations(range(heads)):
        inside = [[[h * size + u for u in p] for p in permutations(range(size))] for h in places]
        found.append([list(chain.from_iterable(parts)) for parts in product(*inside)])
    return found
