"""Tests of Report: load, find, write, print."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from report_example import example
from rich.console import Console

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.report import Report


def test_write_and_load(tmp_path: Path) -> None:
    """Without it a report could not be printed again after its run."""
    written = Report(example()).write(tmp_path / "run")
    assert written.path == tmp_path / "run" / "report.json"
    loaded = Report.load(tmp_path / "run")
    assert loaded == written
    assert (tmp_path / "run" / "report.md").read_text(encoding="utf-8") == loaded.markdown()
    assert Report.load(str(written.path)) == written


def test_write_whole_or_not(tmp_path: Path) -> None:
    """Without it a report that is not valid would leave half a report behind."""
    report = Report(example())
    report.data["ledger"]["verified"] = "yes"
    with pytest.raises(RunError, match="'yes' is not of type 'boolean'"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_find() -> None:
    """Without it a notebook could not reach one figure without loops."""
    report = Report(example())
    assert report.stage("transfer")["group"] == "B"
    assert report.result("merging", "neulig")["granularity"] == "sample"
    assert report.result("merging", "neulig", "task")["granularity"] == "task"
    assert report.result("merging", "oracle")["method"] == "oracle"


def test_find_errors() -> None:
    """Without it a misspelt name would be a KeyError that does not say which names there are."""
    report = Report(example())
    with pytest.raises(
        InputError, match=r"allowed: ensembling, merging, transfer; did you mean merging"
    ):
        report.stage("mergin")
    with pytest.raises(InputError, match=r"has no result 'oracel'.*did you mean oracle"):
        report.result("merging", "oracel")
    with pytest.raises(InputError, match=r"has no result 'NeuLig \(task\)'"):
        report.result("transfer", "neulig", "task")


def test_print() -> None:
    """Without it the console that the caller chose would be ignored."""
    stream = StringIO()
    Report(example()).print(Console(file=stream, width=80))
    assert "How to read it" in stream.getvalue()
    assert Report(example())._repr_markdown_().startswith("# outputs-then-parameters")


def test_light_import() -> None:
    """Without it printing a report would wait for torch and Flower to load."""
    code = (
        "import sys, neulig_fl.report, neulig_fl.report.summary, neulig_fl.metrics.intervals; "
        "print({'torch', 'flwr', 'ray', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
