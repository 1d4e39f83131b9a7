"""What is wrong with a scenario, in words: where, what was received, what is allowed, what next.

The allowed values are read from the JSON Schema of the models, so that no message can disagree with
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from neulig_fl.config.allowed import Schema, at, in_words, key_rules, keys
from neulig_fl.config.yaml_source import ScenarioText, Steps
from neulig_fl.core.errors import ScenarioError, nearest, plain

MOST_SHOWN = 20

_LONGEST_STEP = 100
"""Characters of a key in an error."""

_MOST_TOLD = 10 * MOST_SHOWN
"""Findings that are put into words; several of one value can come to the same words."""

_WHAT = {
    "literal_error": "unknown value",
    "variant": "unknown value",
    "repeated": "names the same thing twice",
    "one_name": "not one name, alone or with its options",
    "moment": "no such date or time",
    "too_short": "too few entries",
    "finite_number": "not a finite number",
    "greater_than": "out of range",
    "greater_than_equal": "out of range",
    "less_than": "out of range",
    "less_than_equal": "out of range",
    "string_pattern_mismatch": "not in the form that is needed",
    "string_too_short": "empty text",
    "string_too_long": "too long",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        steps: keys and indices from the root to the value.
        text: what is wrong, what is allowed, and what to do.
        key: the key itself is wrong, not its value.
    """

    steps: Steps
    text: str
    key: bool = False


def quoted(value: Any) -> str:
    """Write a received value as a message gives it: on one line, and short.

    Example:
        >>> quoted("featurs"), quoted(None), quoted([1, 2])
        ('"featurs"', 'null', '[1, 2]')
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def report(source: ScenarioText, problems: Iterable[Problem]) -> None:
    """Raise all problems as one error, a line each, in the order of the file.

    Raises:
        ScenarioError: if there is a problem.
    """
    found = sorted(
        dict.fromkeys(problems), key=lambda each: source.locate(each.steps, key=each.key)
    )
    lines = [_line(source, problem) for problem in found[:MOST_SHOWN]]
    if len(found) > MOST_SHOWN:
        lines.append(f"{source.name}: and {len(found) - MOST_SHOWN} more")
    if lines:
        raise ScenarioError("\n".join(lines))


def problems_of(error: ValidationError, schema: Schema, source: ScenarioText) -> list[Problem]:
    """Translate pydantic's findings, in the order of the file.

    Only the first say what is allowed: to find the nearest name takes time, and few are quoted.

    Args:
        error: what the validation of a scenario raised.
        schema: JSON Schema of the scenario, which says what is allowed.
        source: the file.
    """
    found = [each for each in error.errors(include_url=False) if not _only_follows(each)]
    found.sort(key=lambda each: source.locate(_steps(each)))
    told = [_problem(each, schema) for each in found[:_MOST_TOLD]]
    rest = (Problem(_steps(each), _what(each)) for each in found[_MOST_TOLD:])
    return [*told, *rest]


def problems_within(error: ValidationError, schema: Schema, steps: Steps) -> list[Problem]:
    """Translate pydantic's findings about a part that was validated by itself.

    Args:
        error: what the validation of the part raised.
        schema: JSON Schema of the part.
        steps: where the part stands in the scenario.
    """
    found = [_problem(each, schema) for each in error.errors(include_url=False)[:_MOST_TOLD]]
    return [Problem((*steps, *each.steps), each.text, each.key) for each in found]


def _only_follows(error: ErrorDetails) -> bool:
    """Tell whether a list is called short only because some of its entries are wrong."""
    if error["type"] != "too_short" or not isinstance(error["input"], list):
        return False
    return bool(len(error["input"]) >= error["ctx"]["min_length"])


def _line(source: ScenarioText, problem: Problem) -> str:
    where = source.origin(problem.steps, key=problem.key)
    field = ".".join(plain(step, _LONGEST_STEP) for step in problem.steps)
    text = f"{field}: {problem.text}" if field else problem.text
    return f"{where}: {_on_one_line(text)}"


def _on_one_line(text: str) -> str:
    r"""Escape what a terminal would not print as it stands; keys and values are the user's.

    Example:
        >>> _on_one_line("a\u2028b é")
        'a\\u2028b é'
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _is_key(error: ErrorDetails) -> bool:
    return error["loc"][-1:] == ("[key]",)


def _steps(error: ErrorDetails) -> Steps:
    return error["loc"][:-1] if _is_key(error) else error["loc"]


def _what(error: ErrorDetails) -> str:
    return f"{_WHAT.get(error['type'], 'wrong type')} (got {quoted(error['input'])})"


def _problem(error: ErrorDetails, schema: Schema) -> Problem:
    kind, received = error["type"], error["input"]
    steps = _steps(error)
    parents, here = at(schema, steps[:-1]), at(schema, steps)
    if kind == "missing":
        wanted = next(iter(here), {}).get("description", "")
        return Problem(steps, f"is missing. {wanted}")
    if kind == "extra_forbidden" or (not here and keys(parents) and not _is_key(error)):
        return _told(steps, "unknown key", nearest(str(steps[-1]), keys(parents)), key=True)
    if _is_key(error):
        rules = [rule for each in parents for rule in key_rules(each)]
        return _told(steps, "not a key for this place", in_words(rules, received, schema), key=True)
    return _told(steps, _what(error), in_words(here, received, schema))


def _told(steps: Steps, *parts: str, key: bool = False) -> Problem:
    return Problem(steps, "; ".join(part for part in parts if part), key)
