"""Tests of the report's contract: nothing missing, nothing extra, no contradiction."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from report_example import GROUPED, example

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.report import contract

Place = tuple[str | int, ...]


def places(data: Any, at: Place = ()) -> Iterator[Place]:
    """Where each object of a report is, one of each kind (the first of a list)."""
    if isinstance(data, dict):
        yield at
        for key, value in data.items():
            yield from places(value, (*at, key))
    elif isinstance(data, list) and data:
        yield from places(data[0], (*at, 0))


def reach(data: Any, at: Place) -> Any:
    """What is at a place."""
    for step in at:
        data = data[step]
    return data


WITH_MERGE = ("stages", 1)  # the first stage has nulls where this one has figures
GROUPING = (*WITH_MERGE, "results", GROUPED, "grouping")  # the first result has none
OBJECTS = (
    [GROUPING]
    + [at for at in places(example()) if at[:2] != ("stages", 0)]
    + [(*WITH_MERGE, *at) for at in places(example()["stages"][1])]
)
REQUIRED = [
    (*at, key)
    for at in OBJECTS
    for key in reach(example(), at)
    if at != ("seconds",) or key == "total"
]


def test_schema_is_one() -> None:
    """Without it the published schema itself could be invalid and accept everything."""
    Draft202012Validator.check_schema(contract.schema())


def test_example() -> None:
    """Without it a good report could be refused."""
    contract.validate(example())


@pytest.mark.parametrize("at", REQUIRED, ids=lambda at: ".".join(map(str, at)))
def test_missing_key(at: Place) -> None:
    """Without it a reader of report.json could meet a key that is not there."""
    report = example()
    del reach(report, at[:-1])[at[-1]]
    with pytest.raises(RunError, match=f"'{at[-1]}' is a required property"):
        contract.validate(report)


@pytest.mark.parametrize(
    "at",
    [at for at in OBJECTS if at != ("seconds",)],
    ids=lambda at: ".".join(map(str, at)) or "top",
)
def test_extra_key(at: Place) -> None:
    """Without it a misspelt or private key could slip into report.json."""
    report = example()
    reach(report, at)["extra"] = 1
    with pytest.raises(RunError, match="'extra' was unexpected"):
        contract.validate(report)


def _task(report: dict[str, Any], **changes: Any) -> None:
    report["stages"][1]["results"][0]["tasks"][0].update(changes)


def _average(report: dict[str, Any], **changes: Any) -> None:
    report["stages"][1]["results"][0]["average"].update(changes)


def _result(report: dict[str, Any], at: int, **changes: Any) -> None:
    report["stages"][1]["results"][at].update(changes)


BROKEN: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (lambda r: r.update(schema_version=2), "schema_version: 1 was expected"),
    (lambda r: r["scenario"].update(hash="abc"), r"scenario\.hash: 'abc' does not match"),
    (lambda r: r["seconds"].update(prepare=-1), r"seconds\.prepare: -1 is less than"),
    (lambda r: r["seconds"].update(total=math.nan), r"seconds\.total: nan is not a finite number"),
    (lambda r: _task(r, merge_accuracy=960.0), r"tasks\[0\]\.merge_accuracy: 960\.0 is greater"),
    (lambda r: _task(r, agreement=99.0), r"agreement: 99\.0 is greater than the maximum of 1"),
    (lambda r: _task(r, n=True), r"n: True is not of type 'integer'"),
    (lambda r: _task(r, gap=0.5), r"tasks\[0\]\.gap: 0\.5 is not merge minus ensemble"),
    (lambda r: _task(r, gap_ci95=[1.0, -1.0]), r"gap_ci95: \[1\.0, -1\.0\] has its ends swapped"),
    (lambda r: _task(r, gap_ci95=[0.0]), r"gap_ci95: \[0\.0\] is too short"),
    (lambda r: _task(r, merge_accuracy=None, gap=None), r"reason: None is not of type 'string'"),
    (lambda r: _task(r, gap=None), r"gap: None is not merge minus ensemble"),
    (
        lambda r: _average(r, ensemble_accuracy=1.0),
        r"ensemble_accuracy: 1\.0 is not the tasks' mean",
    ),
    (lambda r: _average(r, merge_accuracy=None), r"merge_accuracy: None is not the tasks' mean"),
    (lambda r: _result(r, 0, status="fine"), r"status: 'fine' is not one of \['ok'"),
    (lambda r: _result(r, 0, average=None), r"average: None is not of type 'object'"),
    (lambda r: _result(r, 0, tasks=[]), r"tasks: \[\] should be non-empty"),
    (lambda r: _result(r, 7, reason=None), r"results\[7\]\.reason: None is not of type 'string'"),
    (lambda r: _result(r, 7, grouping=reach(r, GROUPING)), r"grouping: \{.*not of type 'null'"),
    (lambda r: reach(r, GROUPING).update(tolerance=0), r"grouping\.tolerance: 0 is less than"),
    (lambda r: reach(r, GROUPING).update(tolerance=1), r"grouping\.tolerance: 1 is greater than"),
    (lambda r: reach(r, GROUPING).update(networks=3000), "networks: 3000 is more than queries"),
    (lambda r: reach(r, GROUPING).update(checked=3000), "checked: 3000 is more than queries, 2650"),
    (
        lambda r: reach(r, GROUPING).update(changed_predictions=33),
        "changed_predictions: 33 is more than checked, 32",
    ),
    (lambda r: r["stages"][0].update(name="merging"), "'merging' stands there 2 times"),
    (lambda r: r["stages"][0]["releases"][0].update(epsilon="none"), "'none' does not match"),
    (lambda r: r["coopvec_maps"][0].update(tasks=["digits"]), r"values: not 1 tasks x 4 experts"),
    (lambda r: r["coopvec_maps"][0]["values"][1].__setitem__(1, 0.1), "a row does not sum to 1"),
    (lambda r: r["coopvec_maps"][0]["raw_sums"].pop(), "3 values for 4 tasks"),
    (lambda r: r["coopvec_maps"][0]["histograms"].update(bins=9), "4 experts x 9 bins"),
]


@pytest.mark.parametrize(("spoil", "told"), BROKEN, ids=[told for _, told in BROKEN])
def test_broken(spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    """Without it a figure that is impossible, or contradicts another, could be published."""
    report = example()
    spoil(report)
    with pytest.raises(RunError, match=told):
        contract.validate(report)


def test_all_faults_at_once() -> None:
    """Without it a developer would mend one fault a run, or be buried by hundreds."""
    report = example()
    for stage in report["stages"]:
        for release in stage["releases"]:
            release["rows"] = -1
    with pytest.raises(RunError) as caught:
        contract.validate(report)
    assert "stages[0].releases[0].rows: -1 is less than the minimum of 0" in str(caught.value)
    assert str(caught.value).count("\n") == 21
    assert "and 3 more" in str(caught.value)


def test_build_plain() -> None:
    """Without it NumPy values and tuples, which JSON has not, would fail at the end of a run."""
    parts = example()
    del parts["schema_version"]
    parts["coopvec_maps"][0]["values"] = np.array(parts["coopvec_maps"][0]["values"])
    parts["peak_rss_bytes"] = np.int64(5)
    parts["notes"] = ("one",)
    report = contract.build(**parts)
    assert json.loads(contract.to_json(report)) == report
    assert report["peak_rss_bytes"] == 5
    assert report["schema_version"] == 1


def test_validate_changes_nothing() -> None:
    """Without it a check could alter what is written."""
    report = example()
    before = copy.deepcopy(report)
    contract.validate(report)
    assert report == before


def test_write_and_read(tmp_path: Path) -> None:
    """Without it a figure could change between a run and its report."""
    path = contract.write(example(), tmp_path / "run")
    assert contract.read(tmp_path / "run") == (example(), path)
    assert contract.read(path) == (example(), path)


def test_write_nothing_broken(tmp_path: Path) -> None:
    """Without it a report that is not valid could be left on disk."""
    report = example()
    report["engine"] = ""
    with pytest.raises(RunError, match="engine: '' should be non-empty"):
        contract.write(report, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_read_errors(tmp_path: Path) -> None:
    """Without it `neulig-fl report` would end in a traceback on a folder that is no run."""
    with pytest.raises(InputError, match=r"report\.json: no report is there; name the folder"):
        contract.read(tmp_path)
    contract.write(example(), tmp_path / "seed-7")
    with pytest.raises(InputError, match="several seeds: name one of seed-7"):
        contract.read(tmp_path)
    path = tmp_path / "report.json"
    path.write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        contract.read(tmp_path)
    path.write_text(json.dumps(example() | {"schema_version": 2}))
    with pytest.raises(InputError, match="schema_version is 2; allowed: 1"):
        contract.read(tmp_path)
    path.write_text("[]")
    with pytest.raises(InputError, match="schema_version is None; allowed: 1"):
        contract.read(tmp_path)
    path.write_text(json.dumps(example() | {"engine": 3}))
    with pytest.raises(InputError, match="engine: 3 is not of type 'string'"):
        contract.read(tmp_path)
