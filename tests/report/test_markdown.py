"""Tests of report.md: every figure is there, a null is never 0, foreign text stays text."""

from __future__ import annotations

from typing import Any

import pytest
from report_example import CLIENTS, TASKS, example

from neulig_fl.report import figures, markdown, rows


def table_under(text: str, heading: str, stage: str | None = None) -> list[list[str]]:
    """The cells of the first table below a heading (within a stage), without its head."""
    return _lines(text, heading, stage)[2:]


def _lines(text: str, heading: str, stage: str | None) -> list[list[str]]:
    if stage:
        text = text[text.index(f"## Stage {stage} ") :]
    lines = text[text.index(f"{heading}\n") :].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def cells_under(text: str, heading: str, stage: str) -> list[dict[str, str]]:
    """The same by column; a column that is left out has no figure, and every other has one."""
    head, _, *body = _lines(text, heading, stage)
    assert all({row[at] for row in body} != {"-"} for at in range(len(head)))
    return [
        {**dict.fromkeys((*AVERAGES, *TASK), "-"), **dict(zip(head, row, strict=True))}
        for row in body
    ]


TASK = ("n", "Mer.", "Ens.", "Gap", "95 % CI", "Agreement %", "Effective experts", "Interior %")
AVERAGES = ("Verdict", "Merge", "Ensemble", "Gap of means", "95 % CI", "90 % CI", "Margin")
AVERAGES += ("Mean abs. gap",)


def expected_cells(task: dict[str, Any]) -> list[str]:
    """A task's figures as they must be printed."""
    return [
        f"{task['n']:,}",
        *(
            "-" if task[k] is None else f"{task[k]:.2f}"
            for k in ("merge_accuracy", "ensemble_accuracy")
        ),
        figures.signed(task["gap"]),
        figures.interval(task["gap_ci95"]),
        figures.percent(task["agreement"]),
        f"{task['effective_experts']:.2f}",
        figures.percent(task["interior"]),
    ]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_task_figure(at: int) -> None:
    """Without it a figure could be missing from report.md, or stand in another's place."""
    report = example()
    stage = report["stages"][at]
    found = {
        (row["Task"], row["Method"]): [row[head] for head in TASK]
        for row in cells_under(markdown.render(report), "### Each task", stage["name"])
    }
    expected = {
        (task["task"], rows.label(result["method"], result["granularity"])): expected_cells(task)
        for result in stage["results"]
        for task in result["tasks"]
    }
    assert found == expected


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_average(at: int) -> None:
    """Without it an average, a verdict or its interval could be missing from report.md."""
    report = example()
    stage = report["stages"][at]
    found = {
        row["Method"]: [row[head] for head in AVERAGES]
        for row in cells_under(markdown.render(report), "### Averages", stage["name"])
    }
    assert len(found) == len(stage["results"])
    for result in stage["results"]:
        cells = found[rows.label(result["method"], result["granularity"])]
        average = result["average"]
        if average is None:
            assert cells[0] == f"{result['status'].replace('-', ' ')}: {result['reason']}"
            assert cells[1:] == ["-"] * 7
            continue
        test = average["equivalence"]
        verdict = test["verdict"] if test else "-"
        if test and result["method"] in rows.ONE_MODEL:
            verdict = "by construction"
        assert cells == [
            verdict,
            figures.number(average["merge_accuracy"]),
            figures.number(average["ensemble_accuracy"]),
            figures.signed(average["gap_of_means"]),
            figures.interval(average["gap_of_means_ci95"]),
            figures.interval(test["ci90"] if test else None),
            "1.00" if test else "-",
            figures.number(average["mean_absolute_gap"]),
        ]


