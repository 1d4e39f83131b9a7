"""A report from the outcome, which the server signed, and from what the starter of a run knows.

So whoever verifies a run can make the report anew, but for what nobody signed: `UNSIGNED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neulig_fl.report import contract

TOTAL = "total"
"""In `seconds`: of the whole run, as whoever started it measured."""

UNSIGNED = ("engine", "reference", f"seconds.{TOTAL}")
"""What of a report does not follow from the scenario and the outcome."""


def sections(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report follows from an outcome: all of it, but what is for the terminal alone."""
    return {key: value for key, value in outcome.items() if key != "prepared"}


def composed(
    outcome: Mapping[str, Any],
    *,
    scenario: Mapping[str, Any],
    engine: str,
    reference: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The report of a run, validated.

    Args:
        outcome: of the server.
        scenario: `name`, `seed` and `hash`.
        engine: that carried the messages.
        reference: ground truth that only a simulation knows.
        seconds: that the whole run took.

    Raises:
        RunError: what `contract.build` raises.
    """
    found = sections(outcome)
    found["seconds"] = {TOTAL: seconds, **found["seconds"]}
    return contract.build(scenario=scenario, engine=engine, reference=reference, **found)


def difference(report: Mapping[str, Any], outcome: Mapping[str, Any]) -> str | None:
    """The first place where a report does not say what the outcome says; None where there is none.

    Example:
        >>> difference({"notes": ["a", "c"]}, {"notes": ["a", "b"]})
        "notes[1] is 'c' where the outcome has 'b'"
    """
    for key, wanted in sections(outcome).items():
        said = report.get(key)
        if key == "seconds" and isinstance(said, dict):
            said = {name: value for name, value in said.items() if name != TOTAL}
        problem = _difference(said, wanted, key)
        if problem is not None:
            return problem
    return None


def _difference(said: object, wanted: object, place: str) -> str | None:
    """Numbers must be of the same kind too: 1, 1.0 and true are three things."""
    if isinstance(said, dict) and isinstance(wanted, dict) and set(said) == set(wanted):
        parts = ((said[key], wanted[key], f"{place}.{key}") for key in wanted)
    elif isinstance(said, list) and isinstance(wanted, list) and len(said) == len(wanted):
        parts = ((said[i], wanted[i], f"{place}[{i}]") for i in range(len(wanted)))
    elif type(said) is type(wanted) and said == wanted:
        return None
    else:
        return f"{place} is {_shown(said)} where the outcome has {_shown(wanted)}"
    return next((found for each in parts if (found := _difference(*each))), None)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
