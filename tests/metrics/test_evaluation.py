"""Accuracies, gaps, agreement and intervals, as the report has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neulig_fl.metrics import evaluation, intervals
from neulig_fl.metrics.evaluation import TaskScore

CLASSES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40
)


def _score(
    rows: list[tuple[int, int, int]], task: str = "t", merged: bool = True, ensembled: bool = True,
    coopvecs: Tensor | None = None,
) -> TaskScore:  # fmt: skip
    targets, merge, ensemble = (torch.tensor(column) for column in zip(*rows, strict=True))
    return TaskScore(
        task, targets, merge if merged else None, ensemble if ensembled else None, coopvecs
    )


def _counted(b: int, c: int, n: int) -> TaskScore:
    """A task of n queries: b right when merged only, c right when ensembled only, the rest both."""
    return _score([(1, 1, 0)] * b + [(1, 0, 1)] * c + [(1, 1, 1)] * (n - b - c))


@given(CLASSES)
def test_a_tasks_figures_are_counts_over_its_queries(rows: list[tuple[int, int, int]]) -> None:
    """Without it the report's main table would be wrong."""
    found = evaluation.task_record(_score(rows))
    n = len(rows)
    merge, ensemble = sum(t == m for t, m, _ in rows), sum(t == e for t, _, e in rows)
    assert found["n"] == n
    assert found["merge_accuracy"] == pytest.approx(100 * merge / n)
    assert found["ensemble_accuracy"] == pytest.approx(100 * ensemble / n)
    assert found["gap"] == pytest.approx(found["merge_accuracy"] - found["ensemble_accuracy"])
    assert found["agreement"] == pytest.approx(sum(m == e for _, m, e in rows) / n)
    low, high = found["gap_ci95"]
    assert -100 <= low <= found["gap"] + 1e-9
    assert found["gap"] - 1e-9 <= high <= 100
    assert high > low


def test_a_gap_of_zero_has_an_interval_with_a_width() -> None:
    """Without it "no disagreement on 7 queries" would look like proof."""
    found = evaluation.task_record(_score([(1, 1, 1)] * 7))
    assert found["gap"] == 0.0
    assert found["gap_ci95"][0] == pytest.approx(-100 * intervals.score_interval([(0, 0, 7)])[1])
    assert found["gap_ci95"][1] > 30


def test_agreement_is_about_predictions_not_about_being_right() -> None:
    """Without it two models that err alike would count as disagreeing, or the other way round."""
    found = evaluation.task_record(_score([(0, 1, 2), (0, 1, 1), (0, 0, 0), (0, 2, 1)]))
    assert (found["gap"], found["agreement"]) == (0.0, 0.5)


@pytest.mark.parametrize(("merged", "ensembled"), [(True, False), (False, True), (False, False)])
def test_what_is_missing_is_null_and_never_zero(merged: bool, ensembled: bool) -> None:
    """Without it a stage that may not merge would report 0 percent."""
    rows = [(0, 0, 1), (1, 1, 1)]
    score = _score(rows, merged=merged, ensembled=ensembled)
    found = evaluation.task_record(score)
    assert found["merge_accuracy"] == (100.0 if merged else None)
    assert found["ensemble_accuracy"] == (50.0 if ensembled else None)
    nulls = ("gap", "gap_ci95", "agreement", "effective_experts", "interior", "reason")
    assert [found[key] for key in nulls] == [None] * 6
    both = evaluation.task_record(_score(rows, coopvecs=torch.eye(2)))
    assert list(found) == list(both), "an entry has the same keys whatever is missing"
    average = evaluation.average_record([score, score])
    assert average["merge_accuracy"] == (100.0 if merged else None)
    nulls_of_means = ("gap_of_means", "gap_of_means_ci95", "mean_absolute_gap", "equivalence")
    assert [average[key] for key in nulls_of_means] == [None] * 4
    assert list(average) == list(evaluation.average_record([_score(rows)]))


def test_one_missing_task_leaves_no_average() -> None:
    """Without it an average over fewer tasks would stand beside averages over all."""
    scores = [_score([(0, 0, 0)]), _score([(0, 0, 0)], merged=False)]
    average = evaluation.average_record(scores)
    assert average["merge_accuracy"] is None
    assert average["ensemble_accuracy"] == 100.0
    assert average["gap_of_means"] is None


def test_a_task_without_queries_has_no_figures() -> None:
    """Without it an empty task would divide by zero."""
    nothing = torch.zeros(0, dtype=torch.long)
    score = TaskScore("t", nothing, nothing, nothing, torch.zeros(0, 3))
    found = evaluation.task_record(score)
    assert found["n"] == 0
    shown = {k: v for k, v in found.items() if k not in ("task", "n")}
    assert set(shown.values()) == {None}
    assert evaluation.average_record([score])["gap_of_means"] is None
    assert evaluation.comparison([score], [score], "merge_accuracy") is None


def test_effective_experts_and_interior_are_the_coopvecs() -> None:
    """Without it a gap without mixing could not be told from one with it."""
    beta = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    found = evaluation.task_record(_score([(0, 0, 0), (1, 1, 1)], coopvecs=beta))
    assert (found["effective_experts"], found["interior"]) == (1.5, 0.5)


