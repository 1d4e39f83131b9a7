"""Rows whose mixtures come from secure sums: the same figures, other experts, and what is refused.

Sums are made here by hand, from records that the server does not get. What clients and server do
for them is tested in `test_summing` and `test_sum_rounds`, and both together in `test_sum_runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.core.errors import NotAvailable
from neulig_fl.core.progress import Progress
from neulig_fl.merging.portland import Fit, Portland
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.requests import Part
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.study import coopvec_needs, coopvec_rules
from neulig_fl.study.baseline_rows import Row, StageRun
from neulig_fl.study.coopvec_rules import Weighting
from neulig_fl.study.mixture import model_parts, output_parts
from neulig_fl.study.steps import ensemble, merge
from neulig_fl.study.trained_portland import TrainedPortland

ROWS, DIM = 7, 16
GRANULAR = ["global", "task", "sample", "batch-first"]
SUMMED = [("neulig", "global"), ("neulig", "task"), ("simple-average", None)]
SINGLE = [("neulig", "sample"), ("neulig", "batch-first"), ("hard-routing", None)]
ONE_HOT = [("best-single", None), ("oracle", None)]

FEATURES = {"kind": "features", "queries": ["pool", "evaluation"]}
EVALUATION = {"kind": "features", "queries": ["evaluation"], "protection": "secure-aggregation"}
PARAMETERS = {"kind": "parameters", "protection": "secure-aggregation"}


@dataclass(frozen=True)
class Given:
    """What a sum by hand gave."""

    values: tuple[dict[str, NDArray[np.float32]], ...]
    experts: tuple[str, ...]
    bytes: int


@dataclass
class SumsByHand:
    """Weighted sums of records, divided by the survivors' weights.

    Args:
        released: for the queries of each task.
        entries: each client's parameters.
        outputs: each client's features of the evaluation queries.
        missing: by kind, clients that drop out.
        refused: by kind, how many sums are given before all others are refused.
    """

    released: ReleasedRecords
    entries: dict[str, dict[str, Tensor]]
    outputs: dict[str, Tensor]
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str | None, list[Part]]] = field(default_factory=list)

    def summed(self, kind: str, queries: str | None, parts: Sequence[Part]) -> Given:
        """As `Sums.summed`."""
        before = len([each for each in self.asked if each[0] == kind])
        self.asked.append((kind, queries, list(parts)))
        if before >= self.refused.get(kind, 99):
            raise NotAvailable(f"no sum of {kind}: by hand")
        left = [n for n in parts[0].weights if n not in self.missing.get(kind, ())]
        return Given(tuple(self._one(kind, part, left) for part in parts), tuple(left), 1000)

    def _one(self, kind: str, part: Part, left: list[str]) -> dict[str, NDArray[np.float32]]:
        total = sum(part.weights[n] for n in left)
        share = {name: part.weights[name] / total for name in left}
        if kind == "parameters":
            return {
                name: sum(w * self.entries[n][name].numpy() for n, w in share.items())  # type: ignore[misc]
                for name in self.released.setting.family.entries()
            }
        questions = self.released.questions("A", "evaluation")
        rows = [len(question.labels) for question in questions]
        at = [question.task for question in questions].index(part.task or "")
        own = {name: self.outputs[name].split(rows)[at] for name in share}
        return {kind: sum(w * own[n].numpy() for n, w in share.items())}  # type: ignore[dict-item]


@dataclass
class Bench:
    """A stage in which sums are to be had, and the records that they are of."""

    run: StageRun
    sums: SumsByHand

    def tell(self, queries: str, clients: Sequence[str] = tiny.CLIENTS) -> None:
        """Release features as such."""
        for seed, name in enumerate(tiny.CLIENTS):
            if name in clients:
                rows = _outputs(12, seed) if queries == "pool" else self.sums.outputs[name]
                asked = Request("s", "A", "features", queries)
                self.run.released.take(name, asked, {"features": rows.numpy()}, 10)

    def tell_parameters(self) -> None:
        """Release parameters as such."""
        for name, entries in self.sums.entries.items():
            arrays = {entry: value.numpy() for entry, value in entries.items()}
            self.run.released.take(name, Request("s", "A", "parameters"), arrays, 0)

    def row(self, method: str, granularity: str | None = None) -> Row:
        """One result."""
        return self.run.rows[(method, granularity, None)]

    def weights(self, kind: str) -> list[list[dict[str, float]]]:
        """The weights of every sum of one kind that was asked for."""
        return [[dict(p.weights) for p in parts] for of, _, parts in self.sums.asked if of == kind]


def _outputs(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed))


def _fitted() -> TrainedPortland:
    generator = torch.Generator().manual_seed(9)
    weight = 0.5 * torch.randn(3, 3 * DIM, generator=generator)
    network = Portland(weight, torch.zeros(3), tiny.CLIENTS)
    return TrainedPortland(Fit(network, [], 0.0, 0), "s", "A", "pool", "bob", "by hand")


Make = Callable[..., Bench]


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    """A stage of a scenario, three experts that agree on nothing, and their features."""

    def made(
        *share: dict[str, Any], trained: TrainedPortland | None = None, **changes: Any
    ) -> Bench:
        stages = [
            {"name": "single", "share": [FEATURES], "run": ["train-portland"]},
            {"name": "s", "share": list(share)},
        ]
        portland = {"alignment": "none", "epochs": 1}
        said = {"stages": stages, "portland": portland, **changes}
        released = tiny.released(tmp_path, data, **said)
        family = released.setting.family
        entries = {n: family.fresh_encoder(i).state_dict() for i, n in enumerate(tiny.CLIENTS)}
        dim = family.dim
        outputs = {
            n: torch.randn(2 * ROWS, dim, generator=torch.Generator().manual_seed(40 + i))
            for i, n in enumerate(tiny.CLIENTS)
        }
        sums = SumsByHand(released, entries, outputs)
        shared = released.setting.scenario.stages[1]
        stage = shared.model_copy(update={"granularity": tuple(GRANULAR)})
        run = StageRun(stage, released, trained, Progress(lambda event: None), sums)
        return Bench(run, sums)

    return made


def _plain_and_summed(make: Make, **changes: Any) -> tuple[Bench, Bench]:
    """The same merge, once of single parameters and once of sums."""
    found = []
    for plain in (True, False):
        bench = make(PARAMETERS, trained=_fitted(), **changes)
        bench.tell("pool")
        bench.tell("evaluation")
        if plain:
            bench.tell_parameters()
        merge.run(bench.run)
        found.append(bench)
    return found[0], found[1]


# ---------------------------------------------------------------- the same figures


def _alike(one: Row, other: Row) -> None:
    assert one.reason == other.reason
    assert one.experts == other.experts
    assert len(one.scores) == len(other.scores) == 2
    for mine, theirs in zip(one.scores, other.scores, strict=True):
        assert (mine.task, mine.reason) == (theirs.task, theirs.reason)
        for side in ("merged", "ensembled", "coopvecs"):
            first, second = getattr(mine, side), getattr(theirs, side)
            assert (first is None) == (second is None), side
            assert first is None or torch.equal(first, second), side


def test_merges_of_sums_are_those_of_single_parameters(make: Make) -> None:
    """Without it a stage of sums would measure something else than a stage of parameters."""
    plain, summed = _plain_and_summed(make)
    for name in SUMMED:
        _alike(plain.row(*name), summed.row(*name))
        assert summed.row(*name).scores[0].merged is not None
    assert plain.sums.asked == []


def test_statistics_that_are_estimated_again_are_so_for_sums_too(make: Make) -> None:
    """Without it `batch_norm: re-estimate` would be read and ignored where models come merged."""
    changes = {"batch_norm": "re-estimate", "model": {"name": "micro-rn", "pretrained": "none"}}
    stage = {"alignment": "none", "epochs": 1, "objective": "supervised"}
    rows = []
    for plain in (True, False):
        bench = make(PARAMETERS, EVALUATION, portland=stage, **changes)
        if plain:
            bench.tell_parameters()
        _widen(bench)
        merge.run(bench.run)
        rows.append(bench.row("simple-average"))
    _alike(*rows)
    average = make(PARAMETERS, EVALUATION, portland=stage, **{**changes, "batch_norm": "average"})
    _widen(average)
    merge.run(average.run)
    kept = [s.merged for s in average.row("simple-average").scores]
    again = [s.merged for s in rows[1].scores]
    assert not all(torch.equal(a, b) for a, b in zip(kept, again, strict=True)), "it must matter"


def _widen(bench: Bench) -> None:
    """Give the experts running statistics of their own; fresh ones are all 0 and 1."""
    for seed, entries in enumerate(bench.sums.entries.values()):
        generator = torch.Generator().manual_seed(seed)
        for name, value in entries.items():
            if "running" in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)


def test_ensembles_of_sums_are_those_of_single_outputs(make: Make) -> None:
    """Without it mixed outputs would be scored by another head, or for another task's queries."""
    single, summed = (make(EVALUATION, trained=_fitted()) for _ in range(2))
    for bench in (single, summed):
        bench.tell("pool")
    single.tell("evaluation")
    ensemble.run(single.run)
    ensemble.run(summed.run)
    for name in SUMMED:
        _alike(single.row(*name), summed.row(*name))
        assert summed.row(*name).scores[0].ensembled is not None
    assert single.sums.asked == []
    assert [(kind, queries) for kind, queries, _ in summed.sums.asked] == (
        [("features", "evaluation")] * 3
    )


