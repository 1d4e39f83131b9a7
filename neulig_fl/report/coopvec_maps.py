"""CoopVec Maps over training, as tables and figures show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ends(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first and the last map of each training; one where there is but one.

    Example:
        >>> maps = [{"stage": "a", "group": "A", "epoch": epoch} for epoch in (1, 2, 3)]
        >>> [found["epoch"] for found in ends({"coopvec_maps": maps})]
        [1, 3]
    """
    found = []
    for course in courses(report):
        found += [course[0], course[-1]] if len(course) > 1 else course
    return found


def courses(report: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The maps of each training, in the order of its epochs."""
    kept: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in report["coopvec_maps"]:
        kept.setdefault((each["stage"], each["group"]), []).append(each)
    return list(kept.values())


def own_entries(found: Mapping[str, Any], task_of: Mapping[str, str]) -> Sequence[float | None]:
    """The map's diagonal: each task's entry of the expert that was trained on it.

    Args:
        found: a map.
        task_of: each expert's task.

    Returns:
        One a task; None where no expert in the map is of it, the sum where several are.

    Example:
        >>> found = {"tasks": ["a", "b"], "experts": ["x", "y"], "values": [[0.9, 0.1], [0.4, 0.6]]}
        >>> own_entries(found, {"x": "a", "y": "b"})
        [0.9, 0.6]
    """
    entries: list[float | None] = []
    for task, values in zip(found["tasks"], found["values"], strict=True):
        own = [v for e, v in zip(found["experts"], values, strict=True) if task_of.get(e) == task]
        entries.append(sum(own) if own else None)
    return entries
