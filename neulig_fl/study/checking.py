"""Opening a scenario: what its file says, checked as a whole before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulig_fl.config import given_scenario
from neulig_fl.config.overrides import with_text
from neulig_fl.config.problems import report
from neulig_fl.config.scenario import OpenedScenario, Scenario, as_written, folder_of, validated
from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.scenario_checks import problems_between
from neulig_fl.study.scenario_schema import json_schema


def load(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a scenario and check all of it, as `open_scenario` does; the scenario alone."""
    return open_scenario(path, overrides).scenario


def open_scenario(path: Path | str, overrides: Sequence[str] = ()) -> OpenedScenario:
    """Read a scenario and check all of it; nothing else is loaded.

    Args:
        path, overrides: as for `scenario.as_written`.

    Raises:
        ScenarioError: everything that is wrong, a line each: file:line:column (or the override),
            the field, the value received, what is allowed and the nearest valid name. First what is
            wrong in itself; what does not fit together only once nothing else is wrong.
    """
    return checked(as_written(path, overrides, json_schema))


def open_given(
    scenario: str | Path | Mapping[str, Any] | Scenario,
    overrides: Mapping[str, Any] | Sequence[str] = (),
) -> OpenedScenario:
    """Read a scenario that comes from Python and check all of it, as `open_scenario` does.

    Args:
        scenario: the path of a file; keys and values; or a scenario. Relative paths of the latter
            two start from the current folder.
        overrides: values by key, or as for `open_scenario`.

    Raises:
        ScenarioError: everything that is wrong; without a file, a line names its key.
    """
    texts = given_scenario.overrides(overrides)
    if isinstance(scenario, str | Path):
        return open_scenario(scenario, texts)
    if not isinstance(scenario, Mapping | Scenario):
        raise ScenarioError(
            f"scenario: a {type(scenario).__name__} is none; allowed: the path of a YAML file, a "
            "mapping, a neulig_fl.config.scenario.Scenario"
        )
    source = given_scenario.source(scenario)
    for text in texts:
        source = with_text(source, text)
    return checked(validated(source, folder_of(Path("-")), texts, json_schema))


def checked(opened: OpenedScenario) -> OpenedScenario:
    """The same scenario, once all of it fits together.

    Raises:
        ScenarioError: as for `open_scenario`.
    """
    report(opened.source, problems_between(opened.scenario, opened.folder))
    opened.require_text()
    return opened
