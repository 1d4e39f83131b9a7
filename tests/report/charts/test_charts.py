"""Figures: every one is valid Vega-Lite, of the report's own numbers, and says how to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import study_example
import vl_convert
from hypothesis import given
from hypothesis import strategies as st
from report_example import example, noised

from neulig_fl.core.errors import InputError
from neulig_fl.records import kinds
from neulig_fl.report import Report, charts, coopvec_maps, revealed, study_report
from neulig_fl.report.charts import _points, _theme, tasks


@pytest.mark.parametrize("name", charts.names())
def test_every_figure_is_drawn(name: str) -> None:
    """Without it a figure of the page could be no figure."""
    report = example()
    report["coopvec_maps"] = [{**report["coopvec_maps"][0], "epoch": epoch} for epoch in (1, 2)]
    found = charts.figure(report, name)
    spec = found.chart.to_dict()
    assert spec["datasets"]["rows"] == [dict(row) for row in found.rows]
    assert found.title
    assert found.caption.endswith(".")
    for config in (_theme.light(), _theme.dark()):
        svg = vl_convert.vegalite_to_svg(json.dumps(spec), config=config)
        assert svg.startswith("<svg")
        assert "NaN" not in svg


@pytest.mark.parametrize("name", charts.names())
def test_a_report_without_numbers_has_no_figure(name: str) -> None:
    """Without it an empty frame is drawn, or the page fails."""
    report = example()
    for stage in report["stages"]:
        stage["results"] = []
    report["stage_comparisons"], report["coopvec_maps"], report["portland"] = [], [], None
    with pytest.raises(InputError, match=f"nothing for figure '{name}'"):
        charts.figure(report, name)


@pytest.mark.parametrize("name", charts.names(charts.OF_STUDIES))
def test_every_figure_of_a_study_is_drawn(name: str) -> None:
    """Without it a figure of a study's page could be no figure."""
    study = study_example.example()
    study_report.validate(study)
    found = charts.figure(study, name, charts.OF_STUDIES)
    for seeds in (3, 1):
        if seeds == 1:
            study = _of_one_seed(study)
            found = charts.figure(study, name, charts.OF_STUDIES)
        svg = vl_convert.vegalite_to_svg(json.dumps(found.chart.to_dict()))
        assert "NaN" not in svg
        assert found.rows
    study |= {"stages": [], "comparisons": []}
    with pytest.raises(InputError, match=f"nothing for figure '{name}'"):
        charts.figure(study, name, charts.OF_STUDIES)


def _of_one_seed(value: Any) -> Any:
    """Without spreads, as a study of one seed has them."""
    if isinstance(value, list):
        return [_of_one_seed(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"mean", "sd", "ci95", "values"}:
        first = value["values"][0]
        return {"mean": first, "sd": None, "ci95": None, "values": [first]}
    seeds = {"seeds": value["seeds"][:1]} if "seeds" in value else {}
    return {key: _of_one_seed(each) for key, each in value.items()} | seeds


def test_points_of_a_study_are_its_last_stages() -> None:
    """Without it a figure shows other accuracies than the answer."""
    study = study_example.example()
    rows = charts.figure(study, "accuracy-against-bytes", charts.OF_STUDIES).rows
    wanted = [s["headline"]["accuracy"]["mean"] for s in study["stages"]]
    assert [row["accuracy"] for row in rows] == wanted
    assert [row["revealed"] for row in rows] == ["outputs", "model", "model"]


def test_a_figure_by_a_wrong_name() -> None:
    """Without it a typo ends in a traceback."""
    with pytest.raises(InputError, match=r"no figure is called 'gap'; .*did you mean gaps"):
        Report(example()).figure("gap")


def test_points_are_the_rows_of_the_report() -> None:
    """Without it a figure shows other accuracies than the tables."""
    report = example()
    found = _points.points(report)
    for point in found:
        stage = next(s for s in report["stages"] if s["name"] == point["stage"])
        averages = [r["average"] for r in stage["results"] if r["average"]]
        key = f"{point['side']}_accuracy"
        assert point["accuracy"] in [average[key] for average in averages]
    assert [p["stage"] for p in found if p["speaks"]] == [s["name"] for s in report["stages"]]
    assert not {"oracle", "pretrained"} & {point["method"] for point in found}


costs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=30)


@given(costs)
def test_the_front_is_what_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    """Without it a point beneath the front could be called best, or one on it left out."""
    found = [{"bytes": cost, "accuracy": float(accuracy)} for cost, accuracy in pairs]
    front = _points.front(found, "bytes")
    slow = {
        (p["bytes"], p["accuracy"])
        for p in found
        if not any(
            (q["bytes"] <= p["bytes"] and q["accuracy"] > p["accuracy"])
            or (q["bytes"] < p["bytes"] and q["accuracy"] >= p["accuracy"])
            for q in found
        )
    }
    assert [(p["bytes"], p["accuracy"]) for p in front] == sorted(slow)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (93, 100), (1, 1000)])
def test_wilsons_interval(right: int, n: int) -> None:
    """Without it a bar's interval could be another than it is called."""
    from scipy.stats import binomtest

    low, high = tasks.accuracy_interval(100.0 * right / n, n)
    wanted = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((100 * wanted.low, 100 * wanted.high), abs=1e-9)


def test_every_kind_of_record_has_a_level() -> None:
    """Without it a record counts as revealing a whole model that does not."""
    assert set(revealed._OF_KIND) == set(kinds.names())
    assert set(revealed._OF_KIND.values()) | set(revealed._NOISED.values()) <= set(revealed.LEVELS)
    assert revealed.level({"kind": "new", "protection": "none", "epsilon": None}) == "model"


def test_noise_and_sums_lower_the_level() -> None:
    """Without it a protection changes nothing in the figure."""
    noised_model = {"kind": "parameters", "protection": "gaussian", "epsilon": 8.0}
    assert revealed.level(noised_model) == "noised model"
    assert (
        revealed.most([noised_model, {**noised_model, "protection": "none", "epsilon": None}])
        == "model"
    )
    assert revealed.most([]) == "nothing"


def test_the_maps_diagonal_needs_the_experts_tasks() -> None:
    """Without it a run without reference has a diagonal of other experts."""
    report = example()
    report["coopvec_maps"] = [{**report["coopvec_maps"][0], "epoch": epoch} for epoch in (1, 2)]
    found = charts.figure(report, "coopvec-diagonal").rows
    values = report["coopvec_maps"][0]["values"]
    assert [row["value"] for row in found[:4]] == [values[at][at] for at in range(4)]
    report["reference"] = {"experts": [], "reason": "left out"}
    with pytest.raises(InputError, match="nothing for figure"):
        charts.figure(report, "coopvec-diagonal")
    assert coopvec_maps.own_entries(report["coopvec_maps"][0], {}) == [None] * 4


def test_figures_are_written(tmp_path: Path) -> None:
    """Without it a paper has no figures."""
    report = noised()
    paths = Report(report).write_figures(tmp_path / "figures")
    names = [figure.name for figure in charts.figures(report)]
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in names for kind in ("pdf", "svg", "png", "csv")
    ]
    starts = {".pdf": b"%PDF", ".svg": b"<svg", ".png": b"\x89PNG"}
    for path in paths:
        assert path.read_bytes().startswith(starts.get(path.suffix, b""))
        assert path.stat().st_size > 20
