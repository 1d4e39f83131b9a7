"""What scenarios differ in, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MISSING = object()
"""The value of a key that a scenario does not have."""


def differences(scenarios: Sequence[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every place at which plain data differ, with the values there.

    What a list holds goes by its `name` where all that it holds have one, as clients and stages do,
    and else by its number. What one of them has and another lacks is one difference as a whole.

    Args:
        scenarios: as YAML gives them, two or more.

    Yields:
        The place, as `clients.north.policy`, and each one's value; `MISSING` where it has none.

    Example:
        >>> [*differences([{"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}])]
        [('a.b', (1, 3))]
        >>> [key for key, _ in differences([[{"name": "x", "k": 1}], [{"name": "x", "k": 2}]])]
        ['x.k']
    """
    yield from _between([*scenarios], "")


def _between(values: list[Any], place: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if all(_same(each, values[0]) for each in values[1:]):
        return
    parts = [_parts(each) for each in values]
    if any(each is None for each in parts) or len({_named(each) for each in values}) > 1:
        yield place, tuple(values)
        return
    known = [each for each in parts if each is not None]
    for key in dict.fromkeys(key for each in known for key in each):
        below = f"{place}.{key}" if place else key
        yield from _between([each.get(key, MISSING) for each in known], below)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one; 1 and true are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _parts(value: Any) -> Mapping[str, Any] | None:
    """What a value holds, by its place in it; None where it is one value."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        return None
    if _named(value):
        return {str(each["name"]): each for each in value}
    return {str(number): each for number, each in enumerate(value)}


def _named(value: Any) -> bool:
    """Whether a value is a list whose items all have names of their own."""
    if not isinstance(value, list):
        return False
    names = [each.get("name") for each in value if isinstance(each, Mapping)]
    return len({str(each) for each in names if each is not None}) == len(value)