@pytest.mark.parametrize("label_space", ["task", "union"])
def test_summed_logits_are_scored_like_logits(label_space: str, make: Make) -> None:
    """Without it union logits would be read from the wrong columns, or through a head."""
    options = {"outputs": "logits", "alignment": "none", "epochs": 1, "label_space": label_space}
    stages: dict[str, Any] = {
        "stages": [
            {"name": "none", "share": [{"kind": "logits", "queries": ["pool"]}]},
            {"name": "s", "share": [{**EVALUATION, "kind": "logits"}]},
        ]
    }
    rows = []
    for single in (True, False):
        bench = make(portland=options, **stages)
        classes = bench.run.released.setting.sizes.classes
        bench.sums.outputs = {n: o[:, :classes] for n, o in bench.sums.outputs.items()}
        for name, logits in bench.sums.outputs.items() if single else ():
            asked = Request("s", "A", "logits", "evaluation")
            bench.run.released.take(name, asked, {"logits": logits.numpy()}, 10)
        ensemble.run(bench.run)
        rows.append(bench.row("simple-average"))
    _alike(*rows)


# ---------------------------------------------------------------- what is asked for


def test_one_sum_for_each_different_weight_vector(make: Make) -> None:
    """Without it a global merge would be asked for once a task, and each sum raises leverage."""
    bench = _plain_and_summed(make)[1]
    overall, average, by_task = bench.weights("parameters")
    assert [len(parts) for parts in (overall, average, by_task)] == [1, 1, 2]
    assert average == [dict.fromkeys(tiny.CLIENTS, pytest.approx(1 / 3))]
    assert by_task[0] != by_task[1]
    for weights in (*overall, *by_task):
        assert list(weights) == list(tiny.CLIENTS)
        assert sum(weights.values()) == pytest.approx(1.0)
    assert {part.task for _, _, parts in bench.sums.asked for part in parts} == {None}


