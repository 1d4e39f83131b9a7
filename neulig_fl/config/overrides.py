"""Values that take the place of a scenario's: `key.sub=value`, of a command line or of a study."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from neulig_fl.config.allowed import in_yaml
from neulig_fl.config.problems import quoted
from neulig_fl.config.yaml_source import Origin, ScenarioText, Steps, scalar
from neulig_fl.core.errors import ScenarioError

EVERY = "*"
"""As a part of a key: every entry of a list."""

_INSTEAD = {"seed": "seeds", "seeds": "seed"}
"""Keys of which one takes the place of the other, where the other is the file's."""


def with_text(source: ScenarioText, text: str) -> ScenarioText:
    """Put one `key.sub=value`, whose value is YAML, in the place of what the file says.

    Raises:
        ScenarioError: it is not of that form, or leads to no entry of a list.

    Example:
        >>> from neulig_fl.config.yaml_source import parse
        >>> with_text(parse("a: [{b: 1}, {b: 2}]", "x.yaml"), "a.*.b=3").data
        {'a': [{'b': 3}, {'b': 3}]}
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise ScenarioError(f"--set {text}: write it as key=value, such as experts.epochs=2")
    return with_value(source, key.strip(), scalar(value), lambda *_: f"--set {text}")


def with_value(source: ScenarioText, key: str, value: Any, origin: Origin) -> ScenarioText:
    """Put a value in the place of what the file says at a key.

    Args:
        source: what the file says.
        key: names and indices with dots between them; `*` for every entry of a list.
        value: plain data; it takes the whole place, also of a mapping.
        origin: says where the value, or a part of it, was written.

    Raises:
        ScenarioError: the key leads to no entry of a list, or below a value that has nothing
            below it.
    """
    data = copy.deepcopy(source.data)
    overrides = dict(source.overrides)
    names = key.split(".")
    for steps in _places(data, names, (), overrides, origin):
        here: Any = data
        for step in steps[:-1]:
            here = here[step]
        here[steps[-1]] = copy.deepcopy(value)
        overrides = {s: o for s, o in overrides.items() if s[: len(steps)] != steps}
        overrides[steps] = origin
    if len(names) == 1 and (other := _INSTEAD.get(key)) and (other,) not in overrides:
        data.pop(other, None)
    return dataclasses.replace(source, data=data, overrides=overrides)


def _places(
    here: Any, names: list[str], steps: Steps, overrides: dict[Steps, Origin], origin: Origin
) -> Iterator[Steps]:
    """Where a key leads; mappings that are not there yet are made."""
    for step in _steps(here, names[0], steps, origin):
        there = (*steps, step)
        if len(names) == 1:
            yield there
            continue
        if isinstance(here, dict) and here.get(step) is None:
            here[step] = {}
            overrides[there] = lambda _, key: origin((), key)
        yield from _places(here[step], names[1:], there, overrides, origin)


def _steps(here: Any, name: str, steps: Steps, origin: Origin) -> list[str | int]:
    """The keys or indices that a part of a key means."""
    if isinstance(here, dict):
        return [name]
    field = ".".join(str(step) for step in steps)
    where = origin((), True)
    if not isinstance(here, list):
        raise ScenarioError(f"{where}: {field} is {quoted(here)}; there is nothing below it")
    if name == EVERY:
        return [*range(len(here))]
    if name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(here):
        return [int(name)]
    raise ScenarioError(
        f"{where}: {field} has no entry {name[:20]!r}; allowed: 0 to {len(here) - 1}, or * for all"
    )


def as_text(key: str, value: Any) -> str:
    """An override as `--set` takes it: `key=value`, the value as YAML on one line.

    Example:
        >>> as_text("experts.epochs", 2), as_text("a", ["no", 1e-05]), as_text("b", "no")
        ('experts.epochs=2', "a=['no', 1.0e-05]", "b='no'")
    """
    for text in (in_yaml(value).removesuffix("\n..."), json.dumps(value)):
        if "\n" not in text and scalar(text) == value:
            return f"{key}={text}"
    raise ScenarioError(f"{key}: {quoted(value)} cannot be written as one line of YAML")
