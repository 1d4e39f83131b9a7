"""What the page needs of a scenario's reports, as one JSON file that is kept with the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import write_atomically

VERSION = 1
OF_RESULT = (
    "method", "granularity", "variant", "status", "reason", "seconds", "bytes", "tasks", "average",
    "settings",
)  # fmt: skip
"""What is kept of a result, as it stands in the report."""

OF_EXPERT = ("client", "task", "group", "accuracy")
Data = dict[str, Any]

WIDTH = 400
"""Of the data file, so that a task's figures stand on a line."""


@dataclass(frozen=True)
class Entry:
    """A scenario whose runs are kept as data.

    Args:
        path: its file.
        tables: the keys of the paper's tables that it is set beside.
        section: whether it has a section on the page; without one, other pages quote its figures.
    """

    path: Path
    tables: tuple[str, ...] = ()
    section: bool = True

    @property
    def name(self) -> str:
        """What the command line and the data file call it."""
        return self.path.stem


def build(said: Mapping[str, Any], read: Scenario, reports: Sequence[Mapping[str, Any]]) -> Data:
    """The data of one scenario.

    Args:
        said: the scenario as its file has it, by which a changed one is known.
        read: the same, with what is not said.
        reports: one a seed.
    """
    first = reports[0]
    return {
        "schema_version": VERSION,
        "name": read.name,
        "hash": read.hash,
        "said": dict(said),
        "model": read.model.name,
        "origin": read.experts.origin,
        "queries": {"pool": read.queries.pool, "evaluation": read.queries.evaluation},
        "objective": first["portland"]["objective"] if first["portland"] else None,
        "clients": [{"name": client.name, "task": client.task} for client in read.clients],
        "engine": " and ".join(dict.fromkeys(report["engine"] for report in reports)),
        "versions": first["versions"],
        "seeds": [_seed(report) for report in reports],
    }


def _seed(report: Mapping[str, Any]) -> Data:
    return {
        "seed": report["scenario"]["seed"],
        "seconds": report["seconds"]["total"],
        "portland_seconds": report["portland"]["seconds"] if report["portland"] else None,
        "notes": report["notes"],
        "experts": [{k: each[k] for k in OF_EXPERT} for each in report["reference"]["experts"]],
        "stages": [
            {
                "name": stage["name"],
                "group": stage["group"],
                "results": [{k: result[k] for k in OF_RESULT} for result in stage["results"]],
            }
            for stage in report["stages"]
        ],
    }


def write(data: Data, file: Path) -> Path:
    """Write a data file, whole or not at all."""
    return write_atomically(file, laid_out(data) + "\n")


def read(file: Path) -> Data | None:
    """A data file; None where there is none.

    Raises:
        InputError: it is no data file, or one of another version.
    """
    advice = "write it again with benchmarks/reproduce.py"
    try:
        data: Data = json.loads(file.read_text(encoding="utf-8"))
        found = data["schema_version"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read as a scenario's figures; {advice}") from error
    if found != VERSION:
        raise InputError(f"{file}: schema_version is {found!r}; allowed: {VERSION}; {advice}")
    return data


def laid_out(value: Any, indent: int = 0, width: int = WIDTH) -> str:
    """JSON in which what fits into a line stands on one.

    Example:
        >>> print(laid_out({"a": [1, None], "b": [{"c": 2}, {"c": 3}]}, width=20))
        {
         "a": [1, null],
         "b": [
          {"c": 2},
          {"c": 3}
         ]
        }
    """
    line = json.dumps(value, allow_nan=False)
    if len(line) + indent <= width or not isinstance(value, dict | list):
        return line
    if isinstance(value, dict):
        named = [(f"{json.dumps(key)}: ", inner) for key, inner in value.items()]
    else:
        named = [("", inner) for inner in value]
    pad = "\n" + " " * (indent + 1)
    body = f",{pad}".join(f"{key}{laid_out(v, indent + 1, width)}" for key, v in named)
    return f"{line[0]}{pad}{body}\n{' ' * indent}{line[-1]}"
