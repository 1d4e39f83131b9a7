"""`neulig-fl study`: its plan, its screen, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import yaml
from command_line import Line
from rich.console import Console

from neulig_fl.cli.exits import BAD_INPUT, DONE, FAILED
from neulig_fl.report import study_table
from neulig_fl.report.study_report import StudyReport
from neulig_fl.report.study_words import RULE

NEVER = {"clients.0.policy": {"never": ["parameters"]}}


def write(folder: Path, data: Path, **cases: object) -> Path:
    """A study on the tests' tiny scenario, with one seed."""
    tiny.write(folder, data)
    path = folder / "study.yaml"
    said = {"name": "small", "base": "scenario.yaml", "seeds": [3], "cases": cases}
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return path


def test_a_plan_runs_nothing(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a user could not see what a study costs before it costs."""
    write(tmp_path, data, whole={}, less={"queries.pool": 4})
    ended = line("study", "study.yaml", "--plan")
    assert ended.code == DONE, ended.err
    assert ended.out.startswith("OK: study.yaml: small: 2 cases, seeds 3\nRuns: 2, 0 finished")
    assert "queries.pool=4" in ended.out
    found = json.loads(line("study", "study.yaml", "--plan", "--json", "--set", "seeds=[3,4]").out)
    assert (found["runs_left"], found["seeds"]) == (4, [3, 4])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenario.yaml", "study.yaml"]
    checked = line("check", "study.yaml", "scenario.yaml")
    assert checked.code == DONE, checked.err
    assert checked.out.startswith("OK: study.yaml: small: 2 cases of tiny (whole, less), seeds 3\n")


def test_a_study_ends_with_its_answer(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a user would have to open files to learn what a study came to."""
    write(tmp_path, data, whole={}, never=NEVER)
    ended = line("study", "study.yaml", "--engine", "local")
    assert ended.code == FAILED
    assert "never, seed 3: FAILED: client 'ada'" in " ".join(ended.err.split())
    shown = " ".join(ended.out.split())
    assert shown.startswith("small: 2 cases, seed 3, 2 runs, 1 FAILED")
    assert "Failed: never, seed 3: client 'ada'" in shown
    assert RULE in shown
    assert shown.endswith("Every stage and method: studies/small/study.html")
    report = StudyReport.load(tmp_path / "studies" / "small")
    assert report.data["engines"] == ["local"]
    assert (report.path.parent / "study.md").read_text() == report.markdown()
    shown = line("report", "studies/small")
    assert (shown.code, shown.out) == (DONE, ended.out)
    assert line("report", "studies/small", "--format", "md").out == report.markdown()
    assert json.loads(line("report", "studies/small", "--format", "json").out) == report.data
    printed = line("report", "studies/small", "--format", "csv").out
    assert printed == (report.path.parent / "runs.csv").read_text()
    ended = line("report", "studies/small", "--format", "latex")
    assert ended.code == BAD_INPUT
    assert "is a study, and --format latex prints one run's report" in ended.err
    states = {
        run["folder"]: run["state"] for run in json.loads(line("runs", "studies", "--json").out)
    }
    assert states == {"studies/small/whole/seed-3": "done", "studies/small/never/seed-3": "failed"}


def test_bad_input_is_told_in_one_line(line: Line, data: Path, tmp_path: Path) -> None:
    """Without it a mistake would end in a traceback, or after hours of runs."""
    write(tmp_path, data, whole={}, less={"queries.pol": 4})
    for command in (["study", "study.yaml"], ["check", "study.yaml"]):
        ended = line(*command)
        assert (ended.code, ended.out) == (BAD_INPUT, "")
        assert ended.err.startswith("error: study.yaml:8:5: case less: queries.pol: unknown key;")
        assert "did you mean pool?" in ended.err
    ended = line("study", "study.yaml", "--json")
    assert ended.code == BAD_INPUT
    assert ended.err.startswith("error: --json prints a plan")
    write(tmp_path, data, whole={})
    ended = line("study", "study.yaml", "--engine", "locl")
    assert ended.err.startswith("error: no engine is called 'locl'")
    ended = line("run", "study.yaml")
    assert ended.err.startswith("error: study.yaml:2:1: the file is a study, not a scenario")


def _many(cases: int) -> dict[str, object]:
    """A study's report of many cases whose names are as long as names can be."""
    names = [f"{'long-' * 10}{number:03}" for number in range(cases)]
    spread = {"mean": 90.0, "sd": 1.0, "ci95": [87.0, 93.0], "values": [89.0, 90.0, 91.0]}
    row = {"label": "NeuLig (sample)", "quantity": "merge_accuracy", "accuracy": spread}
    released = [{"kind": "trimmed-task-vector", "protection": "secure-aggregation"}] * 3
    stage = {
        "stage": "merging", "last": True, "headline": row, "released_so_far": released,
        "bytes_so_far": {"least": 1, "most": 10**9}, "epsilon_so_far": "inf",
    }  # fmt: skip
    return {
        "name": "many", "question": "Why? " * 30, "seeds": [1, 2, 3], "rule": RULE,
        "cases": [{"name": name} for name in names], "comparisons": [],
        "runs": [{"state": "done"}] * 3 * cases,
        "stages": [{**stage, "case": name} for name in names],
        "answers": ["A sentence that is longer than one line of a terminal. " * 3] * cases,
    }  # fmt: skip


@pytest.mark.parametrize("cases", [1, 3, 8, 30])
@pytest.mark.parametrize("width", [80, 120])
def test_the_end_fits_one_screen(cases: int, width: int, tmp_path: Path) -> None:
    """Without it the answer would scroll away."""
    with (tmp_path / "out").open("w+") as file:
        console = Console(file=file, width=width)
        study_table.show(_many(cases), console, Path("studies/many/study.json"))
        file.seek(0)
        lines = file.read().splitlines()
    assert len(lines) <= 24
    assert all(len(each) <= width for each in lines)
    assert "study.md" in lines[-1]
