"""Tests of the list of runs: what state each is in, and what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_example import example

from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import run_folder
from neulig_fl.report import contract, kept_runs


def begun(folder: Path, *files: str) -> Path:
    """A run's folder with a scenario and other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scenario.yaml", *files):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_states(tmp_path: Path) -> None:
    """Without it a run that failed would look like one that goes on, or like none."""
    contract.write(example(), begun(tmp_path / "done"))
    failed = begun(tmp_path / "failed")
    (failed / "error.json").write_text(json.dumps({"message": "ann refused\n\x1b[2Jfeatures"}))
    begun(tmp_path / "stopped")
    many = begun(tmp_path / "many", "seed-7/report.json", "seed-8/error.json")
    (many / "seed-8" / "error.json").write_text(json.dumps({"message": "disk full"}))
    found = {run.folder.name: run for run in kept_runs.found(tmp_path)}
    assert {name: run.state for name, run in found.items()} == {
        "done": "done", "failed": "failed", "stopped": "interrupted", "many": "failed",
    }  # fmt: skip
    assert found["done"].says == "NeuLig (sample), merged model 96.29 %"
    assert found["failed"].says == "ann refused [2Jfeatures"
    assert found["stopped"].says.startswith("no report yet; run the scenario again")
    assert found["many"].says == "disk full"


def test_a_run_that_goes_on_is_running(tmp_path: Path) -> None:
    """Without it its folder could be taken for that of a run that was broken off."""
    with run_folder("a", tmp_path / "now") as folder:
        begun(folder)
        assert kept_runs.look(folder).state == "running"
        with pytest.raises(InputError, match="the run goes on; wait for its end"):
            contract.read(folder)
    assert kept_runs.look(folder).state == "interrupted"
    with run_folder("a", folder):
        pass  # looking left no lock behind


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"message": "ann refused"}', "the run failed: ann refused; mend the cause"),
        ("[1", "the run failed: error.json cannot be read"),
        (None, "the run was interrupted; run the scenario again"),
    ],
)
def test_why_there_is_no_report(tmp_path: Path, content: str | None, said: str) -> None:
    """Without it `report` would send a user to the folder that they named."""
    folder = begun(tmp_path / "run")
    if content:
        (folder / "error.json").write_text(content)
    with pytest.raises(InputError, match=said):
        contract.read(folder)


def test_no_run_at_all(tmp_path: Path) -> None:
    """Without it any folder would pass for a run that was interrupted."""
    with pytest.raises(InputError, match="name the folder that `neulig-fl run` printed"):
        contract.read(tmp_path)
    assert list(kept_runs.found(tmp_path)) == []
