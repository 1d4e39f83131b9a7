"""The page at the end of a run: where it cannot be written, the results are kept, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Line
from report_example import example

from neulig_fl.cli.run import drawn
from neulig_fl.core.errors import RunError
from neulig_fl.report import Report


def test_a_page_that_cannot_be_written_costs_no_results(tmp_path: Path, line: Line) -> None:
    """Without it a full disk at the very end reads as a failed run."""
    report = Report(example()).write(tmp_path)
    (tmp_path / "report.html").mkdir()  # as good as a full disk: the page cannot take its place
    with pytest.raises(RunError, match=r"report\.html") as failed:
        drawn(report)
    assert any("the results are kept in" in note for note in failed.value.__notes__)
    assert Report.load(tmp_path).data == report.data
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".md", ".json", ".html")] == []
    ended = line("report", str(tmp_path), "--format", "html")
    assert ended.code == 1
    assert "report.html" in ended.err


def test_the_page_and_the_figures_of_a_run(tmp_path: Path, line: Line) -> None:
    """Without it a page that was lost, or of an older run, cannot be made."""
    Report(example()).write(tmp_path)
    page = tmp_path / "elsewhere.html"
    assert line("report", str(tmp_path), "--format", "html", "--out", str(page)).code == 0
    assert page.read_text(encoding="utf-8") == Report.load(tmp_path).page()
    figures = line("report", str(tmp_path), "--format", "figures")
    assert figures.code == 0
    assert (tmp_path / "figures" / "gaps.pdf").read_bytes().startswith(b"%PDF")
    wrong = line("report", str(tmp_path), "--format", "csv", "--out", "x.csv")
    assert wrong.code == 2
    assert "redirect the output" in wrong.err
