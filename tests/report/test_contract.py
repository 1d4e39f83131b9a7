"""Tests of the report's contract: nothing missing, nothing extra, no contradiction."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, validators
from pydantic import ValidationError
from report_example import GROUPED, example, noised

from neulig_fl.core.errors import InputError, RunError
from neulig_fl.report import contract
from neulig_fl.report.parts.run import RunReport
from neulig_fl.report.parts.values import CONTRADICTION

Place = tuple[str | int, ...]
STRICT = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
STRICTLY = validators.extend(Draft202012Validator, type_checker=STRICT)
"""As the models have it; JSON Schema alone calls 1.0 an integer."""


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
MISSING = (*WITH_MERGE, "results", 8)  # a result that there is not
NOISED = ("stages", 0, "releases", 4)
FREE = ("seconds", "trust", "options")  # whose keys are not ours to say
OBJECTS = [
    at
    for at in (
        *(at for at in places(noised()) if at[:2] != ("stages", 0)),
        *((*WITH_MERGE, *at) for at in places(noised()["stages"][1])),
        *((*MISSING, *at) for at in places(reach(noised(), MISSING))),
        GROUPING,
        NOISED,
    )
    if not {"options"} & {*at}
]
OPTIONAL = ("run", "trust")  # of a ledger: no client said hello
REQUIRED = [
    (*at, key)
    for at in OBJECTS
    for key in reach(noised(), at)
    if at[-1:] not in [(name,) for name in FREE] or key == "total"
    if at != ("ledger",) or key not in OPTIONAL
]


def test_a_difference_between_stages_is_that_of_their_rows() -> None:
    """Without it the sentence that a reader looks at first could contradict the tables."""
    report = example()
    report["stage_comparisons"][0]["difference"] += 0.1
    with pytest.raises(RunError, match="is not the difference of its rows"):
        contract.validate(report)
    report = example()
    report["stage_comparisons"][0]["versus"] = "nowhere"
    with pytest.raises(RunError, match="is not the difference of its rows, None"):
        contract.validate(report)


def test_schema_is_one() -> None:
    """Without it the published schema itself could be invalid and accept everything."""
    Draft202012Validator.check_schema(contract.schema())
    assert STRICTLY(contract.schema()).is_valid(example())
    assert STRICTLY(contract.schema()).is_valid(noised())


def test_example() -> None:
    """Without it a good report could be refused."""
    contract.validate(example())
    contract.validate(noised())


@pytest.mark.parametrize("at", REQUIRED, ids=lambda at: ".".join(map(str, at)))
def test_missing_key(at: Place) -> None:
    """Without it a reader of report.json could meet a key that is not there."""
    report = noised()
    del reach(report, at[:-1])[at[-1]]
    with pytest.raises(RunError, match=f"'{at[-1]}' is a required property"):
        contract.validate(report)


@pytest.mark.parametrize(
    "at",
    [at for at in OBJECTS if at[-1:] not in [(name,) for name in FREE]],
    ids=lambda at: ".".join(map(str, at)) or "top",
)
def test_extra_key(at: Place) -> None:
    """Without it a misspelt or private key could slip into report.json."""
    report = noised()
    reach(report, at)["extra"] = 1
    with pytest.raises(RunError, match="'extra' was unexpected"):
        contract.validate(report)


def leaves(data: Any, at: Place = ()) -> Iterator[Place]:
    """Where each value is, one of each kind; whatever an option holds is not ours to say."""
    if at:
        yield at
    if isinstance(data, dict) and at[-1:] != ("options",):
        for key, value in data.items():
            yield from leaves(value, (*at, key))
    elif isinstance(data, list) and data:
        yield from leaves(data[0], (*at, 0))


LEAVES = list(
    dict.fromkeys(
        (*start, *at)
        for start in ((), WITH_MERGE, GROUPING, MISSING, NOISED)
        for at in leaves(reach(noised(), start))
    )
)
NULLABLE = {
    *("reference.reason", "portland", "portland.trajectory.alignment", "ledger.head"),
    *("portland.trajectory.accuracy", "portland.trajectory.effective_experts"),
    *("reference.experts.n_train", "coopvec_maps.histograms"),
    *(f"privacy.{key}" for key in ("epsilon", "delta", "adjacency", "clients.epsilon")),
    *(f"privacy.clients.experts.{key}" for key in ("expert", "delta", "adjacency")),
    *("privacy.stages.epsilon", "privacy.stages.so_far"),
    *(f"stages.releases.{key}" for key in ("queries", "epsilon", "delta", "adjacency")),
    *(
        f"stages.{rows}.{key}"
        for rows in ("results", "comparisons")
        for key in ("granularity", "variant")
    ),
    *(f"stages.results.{key}" for key in ("reason", "seconds", "peak_rss_bytes", "bytes")),
    *("stages.results.grouping", "stages.results.settings", "stages.results.settings.extension"),
    *(
        f"stages.results.{of}.{key}_accuracy"
        for of in ("tasks", "average")
        for key in ("merge", "ensemble")
    ),
    *(f"stages.results.tasks.{key}" for key in ("gap", "gap_ci95", "agreement")),
    *(f"stages.results.tasks.{key}" for key in ("effective_experts", "interior", "reason")),
    *(f"stages.results.average.{key}" for key in ("gap_of_means", "gap_of_means_ci95")),
    *(f"stages.results.average.{key}" for key in ("mean_absolute_gap", "equivalence")),
}


def dotted(at: Place) -> str:
    """The keys of a place."""
    return ".".join(step for step in at if isinstance(step, str))


UNBOUNDED = {"seed", "alpha", "beta", "loss", "boosting", "alignment"}
AT_MOST_100 = ("accuracy", "gap", "gap_of_means", "ci95", "ci90", "difference", "interior")
ANY_TEXT = ("runs", "expert")  # in a ledger's own words


def wrong(at: Place) -> Iterator[Any]:
    """What can never stand where a value of `noised` stands."""
    value, key = reach(noised(), at), dotted(at).rpartition(".")[2]
    numbers = [True, math.nan, math.inf, -math.inf, str(value), [1.0], {}]
    match value:
        case bool():
            yield from (0, 1, "true", [], {})
        case int():
            yield from (*numbers, value + 0.5, float(value))
        case float():
            yield from numbers
        case str():
            yield from (-5, True, ["x"], {})  # an epsilon can be 5
            if key not in ANY_TEXT:
                yield ""
        case list():
            yield from ({}, "x", 1, [[None]], [True])
        case dict():
            yield from ([], "x", 1, [value])
        case None:
            yield from (True, [], {})
    if type(value) in (int, float):
        yield from () if key in UNBOUNDED else (-1e12,)
        yield from (1000.0,) if key.endswith(AT_MOST_100) else ()
    if value is not None and dotted(at) not in NULLABLE:
        yield None


@cache
def schema_of(key: str) -> Draft202012Validator:
    """The published schema of one part of a report."""
    schema = contract.schema()
    return STRICTLY({**schema["properties"][key], "$defs": schema["$defs"]})


def faults(report: dict[str, Any]) -> set[str]:
    """Types of what is wrong with a report; none where it is right."""
    try:
        RunReport.model_validate(report)
    except ValidationError as error:
        return {found["type"] for found in error.errors()}
    return set()


@pytest.mark.parametrize("at", LEAVES, ids=lambda at: ".".join(map(str, at)))
def test_a_wrong_value_is_refused_and_the_schema_says_the_same(at: Place) -> None:
    """Without it a value that no reader expects could be published, or the schema promise less."""
    report = noised()
    for value in wrong(at):
        reach(report, at[:-1])[at[-1]] = value
        found = faults(report)
        assert found, value
        if found - {CONTRADICTION, "finite_number"}:  # of these no schema speaks
            assert not schema_of(at[0]).is_valid(report[at[0]]), value


@pytest.mark.parametrize(
    "at",
    [at for at in LEAVES if dotted(at) in NULLABLE and isinstance(at[-1], str)],
    ids=lambda at: ".".join(map(str, at)),
)
def test_a_figure_that_cannot_be_had_is_null(at: Place) -> None:
    """Without it a run could not end because one of its figures does not exist."""
    report = noised()
    reach(report, at[:-1])[at[-1]] = None
    of_missing = at == (*MISSING, "reason")  # where there is no result, its reason is needed
    assert faults(report) - {CONTRADICTION} == ({"string_type"} if of_missing else set())


def test_whole_numbers() -> None:
    """Without it a count could be written as 5.0 in one report and as 5 in another."""
    report = noised()
    report["peak_rss_bytes"] = 5.0
    with pytest.raises(RunError, match=r"peak_rss_bytes: 5\.0 is not of type 'integer'"):
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
    (
        lambda r: r["coopvec_maps"][0]["histograms"]["counts"][0].pop(),
        r"counts: not 4 tasks x 4 experts x 5 bins",
    ),
    (lambda r: r.update(schema_version=True), "schema_version: 1 was expected, not True"),
    (
        lambda r: r["stages"][0].update(audits=[{"a": [math.nan]}]),
        r"audits\[0\]\.a\[0\]: nan is not",
    ),
    (
        lambda r: _result(r, 0, average=reach(r, (*WITH_MERGE, "results", 1, "average"))),
        r"average\.ensemble_accuracy: 8",
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
    os.mkfifo(path)  # attack: whoever reads it waits for ever
    with pytest.raises(InputError, match=r"report\.json: is a pipe or a device"):
        contract.read(tmp_path)
    path.unlink()
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
