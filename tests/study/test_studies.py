"""Studies as they are run: what is kept, what is run again, what fails, and what comes out."""

from __future__ import annotations

import copy as copy_module
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tiny
import yaml
from scipy import stats

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.run_folders import study_folder
from neulig_fl.report import contract, study_report, study_tidy
from neulig_fl.report.study_report import StudyReport
from neulig_fl.study import studies, study_outlook
from neulig_fl.study.study_files import open_study

SEEDS = [3, 4, 5]
OUTPUTS = {
    "stages": [{"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]}]
}
NEVER = {"clients.0.policy": {"never": ["parameters"]}}
QUESTION = '<script>alert(1)</script> | "quoted" =cmd \x1b[31m?'
MICRO = {"name": "micro-vit", "pretrained": "bundled"}
"""For what runs in a process of its own, which does not know the tests' tiny model."""


def write(folder: Path, data: Path, model: dict[str, str] = tiny.MODEL, **changes: Any) -> Path:
    """A study of two good cases and one whose runs fail, on the tests' tiny scenario."""
    tiny.write(folder, data, model=model)
    said = {
        "name": "small",
        "question": QUESTION,
        "base": "scenario.yaml",
        "seeds": SEEDS,
        "cases": {"outputs": OUTPUTS, "models": {}, "never": NEVER},
    } | changes
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def done(folder: Path, data: Path) -> StudyReport:
    """The study, run once, with a cache of its own: other tests' experts are not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEULIG_CACHE", str(folder / "cache"))
        return studies.run_study(write(folder, data), "local", folder / "out")


def times(folder: Path) -> dict[str, int]:
    """When each finished run was written."""
    found = folder.glob("*/seed-*/report.json")
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in found}


def test_a_case_that_fails_is_named_and_the_others_go_on(done: StudyReport) -> None:
    """Without it one refusal would cost a night of other runs, or go unseen."""
    runs = {(run["case"], run["seed"]): run for run in done.data["runs"]}
    assert [*runs] == [(case, s) for case in ("outputs", "models", "never") for s in SEEDS]
    for (case, _), run in runs.items():
        assert run["state"] == ("failed" if case == "never" else "done")
        assert (run["seconds"] is None) is (case == "never")
    assert "policy of client 'ada': never parameters" in runs["never", 3]["reason"]
    assert [runs["outputs", seed]["trained"] for seed in SEEDS] == [3, 3, 3]
    assert [runs["models", seed]["trained"] for seed in SEEDS] == [0, 0, 0], "experts are shared"
    assert any(s.startswith("Failed: never, seed 3: client 'ada'") for s in done.data["answers"])


def test_a_studys_report_is_what_its_schema_says(done: StudyReport) -> None:
    """Without it a reader who follows the printed schema would meet something else."""
    schema = contract.schema()
    study = {**schema["$defs"]["study_report"], "$defs": schema["$defs"]}
    jsonschema.validate(done.data, study)
    assert StudyReport.load(done.path.parent).data == done.data
    assert json.loads(json.dumps(done.data)) == done.data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("versus",), "nobody", r"versus: 'nobody' is none of outputs, models, never"),
        (
            ("runs", 0, "reason"),
            "none",
            r"runs\[0\].reason: 'none' does not go with the state done",
        ),
        (("runs", 0, "seed"), 9, r"runs: are not one for each case and seed"),
        (("results", 0, "case"), "nobody", r"results\[0\].case: 'nobody' is none of"),
        (
            ("results", 0, "ensemble_accuracy", "mean"),
            1.0,
            r"is not one value a seed with their mean",
        ),
        (("comparisons", 0, "difference", "values"), [1.0], r"is not one value a seed"),
        (("stages", 0, "bytes_so_far", "least"), -1, r"-1 is less than the minimum of 0"),
        (("unknown",), 1, r"'unknown' was unexpected"),
    ],
)
def test_a_study_that_contradicts_itself_is_none(
    done: StudyReport, place: tuple[str | int, ...], value: Any, message: str
) -> None:
    """Without it a page would draw figures that are none."""
    data = copy_module.deepcopy(done.data)
    here: Any = data
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = value
    with pytest.raises(RunError, match=message):
        study_report.validate(data)


def test_figures_are_those_of_the_runs(done: StudyReport) -> None:
    """Without it a study's table would not be its runs'."""
    for result in done.data["results"]:
        for at, seed in enumerate(SEEDS):
            report, _ = contract.read(done.path.parent / result["case"] / f"seed-{seed}")
            (stage,) = (s for s in report["stages"] if s["name"] == result["stage"])
            key = [result[name] for name in ("method", "granularity", "variant")]
            (row,) = (
                r for r in stage["results"] if [r["method"], r["granularity"], r["variant"]] == key
            )
            for figure in ("merge_accuracy", "ensemble_accuracy", "gap_of_means"):
                assert result[figure]["values"][at] == (row["average"] or {}).get(figure)


def test_intervals_are_students_paired_by_seed(done: StudyReport) -> None:
    """Without it 'more' and 'less' would be said of something that was not tested."""
    compared = [c for c in done.data["comparisons"] if c["last"] and c["joint"]]
    assert [(c["case"], c["versus_case"]) for c in compared] == [("models", "outputs")]
    for found in done.data["comparisons"]:
        sides = []
        for side in ("", "versus_"):
            case, stage = found[f"{side}case"], found[f"{side}stage"]
            values = []
            for seed in SEEDS:
                report, _ = contract.read(done.path.parent / case / f"seed-{seed}")
                (there,) = (s for s in report["stages"] if s["name"] == stage)
                row = next(r for r in there["results"] if r["method"] == "neulig")
                values.append(row["average"][found[f"{side}quantity"]])
            sides.append(values)
        differences = [a - b for a, b in zip(*sides, strict=True)]
        assert found["difference"]["values"] == pytest.approx(differences)
        mean, error = sum(differences) / len(differences), stats.sem(differences)
        assert found["difference"]["mean"] == pytest.approx(mean)
        if error > 0:
            low, high = stats.t.interval(0.95, len(differences) - 1, mean, error)
            assert found["difference"]["ci95"] == pytest.approx([low, high])
            assert stats.ttest_rel(*sides).pvalue < 0.05 or found["word"] == "not-shown"


def test_what_was_revealed_adds_up(done: StudyReport) -> None:
    """Without it a page would draw accuracy against less than a client gave."""
    stages = {(s["case"], s["stage"]): s for s in done.data["stages"]}
    last = stages["models", "merging"]
    assert [r["kind"] for r in last["released"]] == ["parameters"]
    assert {r["kind"] for r in last["released_so_far"]} == {"offset-sum", "features", "parameters"}
    assert all(r["clients"] == ["ada", "bob", "cyd"] for r in last["released_so_far"])
    assert last["bytes_so_far"]["most"] == sum(r["bytes"] for r in last["released_so_far"])
    assert (
        stages["models", "outputs"]["bytes_so_far"] == stages["outputs", "outputs"]["bytes_so_far"]
    )
    assert (last["last"], stages["models", "outputs"]["last"]) == (True, False)
    assert last["headline"]["accuracy"] == last["headline"]["merge_accuracy"]


@pytest.fixture
def copy(done: StudyReport, tmp_path: Path) -> Path:
    """The finished study's folder, for a test that changes it."""
    return Path(shutil.copytree(done.path.parent, tmp_path / "copy"))


def test_the_same_call_goes_on_and_repeats_nothing(copy: Path, folder: Path, data: Path) -> None:
    """Without it an interruption, or one more seed, would cost every finished run."""
    before = times(copy)
    assert len(before) == 6
    again = studies.run_study(write(folder, data), "local", copy)
    assert times(copy) == before
    failed = [run for run in again.data["runs"] if run["state"] == "failed"]
    assert len(failed) == 3
    aside = copy / "never" / "ended" / "seed-3-1"
    assert (aside / "receipts.jsonl").is_file(), "it was tried again, and what it released is kept"
    study = open_study(folder / "study.yaml", ["seeds=[3, 4]"])
    fewer = studies.run_opened(study, "local", copy)
    assert times(copy) == before
    assert fewer.data["seeds"] == [3, 4]


def test_another_study_is_not_mixed_into_a_folder(copy: Path, data: Path, tmp_path: Path) -> None:
    """Without it a report would compare runs of two settings under one name."""
    before = times(copy)
    changed = write(tmp_path, data, common={"portland.epochs": 1})
    with pytest.raises(InputError, match=r"is the report of another scenario .*6 such"):
        studies.run_study(changed, "local", copy)
    assert times(copy) == before


def test_a_folder_is_one_studys(copy: Path, data: Path, tmp_path: Path) -> None:
    """Without it the second study's report would replace the first's."""
    other = write(tmp_path, data, name="other", cases={"more": OUTPUTS})
    with pytest.raises(InputError, match="holds the study small, and this one is other; choose"):
        studies.run_study(other, "local", copy)
    with pytest.raises(InputError, match="holds the study small"):
        study_outlook.foreseen(open_study(other), copy)


def test_two_processes_never_work_in_one_study(folder: Path, data: Path, tmp_path: Path) -> None:
    """Without it two would write one report, of runs that both of them made."""
    out = tmp_path / "out"
    with study_folder(out), pytest.raises(InputError, match="another run is at work there"):
        studies.run_study(write(folder, data), "local", out)
    assert not list(out.iterdir())


def test_half_a_report_is_no_finished_run(data: Path, tmp_path: Path) -> None:
    """Without it a full disk would leave a study that can neither go on nor be read."""
    study = write(tmp_path, data, cases={"outputs": OUTPUTS}, seeds=[3])
    first = studies.run_study(study, "local", tmp_path / "out")
    file = tmp_path / "out" / "outputs" / "seed-3" / "report.json"
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    again = studies.run_study(study, "local", tmp_path / "out")
    assert (
        again.data["results"][0]["ensemble_accuracy"]
        == first.data["results"][0]["ensemble_accuracy"]
    )


def test_tables_hold_every_run(done: StudyReport) -> None:
    """Without it a user's own statistics would be of other rows than the study's."""
    with (done.path.parent / study_tidy.CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    frame = done.frame()
    assert [*rows[0]] == [*frame.columns] == [*study_tidy.columns(done.data)]
    assert len(rows) == len(frame)
    assert {row["case"] for row in rows} == {"outputs", "models"}
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(done.path.parent / study_tidy.PARQUET)
    assert table.column_names == [*frame.columns]
    accuracies = table.column("merge_accuracy").to_pylist()
    assert accuracies == [None if v != v else v for v in frame["merge_accuracy"]]


def test_without_pyarrow_there_is_no_old_parquet(
    done: StudyReport, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it runs.parquet of an earlier start would lie beside a newer runs.csv."""
    assert (copy / study_tidy.PARQUET).is_file()
    monkeypatch.setattr(study_tidy, "has_parquet", lambda: False)
    study_tidy.write(done.data, copy)
    assert not (copy / study_tidy.PARQUET).exists()
    assert (copy / study_tidy.CSV).is_file()


def test_with_one_seed_there_is_no_interval(data: Path, tmp_path: Path) -> None:
    """Without it one run would pass for evidence."""
    study = write(tmp_path, data, cases={"outputs": OUTPUTS, "models": {}}, seeds=[3])
    found = studies.run_study(study, "local", tmp_path / "out")
    assert {c["word"] for c in found.data["comparisons"]} == {"one-seed"}
    assert {c["difference"]["ci95"] for c in found.data["comparisons"]} == {None}
    assert any("with one seed and no interval" in said for said in found.data["answers"])


def test_a_grid_varies_its_keys(data: Path, tmp_path: Path) -> None:
    """Without it rows of runs.csv could not be told apart by what was varied."""
    vary = {"queries.pool": [3, 6], "portland.alignment": ["none", "paper"]}
    study = write(tmp_path, data, cases={"outputs": OUTPUTS}, vary=vary, seeds=[3])
    found = studies.run_study(study, "local", tmp_path / "out")
    assert [case["name"] for case in found.data["cases"]][::3] == [
        "outputs-pool-3-alignment-none",
        "outputs-pool-6-alignment-paper",
    ]
    frame = found.frame()
    assert set(zip(frame["queries.pool"], frame["portland.alignment"], strict=True)) == {
        (3, "none"), (3, "paper"), (6, "none"), (6, "paper")
    }  # fmt: skip


def test_the_plan_counts_runs_and_experts(
    data: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a user would learn after an hour that a study takes ten."""
    monkeypatch.chdir(tmp_path)
    study = open_study(write(tmp_path, data, cases={"outputs": OUTPUTS, "models": {}}, seeds=[3]))
    before = study_outlook.foreseen(study, tmp_path / "out")
    assert (before.left, before.experts, before.shared, before.untrained) == (2, 3, 3, 3)
    assert before.seconds is None
    assert study_outlook.NOTHING_KNOWN in "\n".join(before.lines())
    assert not (tmp_path / "out").exists()
    assert not list(own_cache.rglob("*.safetensors"))
    studies.run_opened(study, "local", tmp_path / "out")
    more = open_study(tmp_path / "study.yaml", ["seeds=[3, 4]"])
    after = study_outlook.foreseen(more, tmp_path / "out")
    assert (after.left, after.untrained) == (2, 3)
    assert [case.left for case in after.cases] == [[4], [4]]
    assert after.seconds is not None
    assert after.pace is not None
    assert after.pace.expert is not None
    assert after.seconds == pytest.approx(sum(after.pace.by_case.values()) + 3 * after.pace.expert)
    assert after.record()["runs_left"] == 2


def test_what_others_wrote_stays_harmless(done: StudyReport) -> None:
    """Without it a question or a reason would move a cursor, or be markup or a formula."""
    assert "\x1b" not in done.markdown()
    assert "<script>" not in done.markdown()
    assert done.data["question"] == QUESTION
    text = (done.path.parent / study_tidy.CSV).read_text()
    assert "\x1b" not in text
    rows = [{"case": "=cmd", **dict.fromkeys(study_tidy.columns(done.data)[1:])}]
    assert study_tidy.csv_text(["case"], rows).splitlines() == ["case", "'=cmd"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_study_killed_half_way_repeats_no_finished_run(
    jobs: int, data: Path, tmp_path: Path
) -> None:
    """Without it a power cut would cost what was done, or leave a study that cannot go on."""
    study = write(tmp_path, data, MICRO, cases={"outputs": OUTPUTS, "models": {}}, seeds=[3, 4])
    command = [sys.executable, "-m", "neulig_fl", "study", str(study), "--engine", "local"]
    command += ["--out", str(tmp_path / "out"), "--jobs", str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not times(tmp_path / "out") and time.monotonic() < deadline:
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(times(tmp_path / "out")) < 4, "it was killed half way"
    while True:
        kept = times(tmp_path / "out")
        ended = subprocess.run(command, capture_output=True, text=True)
        if "another run is at work" not in ended.stderr:  # a process of it that ends just now
            break
    assert ended.returncode == 0, ended.stderr
    after = times(tmp_path / "out")
    assert len(after) == 4
    assert {name: after[name] for name in kept} == kept
    runs = StudyReport.load(tmp_path / "out").data["runs"]
    assert {run["state"] for run in runs} == {"done"}
