"""Runs that are compared: settings, stages, pairs by query and by seed, and what is refused."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from safetensors.torch import load_file

from neulig_fl.core.errors import InputError
from neulig_fl.ledger import manifest
from neulig_fl.metrics import predictions
from neulig_fl.metrics.intervals import score_interval, spread
from neulig_fl.report import Report, comparison
from neulig_fl.report.comparison import Comparison, Line
from neulig_fl.study import runs
from neulig_fl.study.run_comparison import compare

LEARNT = {"epochs": 3, "lr": 3.0e-3, "batch_size": 8}
SAMPLE = ("neulig", "sample", None)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Runs the tiny scenario with changes, once for each; the folders are not to be changed."""
    made: dict[str, Path] = {}

    def run(seeds: list[int] | None = None, **changes: Any) -> Path:
        said = json.dumps([seeds, changes], default=str)
        if said not in made:
            folder = tmp_path_factory.mktemp("run")
            path = tiny.write(folder, data, **{"experts": LEARNT, **changes})
            if seeds:
                scenario = yaml.safe_load(path.read_text())
                del scenario["seed"]
                path.write_text(yaml.safe_dump({**scenario, "seeds": seeds}))
            runs.run_seeds(path, "local", folder / "out")
            made[said] = folder / "out"
        return made[said]

    return run


@pytest.fixture
def copied(make: Make, tmp_path: Path) -> Callable[..., Path]:
    """A copy of such a run, to be changed."""
    return lambda **changes: Path(shutil.copytree(make(**changes), tmp_path / "copy"))


def _line(found: Comparison, stage: int = 1, quantity: str = "merge_accuracy") -> Line:
    return next(
        line
        for line in found.stages[stage].lines
        if (line.method, line.granularity, line.variant) == SAMPLE and line.quantity == quantity
    )


SHORT = {"epochs": 1, "batch_size": 4, "lr": 0.5}


def test_differences_are_those_of_one_query_at_a_time(make: Make) -> None:
    """Without it a difference, or its interval, would be of other predictions or the wrong way."""
    first, other = make(), make(portland=SHORT)
    found = compare([first, other])
    assert found.tasks == ("first", "second")
    assert found.notes == ()
    kept = [predictions.read(folder / manifest.PREDICTIONS) for folder in (first, other)]
    compared = 0
    for stage in found.stages:
        for line in stage.lines:
            rows = [
                k.scores[stage.title][line.method, line.granularity, line.variant] for k in kept
            ]
            side = {"merge_accuracy": "merged", "ensemble_accuracy": "ensembled"}[line.quantity]
            counts, apart = [], []
            for base, score in zip(*rows, strict=True):
                right = [
                    [int(a) == int(b) for a, b in zip(getattr(s, side), s.targets, strict=True)]
                    for s in (score, base)
                ]
                pairs = [*zip(*right, strict=True)]
                b, c = pairs.count((True, False)), pairs.count((False, True))
                counts.append((b, c, len(pairs)))
                apart.append(100 * (b - c) / len(pairs))
            versus = line.cells[1].versus_first
            assert versus is not None
            assert versus.ci95 is not None
            assert versus.over == "queries"
            assert versus.value == pytest.approx(np.mean(apart))
            assert line.cells[1].value - line.cells[0].value == pytest.approx(versus.value)  # type: ignore[operator]
            assert versus.ci95 == pytest.approx([100 * e for e in score_interval(counts)])
            compared += any(b or c for b, c, _ in counts)
    assert compared, "the two runs must predict something else somewhere"


def test_what_the_scenarios_differ_in_is_found(make: Make) -> None:
    """Without it a reader would not see what a difference comes from."""
    found = compare([make(), make(portland=SHORT)])
    assert [(s.key, s.values[1]) for s in found.settings] == [
        ("portland.epochs", 1), ("portland.lr", 0.5)
    ]  # fmt: skip
    assert found.settings[0].values[0] == 2


def test_an_override_is_a_difference(data: Path, make: Make, tmp_path: Path) -> None:
    """Without it two runs of one file would be said to be the same, whatever --set said."""
    path = tiny.write(tmp_path, data, experts=LEARNT)
    runs.run_seeds(path, "local", tmp_path / "out", ["queries.evaluation=5", "name=other"])
    found = compare([make(), tmp_path / "out"])
    assert {s.key: s.values for s in found.settings} == {
        "name": ("tiny", "other"), "queries.evaluation": (7, 5)
    }  # fmt: skip
    versus = _line(found).cells[1].versus_first
    assert versus is not None
    assert (versus.ci95, versus.over) == (None, None)
    assert versus.reason == (
        "of task first 7 evaluation queries were answered in one run and 5 in another"
    )


# ---------------------------------------------------------------- other queries


