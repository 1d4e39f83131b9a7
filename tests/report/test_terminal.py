"""Tests of what a run prints at its end, on narrow and wide terminals."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from report_example import example, result
from rich.cells import cell_len
from rich.console import Console

from neulig_fl.report import figures, rows, terminal

WIDTHS = (60, 80, 110, 160)


def shown(report: dict[str, Any], width: int, path: Path | None = None, **options: Any) -> str:
    """What is printed, as text."""
    stream = StringIO()
    terminal.show(report, Console(file=stream, width=width, **options), path)
    return stream.getvalue()


def section(text: str, stage: str) -> str:
    """One stage's part."""
    start = text.index(f"Stage {stage} (group")
    ends = [text.find(mark, start + 1) for mark in ("\nStage ", "\nWhat each client")]
    return text[start : min(end for end in ends if end > 0)]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure(width: int) -> None:
    """Without it a narrow terminal would cut or lose figures."""
    report = example()
    text = shown(report, width)
    for stage in report["stages"]:
        printed = re.findall(r"\[[^\]]*\]|\S+", section(text, stage["name"]))
        for found in stage["results"]:
            average = found["average"] or {}
            for key in ("merge_accuracy", "ensemble_accuracy"):
                assert figures.number(average.get(key)) in printed
            assert figures.signed(average.get("gap_of_means")) in printed
            assert figures.interval(average.get("gap_of_means_ci95")) in printed
            for task in found["tasks"]:
                assert figures.number(task["merge_accuracy"]) in printed
                assert figures.number(task["ensemble_accuracy"]) in printed
                assert figures.signed(task["gap"]) in printed
        for comparison in stage["comparisons"]:
            assert figures.signed(comparison["difference"]) in printed
            assert figures.interval(comparison["ci95"]) in printed
        for release in stage["releases"]:
            assert f"{release['rows']:,} " in text
            assert f"{release['bytes']:,} " in text


@pytest.mark.parametrize("width", WIDTHS)
def test_grouping(width: int) -> None:
    """Without it a run's end would not say that a result's merging was not exact."""
    told = " ".join(section(shown(example(), width), "merging").split())
    assert "2,650 queries were merged as 311 networks (tolerance 0.05)" in told
    assert "on 32 checked queries: 1.3 % of the largest output; predictions changed: 1" in told


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_width(width: int) -> None:
    """Without it lines would wrap and the tables fall apart."""
    text = shown(example(), width, Path("/a/long/folder") / ("name" * 30) / "report.json")
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_whole_numbers(width: int) -> None:
    """Without it a number could be cut to its first digits and still look like a number."""
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown(example(), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_null_is_not_zero(width: int) -> None:
    """Without it what is missing would be printed as 0; nothing in this stage is 0."""
    text = section(shown(example(), width), "ensembling")
    assert "0.00" not in re.sub(r"\d0\.00", "", text)
    row = next(line for line in text.splitlines() if line.startswith("NeuLig "))
    assert row.split()[1] == "96.44"
    averages = text[text.index("Averages") : text.index("\n\n", text.index("Averages"))]
    assert "Merge" not in averages, "nothing is merged in this stage"
    assert "Gap" not in averages
    assert "no merge accuracy: parameters of" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_long_names(width: int) -> None:
    """Without it long client, task or method names would push figures off the screen."""
    report = example()
    long = "a-very-long-name-that-somebody-chose-for-it"
    stage = report["stages"][2]
    stage["name"] = long
    stage["results"].append(result("simple-average") | {"method": long})
    for found in stage["results"]:
        found["tasks"][0]["task"] = long
    for release in stage["releases"]:
        release["client"] = f"{long}-{release['client']}"
    text = shown(report, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "[-30.61, -26.74]" in text


def test_every_verdict_is_explained() -> None:
    """Without it a verdict beside a 95 % interval that holds 0 would look like a mistake."""
    text = shown(example(), 160)
    assert all(f"{word}: " in text for word in ("Equivalent", "Different", "Inconclusive"))


def test_layouts() -> None:
    """Without it every terminal would get the layout of the narrowest."""
    narrow, middle, wide = (section(shown(example(), width), "merging") for width in (60, 80, 160))
    assert narrow.count("95 % CI") == 7
    assert "Effective" not in middle
    assert "Effective" in wide
    blocks = [text.count("Each task") for text in (narrow, middle, wide)]
    assert blocks == [0, 2, 1]
    for text in (narrow, middle, wide):
        assert "not permitted" in text
        assert "equivalent" in text


def test_many_tasks() -> None:
    """Without it a scenario of twelve tasks could not be printed."""
    report = example()
    for stage in report["stages"]:
        for found in stage["results"]:
            found["tasks"] = [
                task | {"task": f"{task['task']}-{copy}"}
                for copy in range(3)
                for task in found["tasks"]
            ]
    text = shown(report, 80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert section(text, "merging").count("Each task") == 6


def test_foreign_text() -> None:
    """Without it a client's reason could colour or clear the terminal, or raise as bad markup."""
    report = example()
    report["stages"][1]["refusals"][0]["reason"] = "[red]no[/blue]\x1b[2J"
    text = shown(report, 80)
    assert "\x1b" not in text
    assert "[red]no[/blue]" in text


def test_ascii() -> None:
    """Without it a terminal without Unicode would fail at the very end of a run."""

    class Ascii(StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    stream = Ascii()
    terminal.show(example(), Console(file=stream, width=80), None)
    assert stream.getvalue().isascii()


def test_order_and_path() -> None:
    """Without it the last lines on the screen would not say where the report lies."""
    text = shown(example(), 80, Path("runs/a/report.json"))
    order = ["Stage ensembling", "Stage transfer", "What each client gave away", "How to read it"]
    assert sorted(order, key=text.index) == order
    assert text.splitlines()[-2:] == ["runs/a/report.md", "runs/a/report.json"]
    assert "report.json" not in shown(example(), 80)


def test_empty_stage() -> None:
    """Without it a stage that only releases records would fail to print."""
    report = example()
    stage = report["stages"][0]
    stage.update(results=[], comparisons=[], audits=[{"attack": "x"}])
    assert "This stage has no results" in shown(report, 80)
    for stage in report["stages"]:
        stage.update(releases=[], refusals=[])
    assert "Nothing left a client." in shown(report, 80)


def test_colours() -> None:
    """Without it the verdicts would look alike at a glance."""
    text = shown(example(), 80, force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b[32mequivalent" in text
    assert "\x1b[31mdifferent" in text


def test_who() -> None:
    """Without it "all" could be said of some clients."""
    everyone = rows.clients(example())
    assert rows.who(everyone, everyone) == "all 4"
    assert rows.who(everyone[:3], everyone) == "north, east, south"