@pytest.mark.parametrize("listed", [["global", "task"], ["task", "global"], ["task"]])
def test_the_baseline_is_asked_for_after_the_first_granularity(
    listed: list[str], make: Make
) -> None:
    """Without it further granularities would take the leverage that the baseline needs."""
    in_sums, plain = (
        make(share).run.stage.model_copy(update={"granularity": tuple(listed)})
        for share in (PARAMETERS, {"kind": "parameters"})
    )
    first, *others = [("neulig", name) for name in listed]
    found = coopvec_needs.rows(in_sums)
    assert found[: len(listed) + 1] == [first, ("simple-average", None), *others]
    assert coopvec_needs.rows(plain)[: len(listed)] == [("neulig", name) for name in listed]
    assert sorted(map(str, coopvec_needs.rows(in_sums))) == sorted(
        map(str, coopvec_needs.rows(plain))
    )


def test_outputs_are_asked_for_task_by_task(make: Make) -> None:
    """Without it a client's answers to one task would count under another's weights."""
    bench = make(EVALUATION, trained=_fitted())
    bench.tell("pool")
    ensemble.run(bench.run)
    for _, _, parts in bench.sums.asked:
        assert [part.task for part in parts] == ["first", "second"]


def test_equal_vectors_share_a_part_and_a_task_without_queries_has_none() -> None:
    """Without it a task that has no query would be summed for nothing."""
    half = torch.tensor([[0.5, 0.5]])
    parts, of = model_parts([half, torch.tensor([[1.0, 0.0]]), half, None], ("ada", "bob"))
    assert (len(parts), of) == (2, [0, 1, 0, None])
    assert model_parts([torch.zeros(0, 2)], ("ada", "bob")) == ([], [None])
    named = output_parts(["x", "y"], [torch.zeros(0, 2), half], ("ada", "bob"))
    assert [(part.task, dict(part.weights)) for part in named] == [("y", {"ada": 0.5, "bob": 0.5})]


