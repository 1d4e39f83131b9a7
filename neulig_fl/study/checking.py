"""Opening a scenario: what its file says, checked as a whole before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neulig_fl.config.problems import report
from neulig_fl.config.scenario import OpenedScenario, Scenario, as_written
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


def checked(opened: OpenedScenario) -> OpenedScenario:
    """The same scenario, once all of it fits together.

    Raises:
        ScenarioError: as for `open_scenario`.
    """
    report(opened.source, problems_between(opened.scenario, opened.folder))
    opened.require_text()
    return opened
