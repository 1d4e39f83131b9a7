"""Tests of how the faults of a report are told."""

from __future__ import annotations

from typing import Any

import pytest
from report_example import example, noised

from neulig_fl.core.errors import RunError
from neulig_fl.report import contract


def told(report: dict[str, Any]) -> list[str]:
    """The lines that name a fault."""
    with pytest.raises(RunError) as caught:
        contract.validate(report)
    return str(caught.value).splitlines()[1:]


def test_sorted_by_place() -> None:
    """Without it the tenth release would be named before the second."""
    report = example()
    report["engine"] = 3
    for at in (10, 2, 0):
        report["stages"][0]["releases"][at]["rows"] = -1
    assert [line.split(":")[0].strip() for line in told(report)] == [
        "engine",
        *(f"stages[0].releases[{at}].rows" for at in (0, 2, 10)),
    ]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("none", "'none' does not match '^inf$'"),
        (-1, "-1 is less than the minimum of 0"),
        (True, "True is not of type 'number'"),
        ([], "[] is not of type 'number'"),
    ],
)
def test_one_line_for_each_value(value: object, line: str) -> None:
    """Without it a value that can be of two types would be told of twice, as neither of them."""
    report = example()
    report["stages"][0]["releases"][0]["epsilon"] = value
    assert told(report) == [f"  stages[0].releases[0].epsilon: {line}"]


def test_a_result_whose_status_is_not_there() -> None:
    """Without it a developer would not learn which key was forgotten."""
    report = example()
    del report["stages"][1]["results"][0]["status"]
    report["stages"][1]["results"][1] = []
    assert told(report) == [
        "  stages[1].results[0]: 'status' is a required property",
        "  stages[1].results[1]: [] is not of type 'object'",
    ]


@pytest.mark.parametrize(
    ("pair", "lines"),
    [
        ([2.0], [": [2.0] is too short"]),
        ([2.0, 1, 1], [": [2.0, 1, 1] is too long; at most 2"]),
        ("ab", [": 'ab' is not of type 'array'"]),
        ([0, "1"], ["[0]: 0 is less than the minimum of 1e-100", "[1]: '1' is not of type 'integer'"]),
    ],
)  # fmt: skip
def test_a_pair(pair: object, lines: list[str]) -> None:
    """Without it the noise of an account could be half of a pair."""
    report = noised()
    report["privacy"]["clients"][0]["experts"][0]["noise"] = [pair]
    place = "privacy.clients[0].experts[0].noise[0]"
    assert told(report) == [f"  {place}{line}" for line in lines]


def test_contradictions_at_once() -> None:
    """Without it one contradiction would hide the others until it is mended."""
    report = example()
    report["stages"][1]["results"][0]["tasks"][0]["gap"] = 0.5
    report["stages"][1]["results"][0]["average"]["merge_accuracy"] = 1.0
    report["coopvec_maps"][0]["raw_sums"].pop()
    assert [line.split(":")[0].strip() for line in told(report)] == [
        "coopvec_maps[0].raw_sums",
        "stages[1].results[0].average.gap_of_means",
        "stages[1].results[0].average.merge_accuracy",
        "stages[1].results[0].tasks[0].gap",
    ]


def test_what_stands_in_a_report_reaches_no_terminal_as_it_is() -> None:
    """Without it a report could move the cursor of whoever is told what is wrong with it."""
    report = example()
    report["seconds"]["a\x1b[2J\nb"] = "c\x1b[2J\n" + "d" * 300
    report["e\x1b[2J\nf"] = 1
    lines = told(report)
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 250 for line in lines)


def test_half_a_character() -> None:
    """Without it a report that cannot be written would be called right."""
    report = example()
    report["engine"] = "\ud800"
    assert told(report) == ["  engine: '\\ud800' holds half a character, which is no text"]
