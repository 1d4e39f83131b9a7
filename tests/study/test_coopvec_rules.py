"""How NeuLig and every control weigh the experts, from released records alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.randomness import torch_generator
from neulig_fl.merging import coopvecs
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.records.kinds import Request
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_needs, coopvec_rules
from neulig_fl.study.coopvec_rules import RULES, RunSituation, Weighting
from neulig_fl.study.trained_portland import TrainedPortland

TASKS, ROWS, DIM = ["first", "second"], 7, 16


def _outputs(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))


def _tell(released: ReleasedRecords, queries: str, clients: tuple[str, ...] = tiny.CLIENTS) -> None:
    rows = {"pool": 12, "evaluation": 2 * ROWS}[queries]
    for seed, name in enumerate(clients):
        record = {"features": _outputs(rows, seed).numpy()}
        released.take(name, Request("s", "A", "features", queries), record, rows * DIM * 4)


def _fitted(
    experts: tuple[str, ...] = tiny.CLIENTS, best: str = "bob", sharp: float = 0.5
) -> TrainedPortland:
    generator = torch.Generator().manual_seed(9)
    count = len(experts)
    weight = sharp * torch.randn(count, count * DIM, generator=generator)
    network = Portland(weight, torch.zeros(count), experts)
    return TrainedPortland(Fit(network, [], 0.0, 0), "s", "A", "pool", best, "by hand")


Make = Callable[..., RunSituation]


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    """A situation in which all clients answered the pool and the evaluation."""

    def made(experts: tuple[str, ...] = tiny.CLIENTS, **more: Any) -> RunSituation:
        released = tiny.released(tmp_path, data)
        for queries in ("pool", "evaluation"):
            _tell(released, queries)
        return RunSituation(released, more.get("trained", _fitted()), "A", experts)

    return made


def _vectors(weighting: Weighting) -> list[Tensor]:
    parts = [p for p in weighting.merge if p is not None]
    assert len(parts) == 2
    return parts


@pytest.mark.parametrize("experts", [tiny.CLIENTS, ("ada", "cyd"), ("bob", "cyd"), ("bob",)])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_gives_every_query_a_coopvec_over_those_who_share(
    name: str, experts: tuple[str, ...], make: Make
) -> None:
    """Without it a merge would not be a weighted mean, or use an expert that nobody released."""
    if name == "best-single" and "bob" not in experts:
        pytest.skip("the best single expert is bob's")
    found = RULES[name](make(experts))
    assert len(found.merge) == len(found.ensemble) == len(found.reasons) == 2
    for part, reason in zip([*found.merge, *found.ensemble], found.reasons * 2, strict=True):
        assert (part is None) == (reason is not None)
        if part is not None:
            assert part.shape == (ROWS, len(experts))
            assert torch.allclose(part.sum(dim=1), torch.ones(ROWS), atol=1e-6)
            assert bool((part >= 0).all())


@pytest.mark.parametrize("name", [n for n in RULES if n != "batch-first"])
def test_merge_and_ensemble_use_the_same_coopvecs(name: str, make: Make) -> None:
    """Without it a gap would compare two different mixtures."""
    found = RULES[name](make())
    for one, two in zip(found.merge, found.ensemble, strict=True):
        assert torch.equal(one, two)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["sample", "batch-first", "task", "global", "hard-routing", "best-single"]
)
def test_what_needs_portland_says_so_when_there_is_none(name: str, make: Make) -> None:
    """Without it a stage without training would end the run instead of a row."""
    with pytest.raises(
        NotAvailable, match=r"^no Portland was trained in this or an earlier stage$"
    ):
        RULES[name](make(trained=None))


def test_simple_average_and_oracle_need_no_portland(make: Make) -> None:
    """Without it the two baselines would be missing where nothing was trained."""
    for part in _vectors(coopvec_rules.simple_average(make(trained=None))):
        assert torch.allclose(part, torch.full((ROWS, 3), 1 / 3))
    first, second = _vectors(coopvec_rules.oracle(make(trained=None)))
    assert first.argmax(dim=1).tolist() == [0] * ROWS, "the first client of the task is its owner"
    assert second.argmax(dim=1).tolist() == [1] * ROWS
    assert set(first.flatten().tolist()) == {0.0, 1.0}


def test_per_sample_is_portlands_own_coopvec(make: Make) -> None:
    """Without it NeuLig's row would be another network's."""
    situation = make()
    outputs = torch.stack([_outputs(2 * ROWS, seed) for seed in range(3)], dim=1)
    expected = _fitted().portland.coopvecs(outputs)
    assert torch.allclose(
        torch.cat(_vectors(coopvec_rules.per_sample(situation))), expected, atol=1e-6
    )


def test_a_missing_experts_weight_goes_to_the_others_in_proportion(make: Make) -> None:
    """Without it a refusal would change how the consenting experts stand to one another."""
    whole = torch.cat(_vectors(coopvec_rules.per_sample(make())))[:, [0, 2]]
    part = torch.cat(_vectors(coopvec_rules.per_sample(make(("ada", "cyd")))))
    assert torch.allclose(part, whole / whole.sum(dim=1, keepdim=True), atol=1e-6)


def test_an_expert_that_portland_does_not_read_gets_no_weight(make: Make) -> None:
    """Without it a client that answered the evaluation alone would end the run."""
    situation = make(tiny.CLIENTS, trained=_fitted(("ada", "cyd"), best="ada"))
    for part in _vectors(coopvec_rules.per_sample(situation)):
        assert part.shape == (ROWS, 3)
        assert part[:, 1].tolist() == [0.0] * ROWS
        assert torch.allclose(part.sum(dim=1), torch.ones(ROWS))


def test_batch_first_gives_a_shuffled_batch_its_first_querys_coopvec(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `batch-first` would not be what the released code does."""
    assert coopvec_rules.BATCH == 128
    monkeypatch.setattr(coopvec_rules, "BATCH", 3)
    situation = make()
    own = situation.coopvecs()
    found, again = coopvec_rules.batch_first(situation), coopvec_rules.batch_first(situation)
    for task, merge, ensemble, repeat, vectors in zip(
        TASKS, found.merge, found.ensemble, again.merge, own, strict=True
    ):
        assert torch.equal(ensemble, vectors)  # type: ignore[arg-type]
        assert torch.equal(merge, repeat)  # type: ignore[arg-type]
        seed = situation.known.setting.seed
        order = torch.randperm(ROWS, generator=torch_generator(seed, "batch-first", task)).tolist()
        assert order != list(range(ROWS)), "the batch must be shuffled"
        for place, query in enumerate(order):
            first = order[place - place % 3]
            assert torch.equal(merge[query], vectors[first])  # type: ignore[index]
    assert found.reasons == [None, None]
    assert not torch.equal(found.merge[0], own[0])  # type: ignore[arg-type]


