"""Merging state dicts: tied entries, running statistics, and what does not fit the dtype."""

from __future__ import annotations

from functools import partial
from typing import Any

import encoders
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neulig_fl.core.errors import InputError
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Queries, StateDicts, merged

FREE = [
    name
    for name in methods.names()
    if set(methods.load(name).NEEDS.each + methods.load(name).NEEDS.sums) == {"parameters"}
    and not methods.load(name).NEEDS.queries
    and name != "git-rebasin"  # knows two architectures, neither of which ties anything
]


class Language(nn.Module):
    """A tiny language model whose output layer is its embedding, if it is tied."""

    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.wte = nn.Embedding(12, 6)
        self.h = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.lm_head = nn.Linear(6, 12, bias=False)
        if tie:
            self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the last token, (queries, 12), of tokens that came as floats."""
        states = self.wte(tokens.long())
        for block in self.h:
            states = states + block(states).relu()
        found: Tensor = self.lm_head(states[:, -1])
        return found


def language(seed: int, tie: bool = True) -> dict[str, Tensor]:
    """A state dict of it."""
    torch.manual_seed(seed)
    return dict(Language(tie).state_dict())


def copied(model: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a file has it: no two entries share memory."""
    return {name: value.clone() for name, value in model.items()}


def experts(method: str, file: bool, tie: bool = True) -> StateDicts:
    """As many as the method merges, and theta_0."""
    every = [language(seed, tie) for seed in range((methods.load(method).NEEDS.experts or 3) + 1)]
    start, *models = map(copied, every) if file else every
    return StateDicts(dict(zip("abc", models, strict=False)), start, seed=3)


@pytest.mark.parametrize("file", [False, True])
@pytest.mark.parametrize("method", FREE)
def test_tied_entries_stay_one(method: str, file: bool) -> None:
    """A language model's output layer would no longer be its embedding, or count twice in a rule."""
    of = experts(method, file)
    found = merged(method, of)
    alone = StateDicts(
        {k: {n: v for n, v in m.items() if n != "lm_head.weight"} for k, m in of.models.items()},
        {n: v for n, v in (of.checkpoint or {}).items() if n != "lm_head.weight"},
        seed=of.seed,
    )
    assert list(found) == list(of.models["a"])
    assert found["lm_head.weight"] is found["wte.weight"]
    wanted = merged(method, alone)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not torch.equal(found["wte.weight"], of.models["a"]["wte.weight"])


def test_entries_that_are_not_tied_come_apart() -> None:
    """Layers that a checkpoint leaves alike by chance would be merged as one."""
    of = experts("dare", file=True, tie=False)
    assert of.tied == {}
    zeros = {"a.bias": torch.zeros(3), "b.bias": torch.zeros(3), "w": torch.zeros(2)}
    moved = {**zeros, "w": torch.ones(2)}
    assert StateDicts({"x": moved, "y": zeros}, zeros).tied == {}  # equal, and never trained


def test_the_architecture_decides_what_is_tied() -> None:
    """Two layers that happen to be equal in all experts would be tied for ever."""
    of = experts("dare", file=True)
    for tie, wanted in ((True, {"lm_head.weight": "wte.weight"}), (False, {})):
        known = StateDicts(of.models, of.checkpoint, architecture=partial(Language, tie))
        assert known.tied == wanted


def test_a_tie_that_the_models_contradict_is_refused() -> None:
    """The numbers of one of the two names would be dropped."""
    one, two = experts("dare", file=True, tie=False), experts("dare", file=True)
    known = StateDicts(one.models, one.checkpoint, architecture=partial(Language, True))
    with pytest.raises(InputError, match=r"^lm_head\.weight is wte\.weight in the architecture"):
        assert known.tied is None
    assert two.tied


