"""`neulig-fl report --format` and `neulig-fl runs`: what they print, and what they refuse."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import tiny
from command_line import Line

from neulig_fl.report import Report, latex, tidy


@pytest.fixture
def ended(line: Line, data: Path, tmp_path: Path) -> Path:
    """A run of two seeds."""
    scenario = tiny.write(tmp_path, data)
    text = scenario.read_text().replace(f"seed: {tiny.SEED}", "seeds: [3, 4]")
    scenario.write_text(text)
    out = tmp_path / "runs" / "tiny" / "one"
    out.parent.mkdir(parents=True)
    assert line("run", scenario, "--engine", "local", "--out", out).code == 0
    return out


def test_every_format(line: Line, ended: Path) -> None:
    """Without it a format could be parsed and ignored."""
    one = ended / "seed-3"
    report = Report.load(one)
    assert line("report", one, "--format", "json").out == (one / "report.json").read_text()
    assert line("report", one, "--format", "md").out == (one / "report.md").read_text()
    assert line("report", one, "--format", "latex").out == latex.render(report.data)
    rows = list(csv.DictReader(io.StringIO(line("report", one, "--format", "csv").out)))
    assert len(rows) == len(tidy.records(report.data))
    both = list(csv.DictReader(io.StringIO(line("report", ended, "--format", "csv").out)))
    assert {row["seed"] for row in both} == {"3", "4"}
    assert len(both) == 2 * len(rows)
    summary = line("report", ended, "--format", "json").out
    assert summary == (ended / "summary.json").read_text()


@pytest.mark.parametrize("form", ["md", "latex"])
def test_one_report_at_a_time(line: Line, ended: Path, form: str) -> None:
    """Without it the first seed's report would pass for that of all seeds."""
    refused = line("report", ended, "--format", form)
    assert refused.code == 2
    assert "has several seeds" in refused.err
    assert "seed-4" in refused.err


def test_runs_are_listed(line: Line, ended: Path) -> None:
    """Without it a user would look for the folder of yesterday's run by hand."""
    told = line("runs", ended.parents[1])
    assert told.code == 0
    assert "done" in told.out
    assert "seeds 3, 4" in " ".join(told.out.split())
    (found,) = json.loads(line("runs", ended, "--json").out)
    assert (found["folder"], found["state"]) == (str(ended), "done")
    empty = line("runs", ended / "seed-3" / "clients")
    assert "no run is there" in empty.out
    assert "seeds 3, 4" in " ".join(line("runs").out.split())
    missing = line("runs", ended / "nowhere")
    assert (missing.code, "is no folder" in missing.err) == (2, True)


def test_no_run_yet(line: Line) -> None:
    """Without it a new user would meet an error where there is only nothing to list."""
    ended = line("runs")
    assert (ended.code, "no run is there" in ended.out) == (0, True)
