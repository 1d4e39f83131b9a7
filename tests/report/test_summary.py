"""Tests of the summary over seeds."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from report_example import example, refused
from rich.cells import cell_len
from rich.console import Console

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.metrics.intervals import spread
from neulig_fl.report import contract, summary
from neulig_fl.study import over_seeds


def three() -> list[dict[str, Any]]:
    """Three seeds whose NeuLig gap differs."""
    reports = [example(seed) for seed in (7, 8, 9)]
    for at, report in enumerate(reports):
        for result in report["stages"][1]["results"]:
            if result["method"] == "neulig" and result["average"]:
                result["average"]["merge_accuracy"] -= 0.5 * at
                result["average"]["gap_of_means"] -= 0.5 * at
    return reports


def neulig(built: dict[str, Any], stage: int = 1) -> dict[str, Any]:
    """NeuLig's first result."""
    results = built["stages"][stage]["results"]
    return next(found for found in results if found["method"] == "neulig")


def test_spread_over_seeds() -> None:
    """Without it the spread could be over tasks or queries instead of seeds."""
    reports = three()
    values = [report["stages"][1]["results"][2]["average"]["gap_of_means"] for report in reports]
    found = neulig(over_seeds.build(reports))["gap_of_means"]
    assert found["values"] == values
    assert found["mean"] == pytest.approx(values[1])
    assert found["sd"] == pytest.approx(0.5)
    assert tuple(found["ci95"]) == spread(values)["ci95"]


def test_null_in_one_seed() -> None:
    """Without it a method that failed on one seed would be averaged over the lucky ones."""
    reports = three()
    reports[1]["stages"][1]["results"][2] = refused("neulig", "failed", "why", "sample")
    found = neulig(over_seeds.build(reports))["merge_accuracy"]
    assert found["mean"] is None
    assert found["values"][1] is None
    assert found["values"][0] is not None


def test_one_seed() -> None:
    """Without it one seed would have a spread of 0."""
    found = neulig(over_seeds.build([example()]))["ensemble_accuracy"]
    assert found["sd"] is None
    assert found["ci95"] is None


def test_wrong_reports() -> None:
    """Without it seeds of different scenarios, or the same seed twice, would be averaged."""
    with pytest.raises(InputError, match="at least one seed"):
        over_seeds.build([])
    with pytest.raises(InputError, match=r"seeds \[7, 7\] are not all different"):
        over_seeds.build([example(), example()])
    other = example(8)
    other["scenario"]["hash"] = "ef" * 32
    with pytest.raises(InputError, match="seed 7: abababababab, seed 8: efefefefefef"):
        over_seeds.build([example(), other])


def test_write(tmp_path: Path) -> None:
    """Without it summary.json could differ from what was built."""
    path = over_seeds.write(three(), tmp_path)
    assert path.name == "summary.json"
    assert json.loads(path.read_text()) == over_seeds.build(three())


@pytest.mark.parametrize("key", ["schema_version", "scenario", "seeds", "stages"])
def test_contract(key: str) -> None:
    """Without it a summary without a key, or with one more, would pass."""
    built = over_seeds.build(three())
    with pytest.raises(RunError, match="'extra' was unexpected"):
        summary.validate(built | {"extra": 1})
    del built[key]
    with pytest.raises(RunError, match=f"summary.json is not.*\n.*'{key}' is a required property"):
        summary.validate(built)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": [7, 7, 9]}, r"seeds: \[7, 7, 9\] has non-unique elements"),
        ({"seeds": []}, r"seeds: \[\] should be non-empty"),
        ({"seeds": [7, True, 9]}, r"seeds\[1\]: True is not of type 'integer'"),
        ({"schema_version": 2}, "schema_version: 1 was expected, not 2"),
    ],
)
def test_the_schema_says_the_same(change: dict[str, Any], told: str) -> None:
    """Without it a program that checks summaries by the published schema would take wrong ones."""
    schema = contract.schema()
    check = Draft202012Validator({"$ref": "#/$defs/summary", "$defs": schema["$defs"]})
    built = over_seeds.build(three())
    assert check.is_valid(built)
    assert not check.is_valid(built | change)
    with pytest.raises(RunError, match=told):
        summary.validate(built | change)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_show(width: int) -> None:
    """Without it the summary would not fit the terminal, or print a missing mean as 0."""
    stream = StringIO()
    summary.show(over_seeds.build(three()), Console(file=stream, width=width))
    text = stream.getvalue()
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "over seeds 7, 8, 9" in text
    assert "[-1.90, 0.58]" in text
    assert "+- 0.50" in text
    row = next(line for line in text.splitlines() if line.startswith("regmean"))
    assert set(row.split()[1:]) == {"-"}
