"""What is wrong with a report, in words: a line for each fault, with its place and its value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neulig_fl.core.errors import RunError
from neulig_fl.report.parts.values import CONTRADICTION, Fault, Place

_SHOWN = 20  # most faults named in one error
_LONGEST_STEP = 100  # characters of a key in an error

_WORDS = {
    "bool_type": "{value} is not of type 'boolean'",
    "dict_type": "{value} is not of type 'object'",
    "finite_number": "{value} is not a finite number; a figure that cannot be had is null",
    "float_type": "{value} is not of type 'number'",
    "greater_than": "{value} is less than or equal to the minimum of {gt:g}",
    "greater_than_equal": "{value} is less than the minimum of {ge:g}",
    "int_type": "{value} is not of type 'integer'",
    "less_than": "{value} is greater than or equal to the maximum of {lt:g}",
    "less_than_equal": "{value} is greater than the maximum of {le:g}",
    "list_type": "{value} is not of type 'array'",
    "literal_error": "{expected} was expected, not {value}",
    "missing": "{value} is too short",  # a pair; a key that is missing has its own words
    "model_attributes_type": "{value} is not of type 'object'",
    "model_type": "{value} is not of type 'object'",
    "none_required": "{value} is not of type 'null'",
    "string_pattern_mismatch": "{value} does not match {pattern!r}",
    "string_too_short": "{value} should be non-empty",
    "string_type": "{value} is not of type 'string'",
    "string_unicode": "{value} holds half a character, which is no text",
    "too_long": "{value} is too long; at most {max_length}",
    "too_short": "{value} is too short; at least {min_length}",
    "tuple_type": "{value} is not of type 'array'",
}
"""By pydantic's type of error. A value's type is called as in JSON, which is what is read."""


def require(name: str, model: type[BaseModel], data: Any) -> None:
    """Check data against a model.

    Args:
        name: of the file that holds the data.
        model: of the data.
        data: plain JSON values.

    Raises:
        RunError: one line for each fault (the first 20), each with the place and the value.
    """
    try:
        model.model_validate(data)
    except ValidationError as error:
        raise RunError(_told(name, error.errors(include_url=False), data)) from None


def _told(name: str, errors: Sequence[ErrorDetails], data: Any) -> str:
    faults = [fault for error in errors for fault in _faults(error, data)]
    faults.sort(key=lambda fault: [_sortable(step) for step in fault[0]])
    lines = [f"  {_path(place)}: {_cut(what)}" for place, what in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        lines.append(f"  and {len(faults) - _SHOWN} more")
    return "\n".join([f"{name} is not what its contract says:", *lines])


def _faults(error: ErrorDetails, data: Any) -> Iterator[Fault]:
    """Where something is wrong, and what."""
    context = error.get("ctx", {})
    place, beside = _place(error["loc"], data)
    match error["type"]:
        case kind if kind == CONTRADICTION:
            yield from (((*place, *at), what) for at, what in context["faults"])
        case "missing" if isinstance(beside, str):
            yield place, f"{beside!r} is a required property"
        case "extra_forbidden":
            yield place[:-1], f"{place[-1]!r} was unexpected"
        case "union_tag_not_found":
            yield place, f"{context['discriminator']} is a required property"
        case "union_tag_invalid":
            key = context["discriminator"].strip("'")
            choices = context["expected_tags"]
            yield (*place, key), f"{error['input'][key]!r} is not one of [{choices}]"
        case "too_short" if not error["input"]:
            yield place, f"{error['input']} should be non-empty"
        case kind:
            words = _WORDS.get(kind, "{value}: {message}")
            known = {"value": repr(error["input"]), "message": error["msg"], **context}
            yield place, words.format(**known)


def _place(loc: Sequence[str | int], data: Any) -> tuple[Place, str | int | None]:
    """The steps of pydantic's location that lead through the data, and the last that does not.

    Pydantic also names the alternative of a union that it took, and a key that is missing.
    """
    place: Place = ()
    beside = None
    for step in loc:
        if step in (data if isinstance(data, dict) else range(_length(data))):
            place, data, beside = (*place, step), data[step], None
        else:
            beside = step
    return place, beside


def _length(data: Any) -> int:
    return len(data) if isinstance(data, list) else 0


def _sortable(step: str | int) -> tuple[int, int, str]:
    return (0, step, "") if isinstance(step, int) else (1, 0, step)


def _path(place: Place) -> str:
    """Write a place as the messages have it.

    Example:
        >>> _path(("stages", 0, "name")), _path(("seconds", "stage one")), _path(())
        ('stages[0].name', "seconds['stage one']", 'top')
    """
    return "".join(map(_step, place)).removeprefix(".") or "top"


def _step(step: str | int) -> str:
    if isinstance(step, str) and step.isidentifier():
        return f".{step[:_LONGEST_STEP]}"
    return f"[{step[:_LONGEST_STEP]!r}]" if isinstance(step, str) else f"[{step}]"


def _cut(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:120]} ... {message[-75:]}"
