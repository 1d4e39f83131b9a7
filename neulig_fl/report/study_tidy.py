"""All runs of a study as one table: runs.csv, and runs.parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, replace_atomically, write_atomically
from neulig_fl.report import contract, tidy

if TYPE_CHECKING:
    from pandas import DataFrame

CSV, PARQUET = "runs.csv", "runs.parquet"
CASE = "case"

NO_PARQUET = "runs.parquet was not written: `pip install pyarrow`, then give the same command again"
"""What is said where pyarrow is not installed."""


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def columns(study: Mapping[str, Any]) -> tuple[str, ...]:
    """The case, the grid's keys, and the columns of a run's table."""
    return (CASE, *study["vary"], *tidy.COLUMNS)


def records(study: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of every finished run, by column.

    Args:
        study: the content of study.json.
        folder: of the study.

    Raises:
        InputError: a run's report is gone.
    """
    varied = {case["name"]: _cells(case["varied"]) for case in study["cases"]}
    for run in (each for each in study["runs"] if each["state"] == "done"):
        report, _ = contract.read(folder / run["folder"])
        for row in tidy.records(report):
            yield {CASE: run["case"], **varied[run["case"]], **row}


def _cells(varied: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the grid; lists and mappings as JSON."""
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for key, value in varied.items()
    }


def write(study: Mapping[str, Any], folder: Path) -> None:
    """Write runs.csv, and runs.parquet where pyarrow is installed.

    Raises:
        InputError: a run's report is gone.
        RunError: the disk refuses.
    """
    rows = list(records(study, folder))
    heads = columns(study)
    write_atomically(folder / CSV, csv_text(heads, rows), PRIVATE)
    if has_parquet():
        replace_atomically(
            folder / PARQUET, lambda path: _write_parquet(path, heads, rows), PRIVATE
        )
    else:
        (folder / PARQUET).unlink(missing_ok=True)  # an earlier one would not fit


def csv_text(heads: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV, as `tidy.csv_text` writes them."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(tidy.cell, heads))
    writer.writerows([tidy.cell(row[head]) for head in heads] for row in rows)
    return stream.getvalue()


def _write_parquet(path: Path, heads: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({head: pyarrow.array(_alike([r[head] for r in rows])) for head in heads})
    parquet.write_table(table, path)


def _alike(values: Sequence[Any]) -> Sequence[Any]:
    """A column has one type: whole numbers beside others are numbers, and else all is text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 or kinds == {int, float}:
        return [float(v) if kinds == {int, float} and v is not None else v for v in values]
    return [None if value is None else str(value) for value in values]


def frame(study: Mapping[str, Any], folder: Path) -> DataFrame:
    """The rows as a pandas DataFrame.

    Raises:
        InputError: pandas is not installed, or a run's report is gone.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise InputError(
            "a frame needs pandas: `pip install pandas`; runs.csv has the same rows"
        ) from error
    return DataFrame(list(records(study, folder)), columns=list(columns(study)))