def test_other_images_are_not_paired(make: Make, tmp_path: Path) -> None:
    """Without it two runs on different images would get an interval as if they were paired."""
    other = tmp_path / "other"
    tiny.images(other / "first", ("dark", "light"), seed=8)
    tiny.images(other / "second", ("low", "middle", "high"), seed=9)
    tasks = tiny.said(other)["tasks"]
    versus = _line(compare([make(), make(tasks=tasks)])).cells[1].versus_first
    assert versus is not None
    assert versus.ci95 is None
    assert versus.reason == "the evaluation images of task first are not the same"


def test_other_labels_are_not_paired(data: Path, make: Make) -> None:
    """Without it a run whose classes mean something else would get an interval."""
    tasks = tiny.said(data)["tasks"]
    tasks["second"] = {**tasks["second"], "classes": {"low": "l", "middle": "m", "high": "h"}}
    found = compare([make(), make(tasks=tasks)])
    versus = _line(found).cells[1].versus_first
    assert versus is not None
    assert versus.reason == "the labels of task second's evaluation images are not the same"
    assert comparison.reasons(found) == [f"No interval for run 2: {versus.reason}."]


def test_a_run_of_an_earlier_version_has_no_interval_and_says_so(copied: Any, make: Make) -> None:
    """Without it a run without predictions could not be compared at all."""
    old = copied()
    (old / manifest.PREDICTIONS).unlink()
    for order, which in (([old, make(portland=SHORT)], 1), ([make(portland=SHORT), old], 2)):
        found = compare(order)
        versus = _line(found).cells[1].versus_first
        assert versus is not None
        assert versus.ci95 is None
        assert versus.reason == f"run {which} kept no predictions; runs of this version keep them"
        assert [run.predictions for run in found.runs].index(False) == which - 1
        values = [_line(found).cells[n].value or 0.0 for n in (0, 1)]
        assert versus.value == pytest.approx(values[1] - values[0])


# ---------------------------------------------------------------- tasks and stages


ONE_TASK = [{"name": "ada", "task": "first"}, {"name": "cyd", "task": "first"}]


def test_tasks_that_not_all_runs_have_are_left_out(data: Path, make: Make) -> None:
    """Without it a mean over two tasks would be compared with one over another set."""
    tasks = {"first": tiny.said(data)["tasks"]["first"]}
    first, other = make(), make(clients=ONE_TASK, tasks=tasks)
    found = compare([first, other])
    assert found.tasks == ("first",)
    assert "not compared: second" in found.notes[0]
    result = Report.load(first).result("merging", "neulig", "sample")
    own = next(task for task in result["tasks"] if task["task"] == "first")
    assert _line(found).cells[0].value == own["merge_accuracy"]
    versus = _line(found).cells[1].versus_first
    assert versus is not None
    assert versus.over == "queries"


def test_runs_without_a_common_task_are_refused(data: Path, make: Make) -> None:
    """Without it accuracies of different tasks would be subtracted."""
    tasks = {"third": tiny.said(data)["tasks"]["second"]}
    clients = [{"name": "ada", "task": "third"}, {"name": "cyd", "task": "third"}]
    with pytest.raises(InputError, match=r"no task .* in common .*first, second.*third"):
        compare([make(), make(clients=clients, tasks=tasks)])


def test_stages_are_matched_by_name_then_by_order(make: Make) -> None:
    """Without it a stage of another name would stand alone, or beside the wrong one."""
    stages = tiny.said(Path())["stages"]
    renamed = [stages[0], {**stages[1], "name": "fusing"}]
    more = [*stages, {"name": "again", "share": [], "run": ["merge"]}]
    found = compare([make(), make(stages=renamed), make(stages=more)])
    assert [stage.names for stage in found.stages] == [
        ("outputs", "outputs", "outputs"), ("merging", "fusing", "merging"), (None, None, "again")
    ]  # fmt: skip
    assert found.stages[1].title == "merging / fusing"
    assert found.notes == (
        "Stages of run 1 and run 2 that are called otherwise are matched by their order: merging "
        "and fusing.",
    )
    last = found.stages[2]
    assert last.speakers[:2] == (None, None)
    assert last.speakers[2] is not None
    assert last.speakers[2].cell.versus_first is None
    assert last.released == (None, None, found.stages[1].released[2])


def test_who_speaks_for_a_stage_is_compared_whatever_it_is_called(make: Make) -> None:
    """Without it a stage that can only vote could not be set against one that mixes."""
    votes = [
        {
            "name": "outputs",
            "share": [{"kind": "labels", "queries": ["evaluation"]}],
            "run": ["vote"],
        }
    ]
    found = compare([make(), make(stages=votes)])
    first, other = found.stages[0].speakers
    assert first is not None
    assert other is not None
    assert (first.label, other.label) == ("NeuLig (sample)", "vote")
    assert other.cell.versus_first is not None
    assert other.cell.versus_first.over == "queries"
    sentence = comparison.sentences(found)[0]
    assert sentence.startswith("outputs: run 2, vote, ensemble ")
    assert "run 1, NeuLig (sample), ensemble " in sentence


