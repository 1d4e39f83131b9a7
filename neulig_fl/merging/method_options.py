"""A merge method's options: read from the signature of its rule, which says types and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from neulig_fl.config.problems import problems_within
from neulig_fl.config.values import Section
from neulig_fl.core.errors import InputError, nearest


def rule(method: ModuleType) -> Callable[..., Any]:
    """A method's rule: its `merge`, or its `model`."""
    found: Callable[..., Any] = method.merge if hasattr(method, "merge") else method.model
    return found


def options(method: ModuleType) -> type[Section]:
    """The options of a method as a strict model, by their names in YAML.

    Example:
        >>> from neulig_fl.core import variants
        >>> module = variants.load("neulig_fl.merging.methods", "task-arithmetic")
        >>> list(options(module).model_fields)
        ['lambda']
    """
    function = rule(method)
    hints = _types(function)
    fields: dict[str, Any] = {
        _written(name): (hints[name], parameter.default)
        for name, parameter in _parameters(function).items()
    }
    name = f"{method.__name__.rpartition('.')[2]}_options"
    made: type[Section] = create_model(name, __base__=Section, **fields)
    return made


def settings(method: ModuleType, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of a method by its name in YAML: what is given, and the defaults.

    Args:
        method: the file.
        given: options by their names in YAML, such as `lambda`.

    Raises:
        InputError: an option that it does not have, or a value that it does not take.

    Example:
        >>> from neulig_fl.core import variants
        >>> settings(variants.load("neulig_fl.merging.methods", "task-arithmetic"), {})
        {'lambda': 0.3}
    """
    try:
        return options(method)(**given).model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0])
        name = method.__name__.rpartition(".")[2].replace("_", "-")
        if first["type"] == "extra_forbidden":
            known = list(options(method).model_fields)
            raise InputError(f"{name} has no option {key!r}; {nearest(key, known)}") from error
        wrong, *_ = problems_within(error, options(method).model_json_schema(), ())
        what = f"option {key} of {name}: {wrong.text}"
        raise InputError(f"{what}; see `neulig-fl methods {name}`") from error


def arguments(function: Callable[..., Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a method's function, those of its options that it takes.

    Args:
        function: `merge`, `model` or `ensemble`.
        chosen: what `settings` made.
    """
    return {name: chosen[_written(name)] for name in _parameters(function)}


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a rule's options; those of its other arguments may be known to nobody yet."""
    stated = {name: parameter.annotation for name, parameter in _parameters(function).items()}
    wanted = type("Options", (), {"__annotations__": stated})
    return get_type_hints(wanted, function.__globals__, include_extras=True)


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {n: p for n, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _written(name: str) -> str:
    """An option's name in YAML; `lambda` is a word of Python's own."""
    return name.removesuffix("_")