def test_table_two() -> None:
    """Without it the main table would not have the form of the paper's Table 2."""
    text = markdown.render(example())
    section = text[text.index("## Stage merging") :]
    head = section[section.index("| Method") :].splitlines()[0]
    names = [f"{task} {kind}" for task in TASKS for kind in ("Mer.", "Ens.", "Gap")]
    expected = ["Method", *names, "Avg Mer.", "Avg Ens.", "Gap of means", "95 % CI"]
    assert head == f"| {' | '.join(expected)} |"
    assert table_under(text, "### Accuracies", "merging")[0] == [
        "NeuLig (sample)",
        *("96.20", "96.50", "-0.30", "95.78", "96.44", "-0.67"),
        *("98.00", "98.00", "0.00", "95.17", "94.83", "+0.33"),
        *("96.29", "96.44", "-0.16", "[-0.65, 0.30]"),
    ]


def test_null_is_not_zero() -> None:
    """Without it an accuracy that cannot be had would be printed as 0."""
    text = markdown.render(example())
    for row in table_under(text, "### Accuracies", "ensembling"):
        assert "0.00" not in row
    ensembling = text[text.index("## Stage ensembling") : text.index("## Stage merging")]
    assert " Mer. |" not in ensembling, "nothing is merged there"
    row = "| ensembling | A | "
    assert "| NeuLig | - | 96.44 | - | - |" in next(
        line for line in text.splitlines() if line.startswith(row)
    )


def test_grouping() -> None:
    """Without it a result whose merging was not exact would look like one that is."""
    text = markdown.render(example())
    told = (
        "- NeuLig (sample): 2,650 queries were merged as 311 networks (tolerance 0.05); largest "
        "output change on 32 checked queries: 1.3 % of the largest output; predictions changed: 1"
    )
    assert told in text.splitlines()
    assert text.count("were merged as") == 1, "the other results were merged exactly"


def test_given_away() -> None:
    """Without it a release could be missing from what a client gave away."""
    report = example()
    for stage in report["stages"]:
        found = table_under(
            markdown.render(report), "### What each client gave away", stage["name"]
        )
        assert len(found) == len(stage["releases"])
        expected = {
            (r["client"], r["kind"], r["queries"] or "-", r["protection"], f"{r['bytes']:,}")
            for r in stage["releases"]
        }
        assert {(*row[:4], row[6]) for row in found} == expected
    report["stages"][0]["releases"] = []
    assert "Nothing left a client in this stage." in markdown.render(report)


def test_other_sections() -> None:
    """Without it the map, the refusals, the versions or the way to read it could be left out."""
    text = markdown.render(example())
    assert "## CoopVec Map: stage ensembling, group A, epoch 20" in text
    for line in ("| textures | 0.04 | 0.04 | 0.04 | 0.88 | 1.11 |", "| flwr | 1.41.0 |"):
        assert line in text.splitlines()
    assert "is routing, not merging" in text
    for client in CLIENTS:
        assert f"| {client} |" in text
    assert "| harbour | parameters | its policy has never: [parameters] \\| asked for" in text
    assert "| harbour | textures | A | shared | 94.10 | - | 600 |" in text


def test_long_trajectory() -> None:
    """Without it a thousand epochs would bury the report, or the last one would be left out."""
    report = example()
    last = report["portland"]["trajectory"][-1]
    report["portland"]["trajectory"] = [last | {"epoch": epoch} for epoch in range(1, 1002)]
    text = markdown.render(report)
    assert "| 1001 | 0.0570 |" in text
    assert text.count("| 0.0570 |") <= 21
    assert "Every 51 epochs; report.json has all 1001." in text


def test_foreign_text() -> None:
    """Without it a client's reason could break a table, add a link or run HTML in a viewer."""
    report = example()
    report["stages"][1]["refusals"][0]["reason"] = "a|b\n| c | <script> [x](http://y) *z* \x1b[2J"
    text = markdown.render(report)
    row = next(line for line in text.splitlines() if line.startswith("| harbour | parameters | a"))
    assert row == (
        "| harbour | parameters | a\\|b \\| c \\| &lt;script> [x\\](http://y) \\*z\\* [2J |"
    )


def test_audits() -> None:
    """Without it an audit's finding could be left out."""
    report = example()
    report["stages"][1]["audits"] = [{"attack": "inversion", "recovered": 0.25}]
    assert "- attack: inversion; recovered: 0.25" in markdown.render(report)
