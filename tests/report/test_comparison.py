"""A comparison in words, on a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from neulig_fl.core.consoles import PlainConsole
from neulig_fl.report import comparison, comparison_pages, comparison_screen
from neulig_fl.report.comparison import (
    Cell,
    ComparedRun,
    ComparedStage,
    Comparison,
    Difference,
    Line,
    Setting,
    Speaker,
)

MORE = Difference(1.5, (0.5, 2.5), "queries")
UNSURE = Difference(-0.1, (-0.5, 0.3), "seeds")
BARE = Difference(-2.0, None, None, "run 1 kept no predictions")
CELLS = (Cell(90.0), Cell(91.5, MORE), Cell(89.9, UNSURE), Cell(88.0, BARE))
RUNS = tuple(
    ComparedRun(f"runs/{name}", name, (7, 8), name != "d") for name in ("a", "b", "c", "d")
)
SPEAKERS = tuple(Speaker("NeuLig (sample)", "merge_accuracy", cell) for cell in CELLS)
FOUND = Comparison(
    RUNS,
    (
        Setting("portland.epochs", (2, 1, 2, None)),
        Setting("stages.one.share", ([{"kind": "features"}], None, "x" * 90, None)),
    ),
    ("first", "second"),
    (
        ComparedStage(
            ("one", "one", "uno", "one"),
            ((1500, 2500), (1500, 1500), (0, 0), (4_000_000, 4_000_000)),
            (None, 8.0, None, "inf"),
            SPEAKERS,
            (
                Line("neulig", "sample", None, "merge_accuracy", CELLS),
                Line("oracle", None, None, "merge_accuracy", CELLS),
                Line("oracle", None, None, "ensemble_accuracy", CELLS),
                Line("ties", None, "k 0.1", "merge_accuracy", (Cell(None), *CELLS[1:])),
            ),
        ),
    ),
    ("The seeds differ.",),
)


def test_more_and_less_are_said_by_the_rule() -> None:
    """Without it a word would claim a difference that its interval does not show."""
    assert comparison.sentences(FOUND) == [
        "one / uno: run 2, NeuLig (sample), merged model 91.50 %: 1.50 points more [0.50, 2.50] "
        "than run 1, NeuLig (sample), merged model 90.00 %.",
        "one / uno: run 3, NeuLig (sample), merged model 89.90 %: no difference is shown (-0.10 "
        "points [-0.50, 0.30] over seeds) from run 1, NeuLig (sample), merged model 90.00 %.",
        "one / uno: run 4, NeuLig (sample), merged model 88.00 %: -2.00 points, without an "
        "interval, from run 1, NeuLig (sample), merged model 90.00 %.",
    ]
    assert comparison.reasons(FOUND) == ["No interval for run 4: run 1 kept no predictions."]
    silent = replace(FOUND, stages=())
    assert comparison.sentences(silent) == ["No stage of two runs has an accuracy to compare."]


def _printed(found: Comparison, width: int) -> str:
    file = io.StringIO()
    comparison_screen.show(found, PlainConsole(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_every_figure_is_printed_at_every_width(width: int) -> None:
    """Without it a narrow terminal would cut figures off, or not have them."""
    text = _printed(FOUND, width)
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for figure in ("90.00", "91.50", "+1.50", "2.50]", "89.90", "-0.10", "88.00", "-2.00"):
        assert figure in words, (figure, text)
    assert "portland.epochs" in "".join(words)
    flat = " ".join(words)
    for sentence in (*FOUND.notes, comparison.RULE, *comparison.reasons(FOUND)):
        assert sentence in flat
    assert "x" * 61 not in text
    assert flat.count("oracle") == 1, "one model has its accuracy once"


def test_costs_are_printed_where_there_is_room() -> None:
    """Without it accuracies would be compared without what they cost."""
    text = _printed(FOUND, 100)
    assert "1.50 kB to 2.50 kB" in text
    assert "inf" in text
    cheap = replace(FOUND, stages=(replace(FOUND.stages[0], epsilon=(None,) * 4),))
    assert "Epsilon" not in _printed(cheap, 100)
    same = replace(FOUND, settings=())
    assert "Nothing: they say the same." in _printed(same, 100)


def test_csv_has_a_row_for_every_accuracy() -> None:
    """Without it a statistics package would read other figures than the tables show."""
    rows = list(csv.DictReader(io.StringIO(comparison_pages.csv_text(FOUND))))
    assert len(rows) == 4 * 4
    assert [rows[n]["stage"] for n in range(3)] == ["one", "one", "uno"]
    second = rows[1]
    assert (second["run"], second["accuracy"], second["difference"]) == ("runs/b", "91.5", "1.5")
    assert (second["low"], second["high"], second["over"]) == ("0.5", "2.5", "queries")
    assert (rows[0]["difference"], rows[0]["low"]) == ("", "")
    assert (rows[3]["low"], rows[3]["reason"]) == ("", "run 1 kept no predictions")


def test_json_has_everything() -> None:
    """Without it a program would have to read tables."""
    said: Any = json.loads(json.dumps(FOUND.record()))
    assert said["rule"] == comparison.RULE
    assert said["settings"][0] == {"key": "portland.epochs", "values": [2, 1, 2, None]}
    line = said["stages"][0]["lines"][0]
    assert line["cells"][1] == {
        "value": 91.5,
        "versus_first": {"value": 1.5, "ci95": [0.5, 2.5], "over": "queries", "reason": None},
    }


HOSTILE = "<script>|\x1b[2J`=cmd"


def test_names_of_others_are_harmless() -> None:
    """Without it a run's name could write into a page, a spreadsheet or a terminal."""
    stage = replace(FOUND.stages[0], names=("=1+1", HOSTILE, None, None))
    line = Line("=cmd", None, HOSTILE, "merge_accuracy", CELLS)
    hostile = replace(
        FOUND,
        runs=(replace(RUNS[0], folder="=cmd", scenario=HOSTILE), *RUNS[1:]),
        settings=(Setting(HOSTILE, (HOSTILE, "a|b", None, None)),),
        stages=(replace(stage, lines=(line,)),),
    )
    page = comparison_pages.markdown(hostile)
    assert "<script>" not in page
    assert "\x1b" not in page
    table = next(part for part in page.split("\n\n") if "script" in part and "Key" in part)
    assert all(row.replace("\\|", "").count("|") == 6 for row in table.splitlines())
    rows = list(csv.DictReader(io.StringIO(comparison_pages.csv_text(hostile))))
    assert all(not str(cell).startswith("=") for row in rows for cell in row.values())
    assert "\x1b" not in _printed(hostile, 100)


def test_markdown_has_the_figures() -> None:
    """Without it a page would lack what the terminal shows."""
    page = comparison_pages.markdown(FOUND)
    assert "| one / uno | run 2 | NeuLig (sample) | merge | 91.50 | +1.50 | [0.50, 2.50] |" in page
    assert "| ties (k 0.1) | merge | - | 91.50 | +1.50 | [0.50, 2.50] | 89.90 |" in page
    assert "x" * 90 in page
    assert "- 'More' and 'less' are said of a difference" in page
    nothing = comparison_pages.markdown(replace(FOUND, settings=()))
    assert "Nothing: they say the same." in nothing