def test_rows_that_need_single_experts_say_so_and_ask_for_nothing(make: Make) -> None:
    """Without it a server would ask for one client's own parameters and call it a sum."""
    bench = _plain_and_summed(make)[1]
    for method, granularity in SINGLE:
        row = bench.row(method, granularity)
        assert not row.scores
        assert row.reason == (
            "secure-aggregation gives one merged model for each weight vector; "
            f"{granularity or method} needs a model for every query"
        )
    for name in ONE_HOT:
        assert not bench.row(*name).scores
        assert bench.row(*name).reason == (
            "a secure sum that gives one expert all weight would be one client's own parameters"
        )
    assert len(bench.sums.asked) == len(SUMMED)


def test_without_a_portland_the_simple_average_is_left(make: Make) -> None:
    """Without it a scenario of sums alone would have no figure, or made-up CoopVecs."""
    bench = make(EVALUATION, PARAMETERS)
    merge.run(bench.run)
    scored = [name for name, row in bench.run.rows.items() if row.scores]
    assert scored == [("simple-average", None, None), ("pretrained", None, None)]
    for granularity in ("global", "task"):
        assert "no Portland was trained" in (bench.row("neulig", granularity).reason or "")


def test_single_records_are_taken_where_they_are_known(make: Make) -> None:
    """Without it clients would spend leverage on what the server has already."""
    bench = make(EVALUATION, PARAMETERS, trained=_fitted())
    bench.tell("pool")
    bench.tell("evaluation", ("ada", "cyd"))
    bench.tell_parameters()
    merge.run(bench.run)
    assert bench.sums.asked == []
    assert bench.row("neulig", "sample").experts == ("ada", "cyd")


def test_a_stage_asks_for_sums_of_what_it_shares_itself(make: Make) -> None:
    """Without it a server would ask for what no client was told of, and be refused each time."""
    for share in ({"kind": "offset-sum"}, {"kind": "parameters"}):
        bench = make(share, trained=_fitted())
        bench.tell("pool")
        bench.tell("evaluation")
        merge.run(bench.run)
        assert bench.sums.asked == []
        assert (
            bench.row("simple-average").reason
            == "no client shares features of evaluation queries and parameters"
        )


def test_sums_of_a_part_of_the_queries_are_scored_on_that_part(make: Make) -> None:
    """Without it mixed outputs of half of the queries would be held against all labels."""
    bench = make({**EVALUATION, "fraction": 0.5})
    rows = round(0.5 * ROWS)
    bench.sums.outputs = {n: o[: 2 * rows] for n, o in bench.sums.outputs.items()}
    ensemble.run(bench.run)
    assert [len(s.targets) for s in bench.row("simple-average").scores] == [rows, rows]


# ---------------------------------------------------------------- who is in it


def test_a_row_is_of_those_who_stayed(make: Make) -> None:
    """Without it a merged model of two would be reported as one of three, with their CoopVecs."""
    bench = make(PARAMETERS, trained=_fitted())
    bench.tell("pool")
    bench.tell("evaluation")
    bench.sums.missing = {"parameters": ("bob",)}
    merge.run(bench.run)
    row = bench.row("neulig", "task")
    assert row.experts == ("ada", "cyd")
    assert row.reason == "without bob: weights renormalised"
    for weights, score in zip(bench.weights("parameters")[2], row.scores, strict=True):
        kept = torch.tensor([weights["ada"], weights["cyd"]])
        assert score.coopvecs is not None
        assert torch.allclose(score.coopvecs, (kept / kept.sum()).expand(ROWS, 2))
    expected = _ensemble_by_hand(bench, row)
    for score, classes in zip(row.scores, expected, strict=True):
        assert score.ensembled is not None
        assert torch.equal(score.ensembled, classes)


def _ensemble_by_hand(bench: Bench, row: Row) -> list[Tensor]:
    """Classes of the ensemble of a row's experts under its CoopVecs, query by query."""
    released, found = bench.run.released, []
    for at, score in enumerate(row.scores):
        head = released.head(score.task)
        assert score.coopvecs is not None
        classes = []
        for query in range(ROWS):
            mixed = sum(
                float(score.coopvecs[query, i]) * bench.sums.outputs[name][at * ROWS + query]
                for i, name in enumerate(row.experts)
            )
            classes.append(int((head @ mixed).argmax()))  # type: ignore[operator]
        found.append(torch.tensor(classes))
    return found


def test_outputs_are_summed_over_those_whose_parameters_are_in_the_merge(make: Make) -> None:
    """Without it the two sides of a gap would mix different experts."""
    bench = make(EVALUATION, PARAMETERS)
    bench.sums.missing = {"parameters": ("bob",)}
    merge.run(bench.run)
    row = bench.row("simple-average")
    assert [kind for kind, _, _ in bench.sums.asked] == ["parameters", "features"]
    assert bench.weights("features") == [[dict.fromkeys(("ada", "cyd"), pytest.approx(0.5))] * 2]
    assert row.experts == ("ada", "cyd")
    assert all(s.merged is not None and s.ensembled is not None for s in row.scores)


