"""ZipIt: against a slow zip of matrices, and experts that are each other's permutations."""

from __future__ import annotations

import itertools

import encoders
import numpy as np
import pytest
import slow_zip
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import Given, Queries, merged, zipit
from neulig_fl.merging.methods._alike import correlations


def _expert(make: encoders.Maker, size: int, seed: int) -> encoders.State:
    """An expert whose units all vary over random queries."""
    queries = encoders.inputs(64, size)
    return encoders.state(encoders.calibrated(encoders.lively(make, seed), queries))


@pytest.mark.parametrize("name", encoders.CASES)
def test_an_expert_and_its_permutation_give_the_expert(name: str) -> None:
    """Units that answer every query alike have to be merged with one another."""
    make, size = encoders.CASES[name]
    found = encoders.units(make)
    model = _expert(make, size, 7)
    other = encoders.permuted(found, model, encoders.shuffled(found, 8))
    source = encoders.source(make, model, other, inputs=encoders.inputs(64, size))
    assert encoders.worst(make, merged("zipit", source), model, size, 64) <= 1e-5
    assert encoders.worst(make, merged("simple-average", source), model, size, 64) > 0.1


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_three_permutations_of_an_expert_give_the_expert(name: str) -> None:
    """With alpha 1 a merged unit takes in its third copy; the average of all three is that unit."""
    make, size = encoders.CASES[name]
    found = encoders.units(make)
    model = _expert(make, size, 7)
    others = [encoders.permuted(found, model, encoders.shuffled(found, s)) for s in (8, 9)]
    source = encoders.source(make, model, *others, inputs=encoders.inputs(64, size))
    assert encoders.worst(make, merged("zipit", source, alpha=1.0), model, size, 64) <= 1e-5
    assert encoders.worst(make, merged("simple-average", source), model, size, 64) > 0.1


def test_three_copies_and_a_small_alpha_do_not_give_the_expert() -> None:
    """`AGREES = False` would be said without a reason."""
    make, size = encoders.CASES["vit"]
    model = _expert(make, size, 7)
    source = encoders.source(make, model, model, model, inputs=encoders.inputs(64, size))
    assert not zipit.AGREES
    assert encoders.worst(make, merged("zipit", source), model, size, 64) > 0.01


SLOW = {
    "vit": (encoders.vit(width=8, heads=2), 16, slow_zip.vit),
    "resnet": (encoders.resnet(layers=(1, 2, 1, 1), width=2, size=64), 64, slow_zip.resnet),
}


def _slow_correlations(
    name: str, models: list[encoders.State], queries: Tensor
) -> dict[str, Tensor]:
    found = [SLOW[name][2](model, queries, 2) for model in models]
    return {
        units: torch.stack([
            torch.from_numpy(np.nan_to_num(np.corrcoef(torch.cat(parts, dim=1).numpy().T)))
            for parts in zip(*(f[units] for f in found), strict=True)
        ]).mean(dim=0)
        for units in found[0]
    }  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_correlations_are_those_of_a_network_written_out(name: str) -> None:
    """A hook at a wrong place, or samples of two experts out of step, would correlate other things."""
    make, size, _ = SLOW[name]
    models = [_expert(make, size, seed) for seed in (1, 2, 3)]
    queries = encoders.inputs(150, size)
    source = encoders.source(make, *models, inputs=queries)
    got = correlations(Given(source, zipit.NEEDS, "zipit"), encoders.units(make))
    want = _slow_correlations(name, models, queries)
    assert sorted(got) == sorted(want)
    for units, matrix in want.items():
        off = ~torch.eye(len(matrix), dtype=torch.bool)
        assert (got[units] - matrix)[off].abs().max() <= 1e-4, units


def _slow_heads(alike: list[Tensor], expert: int, units: int, heads: int) -> list[list[int]]:
    """Each set's order of one expert's units that is most like the first's, for any order of heads."""
    size, best, chosen = units // heads, -float("inf"), None
    for places in itertools.permutations(range(heads)):
        total, orders = 0.0, []
        for matrix in alike:
            block, order = matrix[:units, expert * units : (expert + 1) * units], []
            for slot, head in enumerate(places):
                part = block[
                    slot * size : (slot + 1) * size, head * size : (head + 1) * size
                ].numpy()
                best_inside = linear_sum_assignment(part, maximize=True)[1].tolist()
                total += float(part[range(size), best_inside].sum())
                order += [head * size + u for u in best_inside]
            orders.append(order)
        if total > best:
            best, chosen = total, orders
    assert chosen is not None
    return chosen


def _matrices(alike: dict[str, Tensor], experts: int) -> dict[str, Tensor]:
    """U of every set, all experts' below one another, (experts * units, units), float64."""
    found = {}
    for units in (u for u in alike if not u.endswith(("queries", "values"))):
        clusters = slow_zip.zip_units(alike[units], experts, 0.3, 0.125)
        found[units] = torch.zeros(len(alike[units]), len(clusters)).double()
        for k, cluster in enumerate(clusters):
            found[units][cluster, k] = 1.0
    for units in (u.removesuffix("queries") for u in alike if u.endswith("queries")):
        sets = [f"{units}queries", f"{units}values"]
        size = len(alike[sets[0]]) // experts
        parts = [_slow_heads([alike[s] for s in sets], e, size, 2) for e in range(experts)]
        for i, name in enumerate(sets):
            found[name] = torch.cat([torch.eye(size).double()[:, order[i]] for order in parts])
    return found


