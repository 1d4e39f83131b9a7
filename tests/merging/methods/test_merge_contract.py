"""What every merge method holds to: one suite for all files in the folder."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import subjects
import three_matrices
import torch
from torch import Tensor, nn

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Needs, StateDicts, merged

METHODS = methods.names()
STATES = [name for name in METHODS if hasattr(methods.load(name), "merge")]
BOTH = [(method, name) for method in METHODS for name in subjects.ARCHITECTURES]
NAMED_OR_MEASURED = {"adamerging", "fisher", "git-rebasin", "lines", "regmean", "zipit"}
"""Methods that need an architecture's names, or more of an expert than its parameters."""

WANTED = {
    "simple-average", "task-arithmetic", "ties", "regmean", "adamerging", "wemoe", "fisher", "dare",
    "iso-c", "tsv-m", "pcb", "consensus", "model-stock", "lines", "magmax", "slerp", "git-rebasin",
    "zipit",
}  # fmt: skip


@cache
def whole(name: str) -> StateDicts:
    """The experts of one architecture; measured once."""
    return subjects.source(name)


def fitting(method: str, name: str) -> StateDicts:
    """What a method reads of them."""
    return subjects.cut(method, whole(name))


def close(first: Tensor, second: Tensor, tolerance: float = 2e-4) -> bool:
    """Whether two outputs are the same to rounding."""
    return float((first - second).abs().max()) <= tolerance * float(second.abs().max() + 1e-9)


def test_the_folder_has_every_method() -> None:
    """A method could be lost, and nobody would miss its row."""
    assert set(METHODS) >= WANTED


@pytest.mark.parametrize("method", METHODS)
def test_a_method_says_what_it_is(method: str) -> None:
    """The table of methods would have holes, and a reader would not find the paper."""
    module = methods.load(method)

    assert re.match(r"(arXiv:\d{4}\.\d{5}|doi:10\.\d{4,}/\S+)", module.SOURCE)
    assert isinstance(module.NEEDS, Needs)
    assert module.NEEDS.released
    assert (module.__doc__ or "").strip()
    assert "Source:" in (methods.rule(module).__doc__ or "")
    for name, field in methods.options(module).model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


@pytest.mark.parametrize("method", METHODS)
def test_an_option_that_it_does_not_have_is_refused(method: str) -> None:
    """A typo would be ignored, and the default be taken for the value that was meant."""
    with pytest.raises(InputError, match=f"{method} has no option 'colour'"):
        methods.settings(methods.load(method), {"colour": 1})


@pytest.mark.parametrize(("method", "name"), BOTH)
def test_every_entry_comes_once_in_order_whole_and_finite(method: str, name: str) -> None:
    """A merged model would lack a layer, or have another's shape."""
    of = fitting(method, name)
    before = {key: {k: v.clone() for k, v in model.items()} for key, model in of.models.items()}
    found = subjects.made(method, of)

    for key, model in of.models.items():
        for entry, value in model.items():
            assert torch.equal(value, before[key][entry]), f"{key} was changed: {entry}"
    if isinstance(found, nn.Module):
        assert not any(p.requires_grad for p in found.parameters())
    else:
        assert {k: tuple(v.shape) for k, v in found.items()} == of.entries
        assert list(found) == list(of.entries)
        assert {v.dtype for v in found.values()} == {torch.float32}
        assert all(torch.isfinite(v).all() for v in found.values())
        assert all(v.min() >= 0 for k, v in found.items() if k.endswith("running_var"))
    assert torch.isfinite(subjects.outputs(name, found)).all()


@pytest.mark.parametrize(("method", "name"), BOTH)
def test_the_same_again_is_the_same(method: str, name: str) -> None:
    """A run could not be repeated."""
    of = fitting(method, name)
    first, second = (subjects.outputs(name, subjects.made(method, of)) for _ in range(2))

    assert torch.equal(first, second)


@pytest.mark.parametrize(("method", "name"), BOTH)
def test_identical_experts_give_the_expert(method: str, name: str) -> None:
    """Law 1: a merge of equals would be something else, or a method would claim so falsely."""
    module = methods.load(method)
    one = subjects.expert(name, 7)
    whole = subjects.source(name, [one] * 3)
    found = subjects.outputs(name, subjects.made(method, subjects.cut(method, whole)))
    alone = subjects.outputs(name, {k: v for k, v in one.items() if v.is_floating_point()})

    assert close(found, alone) is getattr(module, "AGREES", True)


@pytest.mark.parametrize(("method", "name"), [b for b in BOTH if methods.load(b[0]).NEEDS.start])
def test_experts_that_have_not_moved_give_the_checkpoint(method: str, name: str) -> None:
    """A method on task vectors would make something of nothing."""
    start = subjects.start(name)
    of = subjects.cut(method, subjects.source(name, [start] * 3))
    at_start = subjects.outputs(name, {})

    assert close(subjects.outputs(name, subjects.made(method, of)), at_start)


@pytest.mark.parametrize(("method", "name"), BOTH)
def test_the_order_of_the_clients_does_not_matter(method: str, name: str) -> None:
    """Law 3: a client's place in the file would decide about the merged model."""
    if not getattr(methods.load(method), "SYMMETRIC", True):
        pytest.skip("the method declares that the order matters")
    of = fitting(method, name)
    turned = replace(of, models=dict(reversed(of.models.items())))
    here, there = (subjects.outputs(name, subjects.made(method, each)) for each in (of, turned))

    assert close(here, there)