@given(st.lists(CLASSES, min_size=1, max_size=4))
@settings(max_examples=25)
def test_averages_give_every_task_the_same_weight(tasks: list[Any]) -> None:
    """Without it a large task would decide the average."""
    scores = [_score(rows) for rows in tasks]
    records = [evaluation.task_record(s) for s in scores]
    found = evaluation.average_record(scores)
    for key in ("merge_accuracy", "ensemble_accuracy"):
        assert found[key] == pytest.approx(np.mean([r[key] for r in records]))
    gaps = [r["gap"] for r in records]
    assert found["gap_of_means"] == pytest.approx(np.mean(gaps), abs=1e-9)
    assert found["mean_absolute_gap"] == pytest.approx(np.mean(np.abs(gaps)))
    low, high = found["gap_of_means_ci95"]
    inner_low, inner_high = found["equivalence"]["ci90"]
    assert low <= inner_low <= inner_high <= high
    assert found["equivalence"]["margin_pp"] == 1.0
    if len(tasks) == 1:
        assert found["gap_of_means_ci95"] == records[0]["gap_ci95"]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([(1, 1, 1)] * 1000, "equivalent"),
        ([(1, 1, 1)] * 10, "inconclusive"),
        ([(1, 0, 1)] * 50 + [(1, 1, 1)] * 50, "different"),
    ],
    ids=["many and equal", "few and equal", "clearly apart"],
)
def test_equivalence_needs_enough_queries(rows: list[tuple[int, int, int]], verdict: str) -> None:
    """Without it a small evaluation would pass as proof of consistency."""
    found = evaluation.average_record([_score(rows)])
    assert found["equivalence"]["verdict"] == verdict


def test_a_comparison_is_paired_by_query() -> None:
    """Without it an interval between two methods would be much too wide."""
    base = [_score([(0, 1, 0), (0, 0, 1), (0, 1, 1), (0, 1, 1)] * 25)]
    better = [_score([(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 1)] * 25)]
    found = evaluation.comparison(better, base, "merge_accuracy")
    assert found is not None
    assert found["difference"] == pytest.approx(25.0)
    assert 15 < found["ci95"][0] < 25 < found["ci95"][1] < 35
    same = evaluation.comparison(better, base, "ensemble_accuracy")
    assert same is not None
    assert same["difference"] == 0.0
    assert same["ci95"][0] < 0 < same["ci95"][1]
    assert (
        evaluation.comparison(
            [_score([(0, 0, 0)], merged=False)], [_score([(0, 0, 0)])], "merge_accuracy"
        )
        is None
    )


def test_answers_to_another_number_of_queries_are_not_compared() -> None:
    """Without it a vote on more queries than Portland's outputs answer would end the run."""
    more, fewer = [_score([(0, 0, 1)] * 7)], [_score([(0, 0, 1)] * 4)]
    assert evaluation.comparison(more, fewer, "ensemble_accuracy") is None


def test_a_comparison_is_of_the_same_tasks() -> None:
    """Without it a method with fewer tasks would be compared on some of them."""
    one = _score([(0, 0, 1)])
    assert evaluation.comparison([], [], "merge_accuracy") is None
    for pair in (([one], [one, one]), ([one, one], [one])):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            evaluation.comparison(*pair, "merge_accuracy")


AVERAGE95, AVERAGE90 = (-3.90893, 2.67076), (-3.28844, 2.03463)
TASK95 = (-5.08717, -0.19742)


def test_levels_are_those_of_a_slow_solution() -> None:
    """Without it an interval of another level would stand as one of 95 % or 90 %.

    The figures are `slow_interval`'s of tests/metrics/test_intervals.py, which solves numerically.
    """
    counts = [(2, 9, 300), (4, 3, 100)]
    found = evaluation.average_record([_counted(*each) for each in counts])
    assert found["gap_of_means_ci95"] == pytest.approx(AVERAGE95, abs=1e-4)
    assert found["equivalence"]["ci90"] == pytest.approx(AVERAGE90, abs=1e-4)
    task = evaluation.task_record(_counted(2, 9, 300))
    assert task["gap_ci95"] == pytest.approx(TASK95, abs=1e-4)
    base = [_score([(1, 1, 1)] * n) for _, _, n in counts]
    ours = [_counted(*each) for each in counts]
    for quantity, at in (("merge_accuracy", 1), ("ensemble_accuracy", 0)):
        one_sided = evaluation.comparison(ours, base, quantity)
        assert one_sided is not None
        lost = [(0, each[at], each[2]) for each in counts]
        expected = [100 * end for end in intervals.score_interval(lost, 0.95)]
        assert one_sided["ci95"] == pytest.approx(expected)
    merged = [TaskScore("t", s.targets, s.merged, None, None) for s in ours]
    other = [TaskScore("t", s.targets, s.ensembled, None, None) for s in ours]
    paired = evaluation.comparison(merged, other, "merge_accuracy")
    assert paired is not None
    assert paired["ci95"] == pytest.approx(AVERAGE95, abs=1e-4)
