"""Tests of the scenario in a run's folder: it is what was run, whatever the file left open."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml

from neulig_fl.config import effective
from neulig_fl.report import Report
from neulig_fl.study import runs
from neulig_fl.study.checking import open_scenario
from neulig_fl.verification.whole_run import verify

SHIPPED = Path(__file__).resolve().parents[2] / "scenarios"
FILES = sorted(file for file in SHIPPED.rglob("*.yaml") if file.parent.name != "studies")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_the_scenario_that_was_read(file: Path, tmp_path: Path) -> None:
    """Without it a run would be run again under other settings than its own."""
    opened = open_scenario(file)
    (tmp_path / "again.yaml").write_text(effective.text(opened), encoding="utf-8")
    again = open_scenario(tmp_path / "again.yaml")
    assert again.resolved == opened.resolved
    assert again.scenario.hash == opened.resolved.hash


def test_every_default_is_written() -> None:
    """Without it a run's settings would change with the defaults of the next version."""
    opened = open_scenario(FILES[-1], ["experts.epochs=2"])
    said = yaml.safe_load(effective.text(opened))
    dumped = opened.resolved.model_dump(mode="json")
    for part in ("experts", "queries", "portland", "merging", "timeouts", "resources"):
        there = {key: value for key, value in dumped[part].items() if value is not None}
        assert said[part] == there, part
    assert said["experts"]["epochs"] == 2
    assert effective.text(opened).splitlines()[1] == "# --set experts.epochs=2"


def test_a_name_with_a_line_break_stays_a_comment() -> None:
    """Without it an override could write keys of its own into the file that is run again."""
    opened = open_scenario(FILES[-1], ["name='a'\n\n"])
    assert effective.text(opened).startswith("# The effective scenario of ")
    assert yaml.safe_load(effective.text(opened))["name"] == "a"


def test_a_run_is_run_again_from_its_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the folder would not say what was run, or only from where it was begun."""
    (tmp_path / "exp").mkdir()
    scenario = tiny.write(tmp_path / "exp", data)
    monkeypatch.chdir(tmp_path / "exp")
    first = runs.run(scenario.name, "local", tmp_path / "one", ["portland.epochs=1", "seed=4"])
    monkeypatch.chdir("/")
    second = runs.run(tmp_path / "one" / "scenario.yaml", "local", tmp_path / "two")
    assert tiny.results(first) == tiny.results(second)
    assert second.data["scenario"]["seed"] == 4
    for folder in ("one", "two"):
        assert [each.failures for each in verify(tmp_path / folder)] == [()], folder
    assert Report.load(tmp_path / "two").data["reference"] == first.data["reference"]


def test_seeds_stay_seeds(data: Path, tmp_path: Path) -> None:
    """Without it one seed of several would be run again."""
    scenario = tiny.write(tmp_path, data)
    text = scenario.read_text().replace(f"seed: {tiny.SEED}", "seeds: [3, 4]")
    scenario.write_text(text)
    said = yaml.safe_load(effective.text(open_scenario(scenario)))
    assert (said["seeds"], "seed" in said) == ([3, 4], False)
