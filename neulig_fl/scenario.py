"""The scenario: read from YAML, checked as a whole, handed on as frozen models."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neulig_fl.errors import ScenarioError
from neulig_fl.policy_models import Limits, Policy
from neulig_fl.scenario_checks import problems_between
from neulig_fl.scenario_errors import problems_of, report, shown
from neulig_fl.scenario_models import (
    MICRO_MODELS,
    PRETRAINED_WORDS,
    Client,
    Experts,
    Model,
    PortlandOptions,
    Queries,
    Resources,
    Scenario,
    Timeouts,
)
from neulig_fl.scenario_stages import Share, Stage
from neulig_fl.scenario_tasks import OPEN_SOURCES, TaskOptions
from neulig_fl.scenario_values import KINDS, OUTPUT_KINDS, QUERY_SETS
from neulig_fl.yaml_source import Source, Steps, read, scalar

__all__ = [
    "KINDS",
    "MICRO_MODELS",
    "OPEN_SOURCES",
    "OUTPUT_KINDS",
    "PRETRAINED_WORDS",
    "QUERY_SETS",
    "Client",
    "Experts",
    "Limits",
    "Model",
    "Policy",
    "PortlandOptions",
    "Queries",
    "Resources",
    "Scenario",
    "Share",
    "Stage",
    "TaskOptions",
    "Timeouts",
    "dump",
    "json_schema",
    "load",
    "load_resolved",
]


def load(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario and check all of it; nothing else is loaded.

    Args:
        path: YAML file. Relative paths in it start from its folder.
        overrides: `key.sub=value` texts that replace values of the file, as in
            `clients.0.task=digits`; the value is YAML.

    Raises:
        ScenarioError: everything that is wrong, a line each: file:line:column (or the override),
            the field, the value received, what is allowed and the nearest valid name. First what is
            wrong in itself; what does not fit together only once nothing else is wrong.
    """
    path = Path(path)
    source = read(path)
    for text in overrides:
        source = _overridden(source, text)
    try:
        scenario = Scenario.model_validate(source.data)
    except ValidationError as error:
        report(source, problems_of(error, json_schema()))
        raise
    report(source, problems_between(scenario, path.parent))
    return scenario


def dump(scenario: Scenario, path: Path) -> None:
    """Write a scenario as JSON, for the apps."""
    path.write_text(scenario.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_resolved(path: Path) -> Scenario:
    """Read what `dump` wrote.

    Raises:
        ScenarioError: the file is not there or is not what `dump` writes.
    """
    try:
        return Scenario.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ScenarioError(f"{path}: not a scenario as neulig-fl writes it: {error}") from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario, for editors.

    Example:
        >>> json_schema()["required"]
        ['name', 'clients', 'stages']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scenario.model_json_schema(mode="validation"),
        "title": "neulig-fl scenario",
    }


def _overridden(source: Source, text: str) -> Source:
    """Put one `key.sub=value` in the place of what the file says."""
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ScenarioError(f"--set {text}: write it as key=value, such as experts.epochs=2")
    data = copy.deepcopy(source.data)
    overrides = dict(source.overrides)
    here: Any = data
    steps: Steps = ()
    for name in names[:-1]:
        step = _step(here, name, text, steps)
        steps = (*steps, step)
        if isinstance(here, dict) and here.get(name) is None:
            here[name] = {}
            overrides[steps] = text
        here = here[step]
    last = _step(here, names[-1], text, steps)
    here[last] = scalar(value)
    overrides[*steps, last] = text
    return dataclasses.replace(source, data=data, overrides=overrides)


def _step(here: Any, name: str, text: str, steps: Steps) -> str | int:
    """Return the key or index that a part of an override means."""
    if isinstance(here, dict):
        return name
    field = ".".join(str(step) for step in steps)
    if not isinstance(here, list):
        raise ScenarioError(f"--set {text}: {field} is {shown(here)}; there is nothing below it")
    if name.isascii() and name.isdigit() and int(name) < len(here):
        return int(name)
    raise ScenarioError(
        f"--set {text}: {field} has no entry {name!r}; allowed: 0 to {len(here) - 1}"
    )
