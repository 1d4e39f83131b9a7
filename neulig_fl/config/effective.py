"""A scenario as it is run, as YAML that `check` and `run` take again: with what it leaves open.

A policy's rules and a task's options are written as they were given: there, a key that nobody wrote
is another thing than its default, because to write it is to have that rule.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from neulig_fl.config.policy_rules import AllowRule, Policy
from neulig_fl.config.scenario import OpenedScenario, Scenario
from neulig_fl.config.stages import Stage
from neulig_fl.config.tasks import TaskOptions


def text(opened: OpenedScenario) -> str:
    """The whole file: what it is of, every override and default, and absolute paths.

    Args:
        opened: as it was read. Its own folder may be gone when the text is read.

    Raises:
        ScenarioError: a path in it is not text.
    """
    opened.require_text()
    head = [f"The effective scenario of {opened.name}: every override, every default."]
    head += [f"--set {override}" for override in opened.overrides]
    lines = ["".join(sign if sign.isprintable() else " " for sign in line) for line in head]
    return "".join(f"# {line}\n" for line in lines) + written(opened.resolved)


def written(scenario: Scenario) -> str:
    """A scenario as YAML: read again, it is the same, with the same hash."""
    data = _keys(scenario, scenario.model_dump(mode="json"))
    if scenario.seeds:
        del data["seed"]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def _keys(model: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    """Every key with its value; where null is the default, it is left out."""
    found = {}
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        null = value is None and field.default is None
        left_open = name not in model.model_fields_set and _as_given(model, name)
        if key in dumped and not null and not left_open:
            found[key] = _value(value, dumped[key])
    return found


def _as_given(model: BaseModel, name: str) -> bool:
    """Whether a key is written where it was given alone."""
    if isinstance(model, Stage) and name == "granularity":
        return "merge" not in model.run
    return isinstance(model, Policy | AllowRule | TaskOptions)


def _value(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        return _keys(value, dumped)
    if isinstance(value, tuple | list) and isinstance(dumped, list):
        return [_value(one, of) for one, of in zip(value, dumped, strict=True)]
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {key: _value(one, dumped[key]) for key, one in value.items()}
    return dumped
