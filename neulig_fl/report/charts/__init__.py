"""Figures of a report: one file each, which says what is drawn, from which numbers, how to read it.

A file defines `PLACE`, its place on the page, and `figure(report)`: a `Figure`, or None where the
report has nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from neulig_fl.core import variants
from neulig_fl.core.errors import InputError
from neulig_fl.report.charts._figure import Figure

__all__ = ["Figure", "figure", "figures", "names"]

PACKAGE = "neulig_fl.report.charts"


OF_STUDIES = "neulig_fl.report.study_charts"


def names(package: str = PACKAGE) -> list[str]:
    """All figures, in the order of the page.

    Args:
        package: their folder: of runs' reports, or `OF_STUDIES`.
    """
    return sorted(variants.names(package), key=lambda name: _file(package, name).PLACE)


@cache
def _file(package: str, name: str) -> ModuleType:
    return variants.load(package, name, "figure")


def figures(report: Mapping[str, Any], package: str = PACKAGE) -> list[Figure]:
    """Every figure for which the report has numbers, in the order of the page."""
    found = ((name, _file(package, name).figure(report)) for name in names(package))
    return [figure.named(name) for name, figure in found if figure is not None]


def figure(report: Mapping[str, Any], name: str, package: str = PACKAGE) -> Figure:
    """One figure.

    Raises:
        InputError: no figure has this name, or the report has nothing to draw in it.
    """
    found: Figure | None = _file(package, name).figure(report)
    if found is None:
        there = ", ".join(each.name for each in figures(report, package)) or "none"
        raise InputError(f"the report has nothing for figure {name!r}; it has {there}")
    return found.named(name)
