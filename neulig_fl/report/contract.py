"""report.json as a contract: built, checked against its schema and against itself, read, written.

The JSON Schema says which keys there are and what type and range each value has. `validate` also
checks what a schema cannot say: that no number is NaN, and that figures which depend on one another
agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator

from neulig_fl.core import strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.files import PRIVATE, write_atomically

SCHEMA_VERSION = 1
FILE_NAME = "report.json"
_SHOWN = 20  # most faults named in one error
_TOLERANCE = 1e-6  # percentage points between a printed difference and the difference itself


def build(**parts: Any) -> dict[str, Any]:
    """A report from its parts, as plain JSON values, validated.

    Args:
        **parts: every top-level key but `schema_version`; NumPy scalars and arrays, tuples and
            paths become JSON values.

    Returns:
        The report.

    Raises:
        RunError: what `validate` raises.
    """
    report: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **_plain(parts)}
    validate(report)
    return report


@cache
def _schema_text() -> str:
    return (resources.files(__package__) / "report.schema.json").read_text(encoding="utf-8")


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json; summary.json is its `$defs/summary`."""
    loaded: dict[str, Any] = json.loads(_schema_text())
    return loaded


def validate(report: Mapping[str, Any]) -> None:
    """Check a report against the schema and against itself.

    Raises:
        RunError: one line for each fault (the first 20), each with the place and the value.
    """
    faults = schema_faults(report, schema())
    if not faults:  # only a report of the right shape can be checked for contradictions
        faults = list(_contradictions(report))
    if faults:
        raise RunError(_told(FILE_NAME, faults))


def schema_faults(data: Any, against: Mapping[str, Any]) -> list[str]:
    """What in `data` does not fit a JSON Schema: `place: what is wrong`, sorted by place."""
    found = sorted(
        Draft202012Validator(against).iter_errors(data), key=lambda error: error.json_path
    )
    return [
        *_not_finite(data, ""),
        *(f"{e.json_path[2:] or 'top'}: {_cut(e.message)}" for e in found),
    ]


def raise_faults(name: str, faults: Sequence[str]) -> None:
    """Raise RunError for the faults of a file called `name`, if there are any."""
    if faults:
        raise RunError(_told(name, faults))


def to_json(report: Mapping[str, Any]) -> str:
    """The text of report.json. A number that is not finite raises ValueError: JSON has none."""
    return json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write(report: Mapping[str, Any], folder: Path) -> Path:
    """Validate, then write `folder`/report.json atomically.

    Raises:
        RunError: the report is not valid (nothing is written), or the disk refuses.
    """
    validate(report)
    return write_atomically(folder / FILE_NAME, to_json(report), PRIVATE)


def read(run: Path) -> tuple[dict[str, Any], Path]:
    """The validated report of a run.

    Args:
        run: a run's folder, or its report.json.

    Returns:
        The report, and the path of its file.

    Raises:
        InputError: no report is there, or it cannot be read, or it has another schema version.
    """
    path = run / FILE_NAME if run.is_dir() else run
    try:
        report = strict_json.parsed(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no report is there; {_where_else(run)}") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable as JSON ({error}); run the scenario again"
        ) from error
    found = report.get("schema_version") if isinstance(report, dict) else None
    if found != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version is {found!r}; allowed: {SCHEMA_VERSION}; "
            "read it with the neulig-fl that wrote it (see its versions.neulig_fl)"
        )
    try:
        validate(report)
    except RunError as error:
        raise InputError(f"{path.parent}: {error}") from error
    return report, path


def _where_else(run: Path) -> str:
    seeds = sorted(folder.parent.name for folder in run.glob(f"seed-*/{FILE_NAME}"))
    if seeds:
        return f"this run has several seeds: name one of {', '.join(seeds)}"
    return "name the folder that `neulig-fl run` printed"