# ---------------------------------------------------------------- seeds


def test_several_seeds_are_paired_seed_by_seed(make: Make) -> None:
    """Without it an interval over queries would stand for what another training changes."""
    first, other = make(seeds=[3, 4]), make(seeds=[4, 3], portland=SHORT)
    found = compare([first, other])
    assert [run.seeds for run in found.runs] == [(3, 4), (3, 4)]
    apart = []
    for seed in (3, 4):
        values = [
            Report.load(folder / f"seed-{seed}").result("merging", "neulig", "sample")["average"]
            for folder in (first, other)
        ]
        apart.append(values[1]["merge_accuracy"] - values[0]["merge_accuracy"])
    versus = _line(found).cells[1].versus_first
    assert versus is not None
    assert versus.over == "seeds"
    assert versus.value == pytest.approx(np.mean(apart))
    assert versus.ci95 == pytest.approx(spread(apart)["ci95"])


def test_only_seeds_that_all_runs_have_are_compared(make: Make) -> None:
    """Without it means over different seeds would be said to be paired."""
    both, one = make(seeds=[3, 4]), make()
    found = compare([both, one])
    assert [run.seeds for run in found.runs] == [(3,), (3,)]
    assert found.notes == ("Compared are the seeds that all runs have (3); not compared: 4.",)
    versus = _line(found).cells[1].versus_first
    assert versus is not None
    assert (versus.value, versus.over) == (0.0, "queries"), "the same scenario and seed"
    none = compare([both, make(seed=5)])
    assert [run.seeds for run in none.runs] == [(3, 4), (5,)]
    versus = _line(none).cells[1].versus_first
    assert versus is not None
    assert (versus.ci95, versus.reason) == (None, "the runs have no seed in common")


def test_one_seed_each_is_paired_by_query_and_seeds_are_told(make: Make) -> None:
    """Without it an interval over queries would pass for one over trainings."""
    found = compare([make(), make(seed=5)])
    assert found.notes[0].startswith("The seeds differ (3, 5): an interval over queries does not")
    one_seed = compare([make(seeds=[3, 4]) / "seed-4", make()])
    assert {s.key: s.values for s in one_seed.settings} == {"seed": (4, 3)}


# ---------------------------------------------------------------- what is refused


def test_one_run_twice_is_refused(make: Make, copied: Any) -> None:
    """Without it a run would be compared with itself, and every difference be 0."""
    both = make(seeds=[3, 4])
    for folders in ([make(), make()], [make(), copied()], [both, both / "seed-4"]):
        with pytest.raises(InputError, match="or a copy or a seed of it; name each run once"):
            compare(folders)


def test_one_run_alone_is_refused(make: Make) -> None:
    """Without it one run would print as a comparison with nothing."""
    with pytest.raises(InputError, match=r"takes two runs or more; `neulig-fl report RUN` prints"):
        compare([make()])


def test_a_folder_without_a_finished_run_is_refused(
    make: Make, copied: Any, tmp_path: Path
) -> None:
    """Without it a folder would end in a traceback, or a run that goes on be compared half."""
    with pytest.raises(InputError, match="nowhere: is no folder"):
        compare([make(), tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.*no report is there; name the folder"):
        compare([make(), tmp_path / "empty"])
    broken = copied()
    (broken / "report.json").unlink()
    with pytest.raises(InputError, match="no report is there; the run was interrupted"):
        compare([make(portland=SHORT), broken])
    handle = os.open(broken, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(InputError, match="the run goes on; compare it when it has ended"):
            compare([make(portland=SHORT), broken])
    finally:
        os.close(handle)


def test_predictions_that_are_cut_off_are_refused(make: Make, copied: Any) -> None:
    """Without it half a file would end in a traceback, or pair half of the queries."""
    run = copied()
    file = run / manifest.PREDICTIONS
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"predictions.safetensors: cut off, or not as a run"):
        compare([run, make(portland=SHORT)])


def test_predictions_of_another_run_are_refused(make: Make, copied: Any) -> None:
    """Without it intervals would be of other predictions than the accuracies beside them."""
    run = copied()
    other = make(clients=[{"name": n, "task": t} for n, t in (("ada", "second"), ("bob", "first"))])
    shutil.copy(other / manifest.PREDICTIONS, run / manifest.PREDICTIONS)
    assert load_file(run / manifest.PREDICTIONS)
    with pytest.raises(InputError, match=r"does not give the accuracies of report.json beside it"):
        compare([run, make(portland=SHORT)])


def test_a_run_without_its_scenario_is_refused(make: Make, copied: Any) -> None:
    """Without it a comparison would say that scenarios do not differ, of which one is not known."""
    run = copied()
    (run / "scenario.yaml").unlink()
    with pytest.raises(InputError, match=r"has no scenario\.yaml, which says what was run"):
        compare([run, make(portland=SHORT)])
