"""Tests of LaTeX tables: the figures of the report, and no word that LaTeX would run."""

from __future__ import annotations

import re

from report_example import example

from neulig_fl.report import figures, latex, rows


def test_every_accuracy_is_in_its_row() -> None:
    """Without it a table in a paper could say what no run gave."""
    report = example()
    parts = latex.render(report).split(r"\begin{table}")[1:]
    assert len(parts) == 3
    for stage, part in zip(report["stages"], parts, strict=True):
        lines = [line for line in part.splitlines() if line.endswith(r"\\")]
        for result in stage["results"]:
            label = latex.text(rows.called(result))
            cells = next(x for x in lines if x.startswith(f"{label} &") or label in x).split(" & ")
            for task in result["tasks"]:
                for key in ("merge_accuracy", "ensemble_accuracy"):
                    if task[key] is not None:
                        assert figures.number(task[key]) in cells
    merged = parts[1]
    columns = merged.count(r"\multicolumn{3}")
    assert columns == 5, "four tasks and the average, each with merge, ensemble and gap"
    assert r"\multicolumn{1}" in parts[0], "nothing is merged in the first stage"


def test_it_is_whole_latex() -> None:
    """Without it the table would not compile."""
    text = latex.render(example())
    assert text.count("{") == text.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 3
    for block in text.split(r"\begin{table}")[1:]:
        widths = set()
        for line in block.splitlines():
            if line.endswith(r"\\"):
                spans = re.findall(r"\\multicolumn\{(\d)\}", line)
                widths.add(line.count(" & ") + 1 + sum(int(n) - 1 for n in spans))
        assert len(widths) == 1, "every line has as many cells as the head"


def test_foreign_text_is_not_run() -> None:
    """Without it a client's name could read a file into somebody's paper."""
    report = example()
    report["scenario"]["name"] = r"\input{/etc/passwd} 50% #1 a_b ^ ~ $x$ & \write18{ls}"
    text = latex.render(report)
    assert r"\input" not in text
    assert r"\write" not in text
    assert r"\textbackslash{}input\{/etc/passwd\} 50\% \#1 a\_b" in text
