"""The page as text: whole, harmless, and from the report alone."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_example import example, noised

from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import RUN_PAGE
from neulig_fl.report import Report, page, question

MOST_BYTES = 5_000_000


def _json(text: str, name: str) -> Any:
    (found,) = re.findall(
        rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S
    )
    return json.loads(found)


@pytest.mark.parametrize("make", [example, noised])
def test_a_page_is_one_small_file(make: Any) -> None:
    """Without it a page needs a network, or is too large to be sent."""
    text = page.render(make())
    assert len(text.encode()) < MOST_BYTES
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", markup)
    assert not re.search(r"@import|url\(", markup)
    assert "default-src 'none'" in markup


def test_a_page_is_of_the_report_alone() -> None:
    """Without it two renderings of one report could differ."""
    assert page.render(example()) == page.render(json.loads(json.dumps(example())))


def test_names_are_shown_and_never_run() -> None:
    """Without it a client's name is code in whoever opens the page."""
    report = noised()
    word = "</script><script>alert(1)</script><!--\u2028'\"&"
    report["scenario"]["name"] = word
    report["notes"] = [word]
    report["stages"][0]["refusals"] = [{"client": word, "kind": "features", "reason": word}]
    report["portland"]["trajectory"] = []
    text = page.render(report)
    assert "alert(1)</script>" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text
    assert _json(text, "specs")
    assert "\u2028" not in text


def test_a_page_without_an_accuracy_says_why() -> None:
    """Without it a run that gave nothing has no page."""
    report = example()
    for stage in report["stages"]:
        stage["results"] = [r for r in stage["results"] if r["status"] != "ok"]
        stage["comparisons"] = []
    report["stage_comparisons"], report["coopvec_maps"], report["portland"] = [], [], None
    text = page.render(report)
    assert "No stage has an accuracy" in text
    assert _json(text, "specs") == {}


def test_the_answer_has_its_interval() -> None:
    """Without it a difference is told that may be chance."""
    report = example()
    found = report["stage_comparisons"][0]
    for ends, words in (
        ([-0.4, 0.9], "No difference is shown"),
        ([0.1, 0.9], "gained"),
        ([-3.0, -0.1], "lost"),
    ):
        value = sum(ends) / 2
        found |= {"difference": value, "ci95": ends}
        answer = question.answer(report)
        assert words in answer
        assert f"[{ends[0]:.2f}, {ends[1]:.2f}]" in answer
        assert "ensemble of ensembling" in answer


def test_the_answer_names_a_better_stage_in_between() -> None:
    """Without it the ends are compared, and a reader takes the worse one to be the best to have."""
    report = example()
    middle = copy.deepcopy(report["stages"][0]) | {"name": "middle"}
    report["stages"].insert(1, middle)
    assert "In between" not in question.answer(report)
    for result in middle["results"]:
        if result["average"]:
            result["average"]["ensemble_accuracy"] = 99.9
    assert "In between, the ensemble of middle has 99.90 % for" in question.answer(report)


def test_the_answer_of_one_stage() -> None:
    """Without it a run of one stage has no answer."""
    report = example()
    del report["stages"][1:]
    report["stage_comparisons"] = []
    assert question.question(report).startswith("What does the joint model reach where each client")
    assert "each client gave away" in question.answer(report)


def test_a_page_lies_beside_its_report(tmp_path: Path) -> None:
    """Without it nobody finds it."""
    report = Report(example()).write(tmp_path)
    assert report.write_page() == tmp_path / RUN_PAGE
    with pytest.raises(InputError, match="lies in no folder"):
        Report(example()).write_page()