@pytest.mark.parametrize("method", STATES)
def test_dtypes_and_counters_are_kept(method: str) -> None:
    """A model in half precision would come back twice as large, or BatchNorm lose its counter."""
    of = fitting(method, "tiny-rn")
    short = replace(
        of,
        pool=whole("tiny-rn").pool,  # for methods after which BatchNorm's statistics are estimated
        models={key: _as(model, torch.bfloat16) for key, model in of.models.items()},
        checkpoint=None if of.checkpoint is None else _as(of.checkpoint, torch.bfloat16),
    )
    found = merged(method, short, **subjects.QUICK.get(method, {}))
    first = next(iter(short.models.values())) if of.checkpoint is None else short.checkpoint
    assert first is not None

    assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in first.items()}
    counters = [k for k, v in first.items() if not v.is_floating_point()]
    assert counters
    assert all(torch.equal(found[k], first[k]) for k in counters)


@pytest.mark.parametrize("method", [m for m in STATES if m not in NAMED_OR_MEASURED])
def test_an_entry_without_numbers_stays_one(method: str) -> None:
    """A model with an empty head or buffer would end in an IndexError."""
    shapes = {**three_matrices.LINEAR, "head.weight": (0, 5), "head.bias": (0,)}
    found = merged(method, three_matrices.source(shapes, 2))

    assert {k: tuple(v.shape) for k, v in found.items()} == shapes


def _as(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in model.items()}


@pytest.mark.parametrize("method", STATES)
def test_models_that_do_not_fit_are_refused_by_name(method: str) -> None:
    """Models of two architectures would be merged where their names happen to meet."""
    of = fitting(method, "deep-vit")
    names = list(of.models)
    last = dict(of.models[names[-1]])
    lacking = {k: v for k, v in last.items() if k != "proj"}
    more = {**last, "head.weight": torch.zeros(2)}
    other = {**last, "proj": last["proj"][:, :3]}

    for wrong, words in (
        (lacking, f"{names[-1]} lacks proj"),
        (more, f"{names[-1]} has besides head.weight"),
        (other, rf"{names[-1]}: proj is \(16, 3\)"),
    ):
        with pytest.raises(InputError, match=words):
            merged(method, replace(of, models={**of.models, names[-1]: wrong}))


@pytest.mark.parametrize("what", ["an expert", "theta_0", "records", "queries"])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_not_finite_are_refused_by_name(method: str, what: str) -> None:
    """A NaN would be hidden by one rule and spread by another, and nobody know whose it is."""
    of, needs = fitting(method, "deep-vit"), methods.load(method).NEEDS
    there = {"theta_0": needs.start, "queries": needs.queries, "records": of.records}
    if not there.get(what, True):
        pytest.skip("the method does not read it")
    last = list(of.models)[-1]
    bad = {**of.models[last], "ln_post.bias": torch.full((16,), torch.nan)}
    kind = next(iter(of.records), "")
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "an expert": ({"models": {**of.models, last: bad}}, f"{last}: ln_post.bias holds 16 of 16"),
        "theta_0": ({"checkpoint": bad}, "theta_0: ln_post.bias holds 16 of 16 values"),
        "records": ({"records": _spoiled(of.records, kind, last)}, rf"{kind} of {last}: \w+:.* holds 1 of"),
        "queries": ({"pool": _bad_queries(of.pool)}, "queries of second: inputs holds 1 of"),
    }  # fmt: skip
    changes, words = wrong[what]
    with pytest.raises(InputError, match=words):
        replace(of, **changes)


def _spoiled(records: Any, kind: str, client: str) -> Any:
    if not records:
        return records
    name, value = next(iter(records[kind][client].items()))
    spoiled = value.clone()
    spoiled.view(-1)[0] = torch.inf
    return {**records, kind: {**records[kind], client: {**records[kind][client], name: spoiled}}}


def _bad_queries(pool: Any) -> Any:
    if not pool:
        return pool
    inputs = pool[-1].inputs.clone()
    inputs.view(-1)[7] = torch.nan
    return [*pool[:-1], replace(pool[-1], inputs=inputs)]


@pytest.mark.parametrize("method", [m for m in METHODS if hasattr(methods.load(m), "unfit")])
def test_a_model_that_a_rule_does_not_know_is_refused_before_and_in_a_merge(method: str) -> None:
    """`check` would pass what a run cannot do, or refuse what it can."""
    for name in subjects.ARCHITECTURES:
        assert methods.load(method).unfit(whole(name).entries) is None
    vector = {"w": torch.ones(2)}
    problem = methods.load(method).unfit({"w": (2,)})
    assert problem is not None
    assert problem.startswith(method)
    of = StateDicts({"a": vector, "b": vector}, vector, architecture=lambda: nn.Linear(1, 1))
    with pytest.raises(InputError, match=re.escape(problem)):
        subjects.made(method, replace(of, pool=whole("deep-vit").pool))


NEEDED = [
    (method, what)
    for method in METHODS
    for what in ("each", "sums", "start", "queries")
    if getattr(methods.load(method).NEEDS, what)
]


@pytest.mark.parametrize(("method", "what"), NEEDED)
def test_what_is_declared_is_read_and_nothing_else(method: str, what: str) -> None:
    """A client would be asked for what the method does not need, or it would read in secret."""
    needs = methods.load(method).NEEDS
    of = fitting(method, "deep-vit")
    value = getattr(needs, what)
    less = [False] if value is True else [tuple(k for k in value if k != kind) for kind in value]
    for fewer in less:
        with pytest.raises(RunError, match=f"{method} reads .* and declares"):
            subjects.made(method, of, replace(needs, **{what: fewer}))
