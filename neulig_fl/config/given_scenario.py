"""A scenario that comes from Python, a mapping or a `Scenario`, as the text of a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from neulig_fl.config import effective
from neulig_fl.config.scenario import Scenario
from neulig_fl.config.yaml_source import ScenarioText, parse
from neulig_fl.core.errors import ScenarioError, plain

MAPPING, OBJECT, OVERRIDES = "the mapping", "the Scenario", "overrides"
"""What messages call a scenario that no file holds; the argument of `run`."""


def source(given: Mapping[str, Any] | Scenario) -> ScenarioText:
    """What a scenario says, in the form of one that was read from a file.

    Args:
        given: keys and values as the YAML has them (tuples are lists, paths are text), or a
            scenario that was read before.

    Raises:
        ScenarioError: a value that no scenario can hold; the message names its key.

    Example:
        >>> source({"seed": 8, "experts": {"lr": 1e-3}}).data
        {'seed': 8, 'experts': {'lr': 0.001}}
        >>> source({"experts": {"lr": {1}}})
        Traceback (most recent call last):
        neulig_fl.core.errors.ScenarioError: the mapping: experts.lr: a set has no place in a \
scenario; allowed: text, numbers, true, false, null, lists, mappings
    """
    if isinstance(given, Scenario):
        return replace(parse(effective.written(given), OBJECT), placed=False)
    said = json.dumps(_plain(given, MAPPING, ()), ensure_ascii=False, indent=1)
    text = "".join(map(_escaped, said))
    try:
        return replace(parse(f"{text}\n", MAPPING), placed=False)
    except ScenarioError as error:
        raise ScenarioError(re.sub(rf"^{MAPPING}:\d+:\d+", MAPPING, str(error))) from error


def overrides(given: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Overrides as a command line has them.

    Args:
        given: values by their keys, as {"experts.epochs": 2}, or `key.sub=value` texts.

    Raises:
        ScenarioError: a value that no scenario can hold, or one text in the place of a list.

    Example:
        >>> overrides({"seed": 8, "name": "yes", "seeds": None})
        ['seed=8', 'name="yes"', 'seeds=null']
    """
    if isinstance(given, Mapping):
        said = _plain(given, OVERRIDES, ())
        return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in said.items()]
    if isinstance(given, str):
        raise ScenarioError(
            f"{OVERRIDES}: {given!r} is one text; give a mapping such as "
            '{"experts.epochs": 2}, or a list of texts'
        )
    return [*given]


def _plain(value: Any, of: str, steps: tuple[str, ...]) -> Any:
    """The same value in the types that JSON has."""
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            place = ".".join(steps) or "its keys"
            raise ScenarioError(f"{of}: {plain(place)}: the key {odd[0]!r} is no text; write it so")
        return {key: _plain(each, of, (*steps, key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, of, (*steps, str(at))) for at, each in enumerate(value)]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    what = "a number that is not finite" if isinstance(value, float) else _called(value)
    raise ScenarioError(
        f"{of}: {plain('.'.join(steps))}: {what} has no place in a scenario; allowed: text, "
        "numbers, true, false, null, lists, mappings"
    )


def _escaped(sign: str) -> str:
    """A character of a JSON text so that YAML, which folds more kinds of line break, keeps it."""
    if sign.isprintable() or sign == "\n" or ord(sign) > 0xFFFF:
        return sign
    return f"\\u{ord(sign):04x}"


def _called(value: Any) -> str:
    return f"a {type(value).__name__}"