def test_by_task_every_query_has_its_tasks_map(make: Make) -> None:
    """Without it `task` would be another granularity than the CoopVec Map in the report."""
    situation = make()
    pool = torch.stack([_outputs(12, seed) for seed in range(3)], dim=1)
    betas = list(_fitted().portland.coopvecs(pool).split([6, 6]))
    expected = coopvecs.coopvec_map(betas).values
    for part, row in zip(_vectors(coopvec_rules.per_task(situation)), expected, strict=True):
        assert torch.allclose(part, row.expand(ROWS, -1), atol=1e-6)
    overall = torch.cat(_vectors(coopvec_rules.global_mean(situation)))
    assert torch.allclose(overall, coopvecs.mean_coopvec(betas).expand(2 * ROWS, -1), atol=1e-6)


def test_hard_routing_follows_the_largest_entry(make: Make) -> None:
    """Without it routing would send queries to other experts than NeuLig favours."""
    situation = make()
    for hard, soft in zip(
        _vectors(coopvec_rules.hard_routing(situation)), situation.coopvecs(), strict=True
    ):
        assert hard.argmax(dim=1).tolist() == soft.argmax(dim=1).tolist()
        assert set(hard.flatten().tolist()) == {0.0, 1.0}


def test_best_single_gives_all_to_the_chosen_one(make: Make) -> None:
    """Without it the control would be chosen on the evaluation."""
    for part in _vectors(coopvec_rules.best_single(make())):
        assert part.tolist() == [[0.0, 1.0, 0.0]] * ROWS
    with pytest.raises(
        NotAvailable, match=r"^the best single expert is bob's, who does not share it here$"
    ):
        coopvec_rules.best_single(make(("ada", "cyd")))


