"""Tests of the end of a run: one screen, whatever the run was."""

from __future__ import annotations

import copy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from report_example import example, noised
from rich.cells import cell_len
from rich.console import Console

from neulig_fl.report import brief, timeline


def shown(report: dict[str, Any], width: int = 80, path: Path | None = None) -> list[str]:
    """The lines that are printed."""
    stream = StringIO()
    brief.show(report, Console(file=stream, width=width), path, ["Experts: 8 trained now"])
    return stream.getvalue().splitlines()


def many(count: int) -> dict[str, Any]:
    """A run of many stages."""
    report = example()
    stages = [copy.deepcopy(report["stages"][at % 3]) for at in range(count)]
    for at, stage in enumerate(stages):
        stage["name"] = f"stage-{at}"
    return report | {"stages": stages}


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("report", [example(), noised(), many(5), many(7)], ids=repr)
def test_it_is_one_screen(report: dict[str, Any], width: int) -> None:
    """Without it the answer would have scrolled away when the run is done."""
    lines = shown(report, width, Path("runs/outputs-then-parameters/20260101-000000/report.json"))
    assert len(lines) <= brief.LINES
    assert max(map(cell_len, lines)) <= width
    text = " ".join(lines)
    for stage in report["stages"]:
        assert f"{stage['name']} ({stage['group']})" in text
    assert "Experts: 8 trained now" in text
    assert "report.md" in "".join(lines)
    assert " ".join(timeline.answers(report)[-1].split()) in " ".join(text.split())


def test_the_table_has_every_stages_figures_and_no_empty_column() -> None:
    """Without it a stage would have no accuracy on the screen that is looked at first."""
    text = "\n".join(shown(example(), 120))
    for words in ("96.44", "96.29", "-0.16", "[-0.65, 0.30]", "2.18 MB", "2.18-13.7 MB"):
        assert words in text
    assert "Epsilon" not in text, "nothing was noised"
    assert "Epsilon" in "\n".join(shown(noised(), 120))


def test_the_controls_stand_beside_the_answer() -> None:
    """Without it nobody can tell whether the accuracy is a good one."""
    told = " ".join(" ".join(shown(example())).split())
    average = next(r for r in example()["stages"][1]["results"] if r["method"] == "simple-average")[
        "average"
    ]
    words = f"simple-average {average['merge_accuracy']:.2f}, hard-routing"
    assert f"Beside it in {example()['stages'][1]['name']}, merged model: {words}" in told
    assert "oracle" in told


@pytest.mark.parametrize("width", [40, 60])
def test_it_fits_a_narrow_terminal(width: int) -> None:
    """Without it the table would fall apart there."""
    assert max(map(cell_len, shown(example(), width))) <= width


def test_it_moves_no_cursor() -> None:
    """Without it a client's name could erase what was said of it."""
    report = example()
    report["scenario"]["name"] = "a\x1b[2Jb"
    report["scenario"]["overrides"] = ["name=\x1b[2J", "stages=" + "x" * 500]
    report["stages"][0]["name"] = "x\x1b[31my"
    report["stages"][0]["releases"][0]["kind"] = "k\x1b[2Jind"
    lines = shown(report)
    assert "\x1b" not in "\n".join(lines)
    assert len(lines) <= brief.LINES
    assert any("Differs from its file in name=" in line for line in lines)
