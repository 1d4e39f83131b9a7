"""Tests of a report as one table: every figure once, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

import pandas
from report_example import example

from neulig_fl.report import Report, tidy


def test_every_figure_has_its_row() -> None:
    """Without it a figure of the report could be missing from a user's statistics."""
    report = example()
    found = {
        (row["stage"], row["method"], row["granularity"], row["task"]): row
        for row in tidy.records(report)
    }
    expected = 0
    for stage in report["stages"]:
        for result in stage["results"]:
            place = stage["name"], result["method"], result["granularity"]
            expected += len(result["tasks"]) + 1
            for task in result["tasks"]:
                row = found[(*place, task["task"])]
                for key in ("n", "merge_accuracy", "ensemble_accuracy", "gap", "interior"):
                    assert row[key] == task[key]
                low, high = task["gap_ci95"] or (None, None)
                assert (row["gap_low"], row["gap_high"]) == (low, high)
            average, row = result["average"] or {}, found[(*place, tidy.AVERAGE)]
            assert row["merge_accuracy"] == average.get("merge_accuracy")
            assert row["gap"] == average.get("gap_of_means")
            assert (row["status"], row["reason"]) == (result["status"], result["reason"])
            assert row["experts"] == len(result["experts"])
    assert len(found) == expected == len(tidy.records(report))


def test_csv_is_read_back() -> None:
    """Without it a comma or a line break in a reason would shift every column behind it."""
    report = example()
    report["stages"][1]["results"][-1]["reason"] = 'needs "gram", of all;\nand more'
    rows = tidy.records(report)
    back = list(csv.DictReader(io.StringIO(tidy.csv_text(rows))))
    assert len(back) == len(rows)
    for read, row in zip(back, rows, strict=True):
        for column, value in row.items():
            if isinstance(value, float):
                assert float(read[column]) == value
            elif value is None:
                assert read[column] == ""
    assert any(row["reason"] == 'needs "gram", of all; and more' for row in back)


def test_no_cell_is_a_formula() -> None:
    """Without it a client's reason could start a program on the machine of whoever opens it."""
    report = example()
    for at, sign in enumerate("=+-@"):
        report["stages"][0]["results"][0]["tasks"][at]["task"] = f"{sign}cmd|' /C calc'!A0"
    report["stages"][0]["name"] = "\t=1+1"
    for row in csv.reader(io.StringIO(tidy.csv_text(tidy.records(report)))):
        for cell in row:
            number = cell.lstrip("-").replace(".", "", 1).replace("e-", "").isdigit()
            assert number or not cell.startswith(("=", "+", "-", "@", "\t")), cell


def test_frame() -> None:
    """Without it a notebook would have to take the report apart by hand."""
    frame = Report(example()).frame()
    assert list(frame.columns) == list(tidy.COLUMNS)
    assert isinstance(frame, pandas.DataFrame)
    neulig = frame.query("stage == 'merging' and granularity == 'sample' and task == 'average'")
    assert round(float(neulig["merge_accuracy"].iloc[0]), 2) == 96.29
