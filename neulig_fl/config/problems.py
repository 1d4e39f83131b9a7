"""What is wrong with a scenario, in words: where, what was received, what is allowed, what next.

The allowed values are read from the JSON Schema of the models, so that no message can disagree with
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from neulig_fl.config.values import DIGEST, MOMENT, PUBLIC_KEY, SLUG, SLUG_WORDS, TEMPLATE
from neulig_fl.config.yaml_source import ScenarioText, Steps
from neulig_fl.core.errors import ScenarioError, nearest, plain

MOST_SHOWN = 20

_Schema = Mapping[str, Any]
_PATTERNS = {
    SLUG: SLUG_WORDS,
    TEMPLATE: "text with one {} where the class name goes",
    PUBLIC_KEY: "a public key as a run's trust.json has it: ed25519: and 43 characters",
    DIGEST: "64 hex digits, as `neulig-fl check FILE --hash` prints them",
    MOMENT: "a date (2027-03-31), or a date-time with its zone (2027-03-31T18:00:00Z)",
}
_LONGEST_STEP = 100
"""Characters of a key in an error."""

_MOST_TOLD = 10 * MOST_SHOWN
"""Findings that are put into words; several of one value can come to the same words."""

_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
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


def problems_of(error: ValidationError, schema: _Schema, source: ScenarioText) -> list[Problem]:
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


def problems_within(error: ValidationError, schema: _Schema, steps: Steps) -> list[Problem]:
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


def _problem(error: ErrorDetails, schema: _Schema) -> Problem:
    kind, received = error["type"], error["input"]
    steps = _steps(error)
    parents = _at(schema, steps[:-1])
    if kind == "missing":
        wanted = next(iter(_at(schema, steps)), {}).get("description", "")
        return Problem(steps, f"is missing. {wanted}")
    if kind == "extra_forbidden":
        return Problem(steps, f"unknown key; {nearest(str(steps[-1]), _keys(parents))}", key=True)
    if _is_key(error):
        rules = [rule for each in parents for rule in _key_rules(each)]
        return Problem(steps, f"not a key for this place; {_allowed(rules, received)}", key=True)
    return Problem(steps, f"{_what(error)}; {_allowed(_at(schema, steps), received)}")


def _at(schema: _Schema, steps: Sequence[str | int]) -> list[_Schema]:
    """Find the schemas that a value may meet; none where the steps lead nowhere."""
    found = list(_alternatives(schema, schema))
    for step in steps:
        found = [
            option
            for each in found
            for inner in _inside(each, step)
            for option in _alternatives(inner, schema)
        ]
    return found


def _alternatives(schema: _Schema, root: _Schema) -> Iterator[_Schema]:
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        yield {**target, **{key: schema[key] for key in schema if key != "$ref"}}
    elif "anyOf" in schema:
        about = {key: schema[key] for key in schema if key != "anyOf"}
        for option in schema["anyOf"]:
            yield from ({**each, **about} for each in _alternatives(option, root))
    else:
        yield schema


def _inside(schema: _Schema, step: str | int) -> Iterator[_Schema]:
    if isinstance(step, int):
        found = [schema.get("items")]
    elif step in schema.get("properties", {}):
        found = [schema["properties"][step]]
    else:
        found = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    yield from (each for each in found if isinstance(each, dict))


def _keys(schemas: Iterable[_Schema]) -> list[str]:
    return [key for schema in schemas for key in schema.get("properties", {})]


def _key_rules(schema: _Schema) -> Iterator[_Schema]:
    patterns = schema.get("patternProperties", {})
    yield from ({"type": "string", "pattern": pattern} for pattern in patterns)
    if "propertyNames" in schema and not patterns:
        yield {"type": "string", **schema["propertyNames"]}


def _allowed(schemas: Sequence[_Schema], received: Any) -> str:
    """Say what the schemas allow, and the nearest name if they list names."""
    names = [name for schema in schemas for name in schema.get("enum", [])]
    if any("enum" in schema for schema in schemas):
        extra = ["null"] if any(schema.get("type") == "null" for schema in schemas) else []
        return nearest(received if isinstance(received, str) else "", [*names, *extra])
    hint = f"allowed: {' or '.join(dict.fromkeys(_words(schema) for schema in schemas))}"
    takes_list = any(schema.get("type") == "array" for schema in schemas)
    if takes_list and isinstance(received, str):
        listed = yaml.safe_dump([received], default_flow_style=True, allow_unicode=True, width=1e9)
        return f"{hint}; write {listed.strip()}"
    return hint


def _words(schema: _Schema) -> str:
    """Say what one schema allows.

    Example:
        >>> _words({"type": "integer", "minimum": 1})
        'a whole number, at least 1'
    """
    match schema.get("type"):
        case "null":
            return "null"
        case "string":
            return _PATTERNS.get(schema.get("pattern", ""), "text that is not empty")
        case "boolean":
            return "true or false"
        case "integer":
            return ", ".join(["a whole number", *_bounds(schema)])
        case "number":
            return ", ".join(["a number", *_bounds(schema)])
        case "array":
            return _list_words(schema)
        case _:
            keys = ", ".join(_keys([schema]))
            return f"a mapping with the keys {keys}" if keys else "a mapping"


def _bounds(schema: _Schema) -> Iterator[str]:
    return (f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema)


def _list_words(schema: _Schema) -> str:
    least = schema.get("minItems", 0)
    names = schema["items"].get("enum")
    entries = f"of {', '.join(names) or 'nothing in this version'}" if names is not None else ""
    size = f"with at least {least} entries" if least > 1 else "that is not empty" if least else ""
    return " ".join(part for part in ("a list", entries, size) if part)
