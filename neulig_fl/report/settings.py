"""How a stage's merge methods were set, before any layout: options, what was tried, extensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neulig_fl.report import figures, rows

HEAD = ("Method", "Needs", "Options", "Chosen")

FIXED = "fixed"


def table_rows(stage: Mapping[str, Any]) -> list[list[str]]:
    """A line for each merge method of a stage, under `HEAD`; none where there is no method."""
    return [
        [
            rows.called(result),
            result["settings"]["needs"],
            options(result["settings"]["options"]) or figures.NULL,
            _chosen(result["settings"]["tried"]),
        ]
        for result in _set(stage)
    ]


def sentences(stage: Mapping[str, Any]) -> list[str]:
    """What of the methods' settings a reader must not miss: what was tuned, what is extended."""
    found = [
        f"{rows.called(result)}: {_tuned(result['settings'])}"
        for result in _set(stage)
        if result["settings"]["tried"]
    ]
    extended: dict[str, list[str]] = {}
    for result in _set(stage):
        words = result["settings"]["extension"]
        if words:
            extended.setdefault(words, []).append(rows.called(result))
    return found + [f"{', '.join(of)}: extension: {words}" for words, of in extended.items()]


def options(chosen: Mapping[str, Any]) -> str:
    """Options in words.

    Example:
        >>> options({"lambda": 0.3, "then": "ties", "k": None})
        'lambda 0.3, then ties, k none'
    """
    return ", ".join(f"{figures.plain(key)} {_shown(value)}" for key, value in chosen.items())


def _set(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [result for result in rows.ordered(stage["results"]) if result["settings"]]


def _chosen(tried: Sequence[Mapping[str, Any]]) -> str:
    if not tried:
        return FIXED
    each = [f"{options(t['options'])}: {figures.number(t['pool_accuracy'])}" for t in tried]
    return f"by accuracy on the labelled pool: {'; '.join(each)}"


def _tuned(found: Mapping[str, Any]) -> str:
    keys = list(found["tried"][0]["options"])
    best = options({key: found["options"][key] for key in keys})
    count = figures.count(len(found["tried"]))
    return f"{best}, the best of {count} by accuracy on the labelled pool"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else figures.plain(str(value).lower())
