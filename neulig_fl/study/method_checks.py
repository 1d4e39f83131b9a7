"""What a scenario's merge methods must be: their options, what is tuned, and how many experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from neulig_fl.config.methods import MethodEntry
from neulig_fl.config.problems import Problem, quoted
from neulig_fl.config.schema import Scenario
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.merging.method_needs import Needs
from neulig_fl.merging.method_options import settings

MOST_TRIED = 1000
"""Combinations of options that are tried for one method."""


def wrong_methods(scenario: Scenario) -> Iterator[Problem]:
    """Options that a method does not have, and experts that it cannot merge."""
    for index, entry in enumerate(scenario.methods):
        module = variants.load("neulig_fl.merging.methods", entry.name)
        steps = ("methods", index)
        first = scenario.methods.index(entry)
        if first < index:
            what = f"stands there twice (got {quoted(entry.name)}, as in methods.{first})"
            yield Problem(steps, f"{what}; keep one, or give it other options")
        for more, text in (*_wrong_options(module, entry), *_wrong_tuning(module, entry)):
            yield Problem((*steps, *more), text)
        unfit = _unfit(scenario, entry.name, module.NEEDS)
        if unfit is not None:
            yield Problem(steps, unfit)


def _unfit(scenario: Scenario, name: str, needs: Needs) -> str | None:
    """Why a method does not merge these experts, whatever is released."""
    if needs.start and scenario.experts.origin == "diverse":
        return (
            f"{name} needs theta_0, and experts of diverse origin have none (got "
            f"{quoted(name)} with origin: diverse); leave it out, or take experts.origin: shared"
        )
    if needs.experts is not None and len(scenario.clients) != needs.experts:
        have = len(scenario.clients)
        return f"{name} merges {needs.experts} experts (got {have} clients); leave it out"
    return None


def _wrong_options(module: ModuleType, entry: MethodEntry) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in entry.options.items():
        wrong = _wrong(module, {key: value})
        if wrong is not None:
            yield ("options", key), wrong


def _wrong_tuning(
    module: ModuleType, entry: MethodEntry
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    tried = 1
    for key, values in entry.tune.items():
        tried *= len(values)
        if key in entry.options:
            yield ("tune", key), "stands in options as well; keep one of the two"
        if not values:
            yield ("tune", key), "there is nothing to try (got []); give values"
        for place, value in enumerate(values):
            wrong = _wrong(module, {key: value})
            if wrong is not None:
                yield ("tune", key, place), wrong
    if tried > MOST_TRIED:
        yield ("tune",), f"{tried} combinations would be tried; at most {MOST_TRIED} are"


def _wrong(module: ModuleType, option: Mapping[str, Any]) -> str | None:
    try:
        settings(module, option)
    except InputError as error:
        return str(error)
    return None