@pytest.mark.parametrize(
    "value",
    [torch.tensor([1j]), torch.eye(2).to_sparse(), np.ones(2), None],
    ids=["complex", "sparse", "of NumPy", "none"],
)
def test_what_is_no_dense_tensor_of_reals_is_refused(value: Any) -> None:
    """Complex numbers would be taken of the first model, others end in a library's error."""
    with pytest.raises(InputError, match=r"^a: w is .*; merging takes dense tensors of reals"):
        StateDicts({"a": {"w": value}, "b": {"w": value}})


FLOAT8 = [name for name in dir(torch) if name.startswith("float8_")]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *((torch.zeros(2).to(getattr(torch, each)), f"torch.{each}; .*cast it") for each in FLOAT8),
        (torch.zeros(2, device="meta"), r"torch.float32 without numbers \(device meta\); .*load"),
        ({"scale": 1}, "dict; .*leave it out of all state dicts, and put it back"),
        (None, "NoneType; .*leave it out"),
        (torch.zeros(2).to_sparse(), "torch.float32 torch.sparse_coo; .*dense tensor of reals, or"),
    ],
    ids=str,
)
@pytest.mark.parametrize("which", ["a", "theta_0"])
@pytest.mark.parametrize("method", ["simple-average", "ties"])
def test_what_has_no_mean_is_refused_with_what_to_do(
    value: Any, words: str, which: str, method: str
) -> None:
    """Without it a quantised model, or a layer's extra state, would end in a library's error."""
    good = {"fc.w": torch.ones(2), "fc._extra_state": torch.ones(2)}
    bad = good | {"fc._extra_state": value}
    models = {"a": bad if which == "a" else good, "b": good}
    with pytest.raises(InputError, match=rf"^{which}: fc\._extra_state is {words}"):
        merged(method, StateDicts(models, checkpoint=bad if which == "theta_0" else good))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(2, 2), r"is Linear, not names and tensors; pass its `state_dict\(\)`"),
        ([torch.ones(2)], "is list, not names and tensors; pass a state dict"),
        ({0: torch.ones(2)}, "0 is no name; pass what"),
        ({}, "has no floating tensor, so that nothing can be merged; pass a state dict"),
        ({"model": {"w": torch.ones(2)}}, "holds dicts and no tensors; pass what is under 'model'"),
        ({"steps": torch.ones(2).long()}, "has no floating tensor"),
    ],
    ids=str,
)
def test_what_is_no_state_dict_is_refused_with_what_to_pass(model: Any, words: str) -> None:
    """Without it a model in place of its state dict would end in an AttributeError."""
    with pytest.raises(InputError, match=f"^b:? {words}"):
        merged("simple-average", StateDicts({"b": model, "a": model}))


@pytest.mark.parametrize("method", FREE)
def test_the_merged_model_has_memory_of_its_own(method: str) -> None:
    """Without it training the merged model would change an expert's counters, or theta_0."""
    every = [
        {f"h.{i}.w": torch.full((2, 2), 1.0 + i) for i in range(2)} | {"n": torch.tensor(5 + seed)}
        for seed in range((methods.load(method).NEEDS.experts or 3) + 1)
    ]
    start, *models = every
    source = StateDicts({f"client-{i}": m for i, m in enumerate(models)}, checkpoint=start)
    before = [copied(model) for model in every]
    for value in merged(method, source).values():
        value.zero_()
    for model, same in zip(every, before, strict=True):
        assert all(torch.equal(model[name], same[name]) for name in same)


def test_parameters_can_be_merged_and_give_no_graph() -> None:
    """Without it the merged model would hold on to all experts, and could not be saved as it is."""
    models = {name: dict(nn.Linear(2, 2).named_parameters()) for name in "ab"}
    found = merged("task-arithmetic", StateDicts(models, checkpoint=models["a"]))
    assert not any(value.requires_grad for value in found.values())


