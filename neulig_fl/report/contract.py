"""report.json as a contract: built, checked against its models, read, written.

The models (`parts/`) say which keys there are, what type and range each value has, and which
figures must agree. They write the JSON Schema, which says of it what a schema can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import TaggedUnionSchema

from neulig_fl.core import regular_files, run_folders, strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.report import faults
from neulig_fl.report.parts.run import RunReport
from neulig_fl.report.parts.seeds import Summary
from neulig_fl.report.parts.study import StudyReport

SCHEMA_VERSION = 1
FILE_NAME = "report.json"


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


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json.

    summary.json is its `$defs/summary`, study.json its `$defs/study_report`.
    """
    _, written = models_json_schema(
        [(model, "validation") for model in (RunReport, Summary, StudyReport)],
        schema_generator=_Schema,
    )
    parts = written["$defs"]
    return {
        "$schema": _Schema.schema_dialect,
        "$id": f"urn:neulig-fl:report:{SCHEMA_VERSION}",
        **parts.pop("run_report"),
        "$defs": parts,
    }


class _Schema(GenerateJsonSchema):
    """Names in `$defs` are spelt as the report's keys are; a key is its own title."""

    def normalize_name(self, name: str) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", super().normalize_name(name)).lower()

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def tagged_union_schema(self, schema: TaggedUnionSchema) -> JsonSchemaValue:
        written = super().tagged_union_schema(schema)
        written.pop("discriminator", None)  # a keyword of OpenAPI, not of JSON Schema
        return written


def validate(report: Mapping[str, Any]) -> None:
    """Check a report against its models, which also hold it against itself.

    Raises:
        RunError: one line for each fault (the first 20), each with the place and the value.
    """
    faults.require(FILE_NAME, RunReport, report)


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
        report = strict_json.parsed(regular_files.read(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no report is there; {why_not(run)}") from error
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


def why_not(run: Path) -> str:
    """Why a folder has no report, and the next step."""
    seeds = sorted(folder.parent.name for folder in run.glob(f"seed-*/{FILE_NAME}"))
    if seeds:
        return (
            f"this run has several seeds: name one of {', '.join(seeds)}; from Python, "
            "Report.load_seeds gives all of them"
        )
    state = run_folders.state(run)
    if state is None:
        return "name the folder that `neulig-fl run` printed"
    words, reason = state
    return {
        "running": "the run goes on; wait for its end",
        "failed": f"the run failed: {reason}; mend the cause and run the scenario again",
        "interrupted": f"the run was interrupted; {run_folders.next_step(run)}",
    }[words]


def _plain(value: Any) -> Any:
    """The same value in the types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