def test_an_oracle_without_its_expert_leaves_that_task_out(make: Make) -> None:
    """Without it a task would be scored with somebody else's expert as its own."""
    found = coopvec_rules.oracle(make(("ada", "cyd")))
    assert found.merge[0] is not None
    assert found.merge[1] is None
    assert found.ensemble[1] is None
    assert found.reasons == [None, "its own expert is bob's, who does not share it here"]


def test_without_answers_on_the_evaluation_there_are_no_coopvecs(
    data: Path, tmp_path: Path
) -> None:
    """Without it group B's queries would be weighed by group A's outputs."""
    released = tiny.released(tmp_path, data)
    _tell(released, "pool")
    _tell(released, "evaluation", ("ada", "bob"))
    situation = RunSituation(released, _fitted(), "A", ("ada", "bob"))
    with pytest.raises(
        NotAvailable, match="reads the features of cyd on evaluation queries of group A"
    ):
        coopvec_rules.per_sample(situation)


def test_without_pool_answers_of_a_group_there_is_no_map(data: Path, tmp_path: Path) -> None:
    """Without it group B's merge by task would use group A's map unseen."""
    released = tiny.released(tmp_path, data)
    _tell(released, "evaluation")
    situation = RunSituation(released, _fitted(), "A", tiny.CLIENTS)
    with pytest.raises(NotAvailable, match="no features of group A on pool queries were released"):
        coopvec_rules.per_task(situation)


# ---------------------------------------------------------------- within sums, and without some


@pytest.mark.parametrize("kind", ["parameters", "features", "logits", "gram"])
def test_what_cannot_be_had_from_sums_says_why(kind: str) -> None:
    """Without it `check` would promise a row that a sum cannot give, or give one client away."""
    gives = "one merged model" if kind == "parameters" else f"one sum of {kind}"
    needs = "a model" if kind == "parameters" else "one"
    alone = f"a secure sum that gives one expert all weight would be one client's own {kind}"
    every = {
        "sample": f"secure-aggregation gives {gives} for each weight vector; "
        f"sample needs {needs} for every query",
        "batch-first": f"secure-aggregation gives {gives} for each weight vector; "
        f"batch-first needs {needs} for every query",
        "task": None,
        "global": None,
        "simple-average": None,
        "hard-routing": f"secure-aggregation gives {gives} for each weight vector; "
        f"hard-routing needs {needs} for every query",
        "best-single": alone,
        "oracle": alone,
    }
    assert {name: coopvec_needs.not_in_sums(name, kind) for name in RULES} == every


def test_over_survivors_the_weights_are_shared_out_again() -> None:
    """Without it a sum without those who dropped out would be shrunk, or weighed otherwise."""
    beta = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    whole = Weighting([beta, None], [beta.flip(0), None], [None, "why"])
    assert coopvec_rules.over_survivors(whole, tiny.CLIENTS, tiny.CLIENTS) is whole
    found = coopvec_rules.over_survivors(whole, tiny.CLIENTS, ("ada", "cyd"))
    merge, ensemble = found.merge[0], found.ensemble[0]
    assert torch.allclose(merge, torch.tensor([[5 / 7, 2 / 7], [0.5, 0.5]]))  # type: ignore[arg-type]
    assert torch.allclose(ensemble, torch.tensor([[0.5, 0.5], [5 / 7, 2 / 7]]))  # type: ignore[arg-type]
    assert (found.merge[1], found.ensemble[1], found.reasons) == (None, None, [None, "why"])
    turned = coopvec_rules.over_survivors(whole, tiny.CLIENTS, ("cyd", "ada"))
    assert torch.equal(turned.merge[0], merge.flip(1))  # type: ignore[union-attr, arg-type]


def test_survivors_without_weight_have_no_mixture() -> None:
    """Without it one query without weights would be a division by zero in a report."""
    beta = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    whole = Weighting([beta], [beta], [None])
    with pytest.raises(NotAvailable, match=r"^those who are left have no weight in it$"):
        coopvec_rules.over_survivors(whole, tiny.CLIENTS, ("ada", "cyd"))