def _contradictions(report: Mapping[str, Any]) -> Iterator[str]:
    """Figures that do not agree with one another."""
    names = [stage["name"] for stage in report["stages"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"stages: {name!r} stands there {names.count(name)} times; a stage's name is unique"
    for at, stage in enumerate(report["stages"]):
        for place, result in enumerate(stage["results"]):
            yield from _result_faults(result, f"stages[{at}].results[{place}]")
        for place, comparison in enumerate(stage["comparisons"]):
            yield from _order(comparison["ci95"], f"stages[{at}].comparisons[{place}].ci95")
    for at, coopvec_map in enumerate(report["coopvec_maps"]):
        yield from _map_faults(coopvec_map, f"coopvec_maps[{at}]")


def _result_faults(result: Mapping[str, Any], place: str) -> Iterator[str]:
    if result["status"] != "ok":
        return
    yield from _grouping_faults(result["grouping"], f"{place}.grouping")
    for at, task in enumerate(result["tasks"]):
        yield from _gap_faults(task, "gap", f"{place}.tasks[{at}]")
    average = result["average"]
    yield from _gap_faults(average, "gap_of_means", f"{place}.average")
    for key in ("merge_accuracy", "ensemble_accuracy"):
        values = [task[key] for task in result["tasks"]]
        mean = None if None in values else math.fsum(values) / len(values)
        if not _same(average[key], mean):
            yield f"{place}.average.{key}: {average[key]} is not the tasks' mean, {mean}"
    if average["equivalence"] is not None:
        yield from _order(average["equivalence"]["ci90"], f"{place}.average.equivalence.ci90")


def _grouping_faults(grouping: Mapping[str, Any] | None, place: str) -> Iterator[str]:
    for key, whole in (
        ("networks", "queries"), ("checked", "queries"), ("changed_predictions", "checked"),
    ):  # fmt: skip
        if grouping is not None and grouping[key] > grouping[whole]:
            yield f"{place}.{key}: {grouping[key]} is more than {whole}, {grouping[whole]}"


def _gap_faults(figures: Mapping[str, Any], key: str, place: str) -> Iterator[str]:
    merge, ensemble = figures["merge_accuracy"], figures["ensemble_accuracy"]
    expected = None if merge is None or ensemble is None else merge - ensemble
    if not _same(figures[key], expected):
        yield f"{place}.{key}: {figures[key]} is not merge minus ensemble accuracy, {expected}"
    if figures[f"{key}_ci95"] is not None:
        yield from _order(figures[f"{key}_ci95"], f"{place}.{key}_ci95")


def _map_faults(coopvec_map: Mapping[str, Any], place: str) -> Iterator[str]:
    shape = (len(coopvec_map["tasks"]), len(coopvec_map["experts"]))
    values, histograms = coopvec_map["values"], coopvec_map["histograms"]
    if len(values) != shape[0] or any(len(row) != shape[1] for row in values):
        yield f"{place}.values: not {shape[0]} tasks x {shape[1]} experts"
    elif any(abs(math.fsum(row) - 1.0) > 1e-3 for row in values):
        yield f"{place}.values: a row does not sum to 1"
    if len(coopvec_map["raw_sums"]) != shape[0]:
        yield f"{place}.raw_sums: {len(coopvec_map['raw_sums'])} values for {shape[0]} tasks"
    if histograms is not None:
        counts, bins = histograms["counts"], histograms["bins"]
        whole = len(counts) == shape[0] and all(len(row) == shape[1] for row in counts)
        if not whole or any(len(entry) != bins for row in counts for entry in row):
            expected = f"{shape[0]} tasks x {shape[1]} experts x {bins} bins"
            yield f"{place}.histograms.counts: not {expected}"


def _same(value: float | None, expected: float | None) -> bool:
    if value is None or expected is None:
        return value is expected
    return abs(value - expected) <= _TOLERANCE


def _order(interval: Sequence[float], place: str) -> Iterator[str]:
    if interval[0] > interval[1]:
        yield f"{place}: [{interval[0]}, {interval[1]}] has its ends swapped"


def _not_finite(data: Any, place: str) -> Iterator[str]:
    if isinstance(data, float) and not math.isfinite(data):
        yield f"{place}: {data} is not a finite number; a figure that cannot be had is null"
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _not_finite(value, f"{place}.{key}" if place else str(key))
    elif isinstance(data, list | tuple):
        for at, value in enumerate(data):
            yield from _not_finite(value, f"{place}[{at}]")


def _plain(value: Any) -> Any:
    """The same value in the types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _told(name: str, faults: Sequence[str]) -> str:
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    lines = "\n".join(f"  {fault}" for fault in [*faults[:_SHOWN], *more])
    return f"{name} is not what its contract says:\n{lines}"


def _cut(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:120]} ... {message[-75:]}"
