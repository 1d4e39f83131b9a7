"""Tests of stage against stage: which row speaks, what is said of a change, what had left by then."""

from __future__ import annotations

from typing import Any

import pytest
from report_example import example, noised

from neulig_fl.report import timeline
from neulig_fl.report.headline import headline, quantity


def row(method: str, merge: float | None, ensemble: float | None) -> dict[str, Any]:
    """A result as far as a headline looks at it."""
    return {
        "method": method,
        "average": {"merge_accuracy": merge, "ensemble_accuracy": ensemble},
    }


@pytest.mark.parametrize(
    ("rows", "speaks"),
    [
        ([row("oracle", 99, 99), row("ties", 50, None), row("neulig", 10, 10)], "neulig"),
        ([row("neulig", None, None), row("ties", 50, None), row("simple-average", 1, 1)],
         "simple-average"),
        ([row("best-single", 9, 9), row("task-arithmetic", 2, None), row("ties", 50, None)],
         "task-arithmetic"),
        ([row("pretrained", 9, 9), row("oracle", 9, 9)], None),
        ([{"method": "neulig", "average": None}, row("best-single", None, 3)], "best-single"),
    ],
)  # fmt: skip
def test_who_speaks_for_a_stage(rows: list[dict[str, Any]], speaks: str | None) -> None:
    """Without it the best row could be picked on the images that it is judged by."""
    found = headline(rows)
    assert (found and found["method"]) == speaks


def test_the_joint_model_is_the_merged_one_where_there_is_one() -> None:
    """Without it a stage that merges would be judged by its ensemble."""
    assert quantity(row("neulig", 1.0, 2.0)) == "merge_accuracy"
    assert quantity(row("neulig", None, 2.0)) == "ensemble_accuracy"
    assert quantity({"method": "neulig", "average": None}) is None


def test_bytes_add_up_over_stages() -> None:
    """Without it a late stage would look cheap, because an earlier one paid for it."""
    report = example()
    lines = timeline.stage_lines(report)
    total: dict[str, int] = {}
    for stage, line in zip(report["stages"], lines, strict=True):
        for release in stage["releases"]:
            total[release["client"]] = total.get(release["client"], 0) + release["bytes"]
        assert line.bytes == (min(total.values()), max(total.values()))
    assert lines[1].released == "2.18-13.7 MB", "harbour refused its parameters"
    assert lines[1].refusals == 1


def test_kinds_of_one_stage_are_said_once_with_their_query_sets() -> None:
    """Without it a stage's records would take a line for each client and query set."""
    lines = timeline.stage_lines(example())
    assert lines[0].given == ("offset-sum", "features of pool and evaluation (sealed)")
    assert lines[1].given == ("parameters (sealed) by north, east, south",)
    one = noised()
    assert any("(gaussian) by north" in given for given in timeline.stage_lines(one)[0].given)
    assert [line.epsilon for line in timeline.stage_lines(one)] != ["-", "-"]


def test_what_a_stage_changed_is_said_with_its_interval() -> None:
    """Without it two stages would be set side by side without a word on chance."""
    report = example()
    said = timeline.answers(report)
    assert said[0] == "ensembling: NeuLig, ensemble 96.44 % after 2.18 MB from each client."
    assert said[1] == (
        "merging: NeuLig (sample), merged model 96.29 %; no difference is shown (-0.16 points "
        "[-0.67, 0.33]) from ensembling; 11.5 MB more from a client."
    )
    assert "group B's experts" in said[2]
    report["stage_comparisons"][0] |= {"ci95": [-0.9, -0.01]}
    assert "0.16 points less [-0.90, -0.01] than ensembling" in timeline.answers(report)[1]
    report["stage_comparisons"] = []
    assert "not comparable with ensembling query by query" in timeline.answers(report)[1]


def test_a_client_that_is_missing_is_named_beside_the_accuracy() -> None:
    """Without it an accuracy would fall because one client refused, and nothing would say so."""
    report = example()
    report["stages"][1]["results"][2]["experts"] = ["north", "east", "south"]
    line = timeline.stage_lines(report)[1]
    assert line.without == "harbour"
    assert "96.29 %, without harbour;" in timeline.answers(report)[1]


def test_what_falls_below_what_nobody_has_to_share_for_is_said() -> None:
    """Without it a merged model worse than the common checkpoint would pass for an answer."""
    report = example()
    assert timeline.below(report) == []
    pretrained = next(r for r in report["stages"][1]["results"] if r["method"] == "pretrained")
    pretrained["average"]["merge_accuracy"] = 97.5
    assert timeline.below(report) == [
        "In merging, NeuLig (sample), merged model 96.29 % lies below pretrained (97.50 %)."
    ]


def test_a_run_without_any_accuracy() -> None:
    """Without it a run that only released records would fail at its very end."""
    report = example()
    for stage in report["stages"]:
        stage["results"] = []
    assert timeline.answers(report) == ["No stage has an accuracy: see the reasons below."]


def test_a_gap_that_is_the_noises_too_is_said() -> None:
    """Without it a gap of 56 points would be read as the merge's, which the noise made."""
    report = example()
    assert timeline.unlike(report) == []
    for release in report["stages"][0]["releases"]:
        if release["queries"] == "evaluation":
            release |= {"protection": "gaussian", "epsilon": 8.0}
    (said,) = timeline.unlike(report)
    assert said.startswith("In merging, the gap is the noise's too")
    assert said in timeline.answers(report)
    for release in report["stages"][1]["releases"]:
        release |= {"protection": "gaussian", "epsilon": 8.0}
    for release in report["stages"][0]["releases"]:
        if release["queries"] is None:
            release |= {"protection": "gaussian", "epsilon": 8.0}
    assert timeline.unlike(report) == [], "both sides are noised"