def test_a_learnt_weight_of_a_tied_entry_is_one() -> None:
    """Layer-wise AdaMerging would learn one weight for the embedding, another for the output layer."""
    of = experts("adamerging", file=True)
    tokens = torch.arange(12.0).reshape(6, 2)
    pool = [Queries("words", tokens, lambda logits: logits)]
    known = StateDicts(of.models, of.checkpoint, architecture=Language, pool=pool)
    found = merged("adamerging", known, steps=3, lr=0.1)
    assert found["lm_head.weight"] is found["wte.weight"]
    moved = {k: v - (of.checkpoint or {})[k] for k, v in found.items()}
    assert moved["wte.weight"].abs().max() > 0.1


def resnets(**more: Any) -> StateDicts:
    """Two experts with BatchNorm."""
    make = encoders.resnet()
    models = [encoders.state(encoders.lively(make, seed)) for seed in (1, 2)]
    return StateDicts({"a": models[0], "b": models[1]}, seed=1, **more)


def pool(*counts: int) -> list[Queries]:
    """Queries of as many tasks."""
    return [
        Queries(f"task-{i}", encoders.inputs(count, 32, seed=i), lambda z: z)
        for i, count in enumerate(counts)
    ]


@pytest.mark.parametrize("method", ["git-rebasin", "zipit"])
def test_running_statistics_are_those_of_the_merged_model(method: str) -> None:
    """Its units are new ones: with the experts' averaged statistics its features are 70 % off."""
    of = resnets(architecture=encoders.resnet(), pool=pool(20, 30))
    plain, found = encoders.by_rule(method, of), merged(method, of)
    network = encoders.resnet()()
    network.load_state_dict(plain)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    network.train()(torch.cat([queries.inputs for queries in of.pool]))
    wanted = network.state_dict()
    statistics = [name for name in plain if "running_" in name]
    assert statistics
    for name in of.entries:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5), name
    assert any(not torch.allclose(found[n], plain[n], rtol=0.1) for n in statistics)


def test_as_many_queries_as_in_a_run_are_used() -> None:
    """A pool of millions would go through the model at once, or Python give another model than a run."""
    long = resnets(architecture=encoders.resnet(), pool=pool(200, 150))
    short = resnets(architecture=encoders.resnet(), pool=[
        Queries(q.task, q.inputs[:128], q.logits) for q in long.pool
    ])  # fmt: skip
    one, other = merged("git-rebasin", long), merged("git-rebasin", short)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("more", [{}, {"architecture": encoders.resnet()}])
def test_a_model_with_void_statistics_is_not_given(more: dict[str, Any]) -> None:
    """A silently wrong model would be returned."""
    with pytest.raises(
        InputError, match=r"git-rebasin .* BatchNorm .*pass pool= and architecture="
    ):
        merged("git-rebasin", resnets(**more))


def test_a_sum_that_half_precision_cannot_hold_is_refused() -> None:
    """Infinite weights would be returned without a word."""
    large = {"w": torch.tensor([6.0e4], dtype=torch.float16)}
    of = StateDicts({"a": large, "b": large}, {"w": torch.zeros(1, dtype=torch.float16)})
    words = "task-arithmetic: w of the merged model is not finite in torch.float16; try other"
    with pytest.raises(InputError, match=words):
        merged("task-arithmetic", of, **{"lambda": 1.0})
    wide = {"w": torch.tensor([1e300], dtype=torch.float64)}
    with pytest.raises(
        InputError, match="a: w holds 1 of 1 values that are not finite numbers in float32"
    ):
        StateDicts({"a": wide, "b": wide})


def test_the_first_try_from_python_works_or_says_what_to_write() -> None:
    """Without it a dict of state dicts ends in an AttributeError from inside."""
    experts = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([3.0])}}
    assert merged("simple-average", experts)["w"].tolist() == [2.0]
    listed: Any = list(experts.values())
    with pytest.raises(InputError, match=r"are no dict; give each a name: StateDicts\({'a': "):
        merged("simple-average", listed)
    with pytest.raises(InputError, match="pass checkpoint="):
        merged("task-arithmetic", experts)
    arrays: Any = {name: {"w": np.ones(2)} for name in "ab"}
    with pytest.raises(InputError, match=r"torch\.from_numpy"):
        merged("simple-average", arrays)