def _slow_merged(name: str, models: list[encoders.State], queries: Tensor) -> encoders.State:
    """M blockdiag(W_1, ..., W_T) U, entry by entry, as one product of matrices."""
    found = encoders.units(SLOW[name][0])
    unmerge = _matrices(_slow_correlations(name, models, queries), len(models))
    merge = {k: (u / u.sum(dim=0)).T for k, u in unmerge.items()}
    result = {}
    for entry, axes in found.axes.items():
        values = [m[entry].double() for m in models]
        makes = next((a for a in axes if a.makes), None)
        reads = next((a for a in axes if not a.makes), None)
        done = []
        for t, value in enumerate(values):
            if reads is not None:
                u = unmerge[reads.sets[0]].chunk(len(models))[t]
                moved = value.movedim(reads.number, -1)
                value = (moved @ u).movedim(-1, reads.number)
            if makes is not None:
                blocks = [merge[s].chunk(len(models), dim=1)[t] for s in makes.sets]
                moved = value.movedim(makes.number, 0)
                flat = torch.block_diag(*blocks) @ moved.flatten(1) if moved.dim() > 1 else (
                    torch.block_diag(*blocks) @ moved
                )  # fmt: skip
                value = flat.reshape(moved.shape).movedim(0, makes.number)
            done.append(value)
        total = torch.stack(done).sum(dim=0)
        result[entry] = total if makes is not None else total / len(models)
    return result


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", SLOW)
def test_merged_entries_are_products_of_matrices(name: str, count: int) -> None:
    """A merge and an unmerge at the wrong axis, or not divided, would give another network."""
    make, size, _ = SLOW[name]
    models = [_expert(make, size, seed) for seed in (1, 2, 3)][:count]
    queries = encoders.inputs(150, size)
    got = encoders.by_rule("zipit", encoders.source(make, *models, inputs=queries))
    want = _slow_merged(name, models, queries)
    assert sorted(want) == sorted(k for k, v in got.items() if v.is_floating_point())
    for entry, value in want.items():
        assert torch.allclose(got[entry].double(), value, atol=1e-5), entry
        assert not entry.endswith("running_var") or (got[entry] >= 0).all()


def test_units_that_never_vary_correlate_with_none() -> None:
    """A dead unit's correlation is 0 over 0; NaN would be taken for the greatest of all."""
    make, size = encoders.CASES["vit"]
    model = _expert(make, size, 7)
    model["transformer.resblocks.0.mlp.c_fc.weight"][3] = 0.0
    source = encoders.source(make, model, model, inputs=encoders.inputs(20, size))
    found = correlations(Given(source, zipit.NEEDS, "zipit"), encoders.units(make))
    matrix = found["transformer.resblocks.0.hidden"]
    assert torch.isfinite(matrix).all()
    assert (matrix[3] == 0).all()
    assert all(torch.isfinite(v).all() for v in merged("zipit", source).values())


def test_more_experts_than_it_can_tell_apart_are_refused() -> None:
    """The experts of a unit are bits of one number; the 64th would be taken for another."""
    model = encoders.state(encoders.vit()())
    source = encoders.source(encoders.vit(), *[model] * 63, inputs=encoders.inputs(2, 16))
    with pytest.raises(InputError, match=r"zipit merges 62 experts at most \(got 63\)"):
        merged("zipit", source)


def test_one_query_is_too_few() -> None:
    """Correlations over one image's places would be taken for those of a data set."""
    make, size = encoders.CASES["vit"]
    model = _expert(make, size, 7)
    source = encoders.source(make, model, model, inputs=encoders.inputs(1, size))
    with pytest.raises(InputError, match=r"zipit correlates units over queries.*\(got 1\)"):
        merged("zipit", source)


def test_the_experts_are_not_changed() -> None:
    """A merge in place would spoil what the next method of the same run is given."""
    make, size = encoders.CASES["resnet"]
    models = {str(seed): _expert(make, size, seed) for seed in (1, 2)}
    pool = [Queries("task", encoders.inputs(8, size), lambda features: features)]
    source = encoders.Kept(models, architecture=make, pool=pool)
    merged("zipit", source)
    assert source.changed() == []


@pytest.mark.parametrize(("option", "value"), [("alpha", 1.5), ("beta", -0.1)])
def test_bad_options_are_refused(option: str, value: float) -> None:
    """An alpha above 1 would let a merged unit swallow all others."""
    model = encoders.state(encoders.vit()())
    source = encoders.source(encoders.vit(), model, model, inputs=encoders.inputs(8, 16))
    with pytest.raises(InputError, match=rf"option {option} of zipit: .*\(got {value}\)"):
        merged("zipit", source, **{option: value})