def test_an_ensemble_of_other_experts_is_left_out_and_named(make: Make) -> None:
    """Without it a gap would compare a merge of three with an ensemble of two."""
    bench = make(EVALUATION, PARAMETERS)
    bench.sums.missing = {"features": ("cyd",)}
    merge.run(bench.run)
    row = bench.row("simple-average")
    assert row.experts == tiny.CLIENTS
    for score in row.scores:
        assert score.merged is not None
        assert score.ensembled is None
        assert score.reason == "the sum of features is without cyd, the merged model is not"


def test_single_parameters_are_merged_for_those_whose_outputs_are_in_the_sum(make: Make) -> None:
    """Without it the merge would have an expert that the ensemble lost."""
    bench = make(EVALUATION)
    bench.tell_parameters()
    bench.sums.missing = {"features": ("cyd",)}
    merge.run(bench.run)
    row = bench.row("simple-average")
    assert row.experts == ("ada", "bob")
    assert all(s.merged is not None and s.ensembled is not None for s in row.scores)
    assert [s.coopvecs.shape for s in row.scores if s.coopvecs is not None] == [(ROWS, 2)] * 2


def test_survivors_without_weight_are_no_mixture() -> None:
    """Without it zero would be divided by zero, and the figures would be of nothing."""
    beta = torch.tensor([[1.0, 0.0, 0.0]])
    weighting = Weighting([beta, None], [beta, None], [None, "why"])
    kept = coopvec_rules.over_survivors(weighting, tiny.CLIENTS, ("ada", "cyd"))
    assert kept.merge[0] is not None
    assert kept.merge[0].tolist() == [[1.0, 0.0]]
    assert (kept.merge[1], kept.reasons) == (None, [None, "why"])
    with pytest.raises(NotAvailable, match="those who are left have no weight"):
        coopvec_rules.over_survivors(weighting, tiny.CLIENTS, ("bob", "cyd"))


# ---------------------------------------------------------------- what is refused


def test_a_refused_sum_is_a_row_with_its_reason_and_the_rest_goes_on(make: Make) -> None:
    """Without it one refusal would end the run, or a row would stand without a reason."""
    bench = make(PARAMETERS, trained=_fitted())
    bench.tell("pool")
    bench.tell("evaluation")
    bench.sums.refused = {"parameters": 1}
    merge.run(bench.run)
    assert bench.row("neulig", "global").scores
    for name in (("neulig", "task"), ("simple-average", None)):
        row = bench.row(*name)
        assert (row.scores, row.reason) == ([], "no sum of parameters: by hand")
        assert row.record()["status"] == "not-permitted"
    assert [len(parts) for parts in bench.weights("parameters")] == [1, 1, 2], "NeuLig asks first"
    assert bench.row("pretrained").scores


def test_a_merge_without_its_ensemble_is_shown_as_that(make: Make) -> None:
    """Without it a refused sum of outputs would hide a merged model that clients agreed to."""
    bench = make(EVALUATION, PARAMETERS)
    bench.sums.refused = {"features": 0}
    merge.run(bench.run)
    row = bench.row("simple-average")
    assert row.record()["status"] == "ok"
    for score in row.scores:
        assert (score.merged is not None, score.ensembled) == (True, None)
        assert score.reason == "no ensemble: no sum of features: by hand"
    bench = make(EVALUATION, PARAMETERS)
    bench.sums.refused = {"features": 0}
    ensemble.run(bench.run)
    assert bench.row("simple-average").record()["status"] == "not-permitted"


def test_where_nobody_asks_there_is_no_sum(make: Make) -> None:
    """Without it a step outside of a run would crash instead of saying what it lacks."""
    bench = make(EVALUATION)
    run = StageRun(bench.run.stage, bench.run.released, None, bench.run.progress)
    ensemble.run(run)
    reason = run.rows[("simple-average", None, None)].reason
    assert reason == "no secure sum of features can be asked for here"


def test_a_rows_bytes_are_those_of_its_sums_and_of_portlands_records(make: Make) -> None:
    """Without it a merge from sums would look free, or as dear as one from all parameters."""
    bench = make(EVALUATION, PARAMETERS, trained=_fitted())
    bench.tell("pool")
    merge.run(bench.run)
    assert bench.row("simple-average").bytes == 2 * 1000
    assert bench.row("neulig", "task").bytes == 2 * 1000 + 3 * 10
