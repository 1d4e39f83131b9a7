"""What a JSON Schema allows at a place, in words, and the value that was probably meant there.

The schema is the models' own, so that no message can disagree with them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from neulig_fl.config.values import (
    DIGEST,
    DOTTED,
    MOMENT,
    PUBLIC_KEY,
    SLUG,
    SLUG_WORDS,
    TEMPLATE,
)

Schema = Mapping[str, Any]

_PATTERNS = {
    SLUG: SLUG_WORDS,
    DOTTED: "a key as `--set` takes it, such as experts.epochs or clients.*.policy",
    TEMPLATE: "text with one {} where the class name goes",
    PUBLIC_KEY: "a public key as a run's trust.json has it: ed25519: and 43 characters",
    DIGEST: "64 hex digits, as `neulig-fl check FILE --hash` prints them",
    MOMENT: "a date (2027-03-31), or a date-time with its zone (2027-03-31T18:00:00Z)",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_LONGEST_ADVICE = 120
"""Characters of a value, as JSON, for which YAML is advised."""


def at(root: Schema, steps: Sequence[str | int]) -> list[Schema]:
    """Find the schemas that a value may meet; none where the steps lead nowhere.

    Args:
        root: the whole schema.
        steps: keys and indices from the root to the value.
    """
    found = list(_alternatives(root, root))
    for step in steps:
        found = [
            option
            for each in found
            for inner in _inside(each, step)
            for option in _alternatives(inner, root)
        ]
    return found


def keys(schemas: Iterable[Schema]) -> list[str]:
    """The keys that mappings of these schemas have, by name."""
    return [key for schema in schemas for key in schema.get("properties", {})]


def key_rules(schema: Schema) -> Iterator[Schema]:
    """What a key of a mapping has to be where any name can stand."""
    patterns = schema.get("patternProperties", {})
    yield from ({"type": "string", "pattern": pattern} for pattern in patterns)
    if "propertyNames" in schema and not patterns:
        yield {"type": "string", **schema["propertyNames"]}


def in_words(schemas: Sequence[Schema], received: Any, root: Schema) -> str:
    """Say what the schemas allow, with the nearest name or the YAML that was probably meant.

    Args:
        schemas: what a value may meet, as `at` finds them.
        received: the value that stands there.
        root: the whole schema.

    Returns:
        Nothing where there are no schemas.

    Example:
        >>> names = {"type": "array", "items": {"enum": ["A", "B"]}}
        >>> in_words([names], "A", names)
        'allowed: a list of A, B; write [A]'
        >>> in_words([{"type": "integer", "minimum": 1}], 0, {})
        'allowed: a whole number, at least 1'
    """
    if not schemas:
        return ""
    names = [name for schema in schemas for name in schema.get("enum", [])]
    rest = [_words(schema, root) for schema in schemas if "enum" not in schema]
    told = (", or " if any("," in each for each in rest) else " or ").join(dict.fromkeys(rest))
    if names:
        told = ", ".join([*dict.fromkeys(names), *([f"or {told}"] if told else [])])
    return f"allowed: {told or 'none in this version'}{_advice(schemas, received, root, names)}"


def in_yaml(value: Any) -> str:
    """A list or mapping as YAML on one line.

    Example:
        >>> in_yaml([{"kind": "features"}])
        '[{kind: features}]'
    """
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf")
    )
    return text.strip()


def _alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        yield {**target, **{key: schema[key] for key in schema if key != "$ref"}}
    elif "anyOf" in schema:
        about = {key: schema[key] for key in schema if key != "anyOf"}
        for option in schema["anyOf"]:
            yield from ({**each, **about} for each in _alternatives(option, root))
    elif isinstance(schema.get("type"), list):
        yield from ({**schema, "type": each} for each in schema["type"])
    else:
        yield schema


def _inside(schema: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        found = [schema.get("items")]
    elif step in schema.get("properties", {}):
        found = [schema["properties"][step]]
    else:
        found = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    yield from (each for each in found if isinstance(each, dict))


def _entries(schema: Schema, root: Schema) -> list[Schema]:
    return [option for each in _inside(schema, 0) for option in _alternatives(each, root)]


def _words(schema: Schema, root: Schema) -> str:
    """Say what one schema allows."""
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
            return _list_words(schema, root)
        case _:
            return _mapping_words(schema)


def _bounds(schema: Schema) -> Iterator[str]:
    return (f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema)


def _list_words(schema: Schema, root: Schema) -> str:
    least = schema.get("minItems", 0)
    told = " ".join(part for part in ("a list", _of(_entries(schema, root))) if part)
    if least > 1:
        return f"{told}, with at least {least} entries"
    return f"{told} that is not empty" if least else told


def _of(entries: Sequence[Schema]) -> str:
    """What the entries of a list are, where they are names or mappings."""
    names = [name for each in entries for name in each.get("enum", [])]
    listed = any("enum" in each for each in entries)
    told = [", ".join(names) or "nothing in this version"] if listed else []
    known = (", ".join(keys([each])) for each in entries)
    told += [f"mappings with the keys {each}" for each in known if each]
    return f"of {' or '.join(told)}" if told else ""


def _mapping_words(schema: Schema) -> str:
    most, known = schema.get("maxProperties"), ", ".join(keys([schema]))
    if most == 0:
        return "{}"
    of = f" with the keys {known}" if known else ""
    told = "a mapping of one name to its options" if most == 1 else f"a mapping{of}"
    examples = [each for each in schema.get("examples", []) if isinstance(each, dict)]
    return ", ".join([told, *(f"such as {in_yaml(each)}" for each in examples)])


def _advice(schemas: Sequence[Schema], received: Any, root: Schema, names: Sequence[str]) -> str:
    """What to write instead: a name that is nearly the one received, or it as a list or mapping."""
    if names:
        alone = [key for each in schemas if each.get("maxProperties") == 1 for key in keys([each])]
        near = _closest(received, [*names, *alone])
        return f"; did you mean {near[0]}?" if near else ""
    if len(json.dumps(received, default=str)) > _LONGEST_ADVICE:
        return ""
    found = _meant(schemas, received, root)
    other = found and isinstance(found[0], list | dict) and found[0] != received
    return f"; write {in_yaml(found[0])}" if other else ""


def _closest(received: Any, names: Sequence[str]) -> list[str]:
    word = received if isinstance(received, str) else ""
    return difflib.get_close_matches(word, names, n=1, cutoff=0.5)


def _meant(schemas: Iterable[Schema], received: Any, root: Schema) -> list[Any]:
    """The value that was probably meant, alone in a list; an empty list where none is at hand.

    It is one that the schemas allow: whoever writes it does not get the next error.
    """
    for schema in schemas:
        found = _meant_as(schema, received, root)
        if found:
            return found
    return []


def _meant_as(schema: Schema, received: Any, root: Schema) -> list[Any]:
    if "enum" in schema:
        return _closest(received, schema["enum"])
    match schema.get("type"):
        case "array":
            return _meant_list(schema, received, root)
        case "object":
            return _meant_mapping(schema, received, root)
        case _:
            return [received] if _fits(schema, received) else []


def _fits(schema: Schema, received: Any) -> bool:
    """Whether a single value is allowed."""
    match schema.get("type"):
        case "string":
            pattern = schema.get("pattern", "")
            return isinstance(received, str) and re.search(pattern, received) is not None
        case "boolean":
            return isinstance(received, bool)
        case "null":
            return received is None
        case _:
            whole = schema.get("type") == "integer"
            number = type(received) is int or (not whole and isinstance(received, float))
            return number and _within(schema, received)


def _within(schema: Schema, number: float) -> bool:
    return bool(
        number >= schema.get("minimum", number)
        and number > schema.get("exclusiveMinimum", float("-inf"))
        and number <= schema.get("maximum", number)
        and number < schema.get("exclusiveMaximum", float("inf"))
    )


def _meant_list(schema: Schema, received: Any, root: Schema) -> list[Any]:
    entries = received if isinstance(received, list) else [received]
    if received is None or len(entries) < schema.get("minItems", 0):
        return []
    inside = _entries(schema, root)
    found = [_meant(inside, each, root) for each in entries]
    return [[each[0] for each in found]] if all(found) else []


def _meant_mapping(schema: Schema, received: Any, root: Schema) -> list[Any]:
    """The mapping itself, or the one whose only needed key has the value."""
    needed = schema.get("required", [])
    if isinstance(received, str) and len(needed) == 1:
        received = {needed[0]: received}
    if not isinstance(received, dict) or not set(needed) <= set(received):
        return []
    if len(received) > schema.get("maxProperties", len(received)):
        return []
    found = {
        key: _meant((o for s in _inside(schema, key) for o in _alternatives(s, root)), value, root)
        for key, value in received.items()
    }
    return [{key: each[0] for key, each in found.items()}] if all(found.values()) else []
