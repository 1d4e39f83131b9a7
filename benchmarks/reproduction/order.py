"""The order of the methods by merge accuracy, and what the seeds can tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from neulig_fl.report import figures
from reproduction.over_seeds import DECIMALS, ENOUGH, Method, Values, interval, minus, spread_of

SIMPLE = "simple-average"
EXPECTED = ("task-arithmetic", "ties", "regmean", "adamerging")
"""Of these it is said whether they beat simple averaging."""

SIGNIFICANT, NOT_SIGNIFICANT, TOO_FEW = "significant", "not significant", "too few seeds"


@dataclass(frozen=True)
class Place:
    """A method in the order.

    Args:
        method: that stands there.
        ahead: its merge accuracy minus that of the next one, by seed; None for the last.
    """

    method: Method
    ahead: Values | None


def mean_merge(method: Method) -> float | None:
    """The mean over seeds of the average merge accuracy; None where a seed has none."""
    found = spread_of(method.average("merge_accuracy"))
    return found["mean"] if found else None


def ranked(methods: Sequence[Method]) -> list[Place]:
    """The methods that have a merge accuracy in every seed, the best first.

    Of equal ones the first stays first.
    """
    means = [(mean, method) for method in methods if (mean := mean_merge(method)) is not None]
    found = [m for _, m in sorted(means, key=lambda each: -round(each[0], DECIMALS))]
    merge = [method.average("merge_accuracy") for method in found]
    ahead = [minus(one, other) for one, other in pairwise(merge)]
    return [Place(m, a) for m, a in zip(found, [*ahead, None][: len(found)], strict=True)]


def verdict(difference: Values) -> str:
    """Whether a difference is significant: its interval excludes 0.

    Example:
        >>> verdict((1.0, 1.1, 0.9)), verdict((1.0, -1.0, 0.5)), verdict((1.0, 1.1))
        ('significant', 'not significant', 'too few seeds')
    """
    ends = interval(difference)
    if ends is None:
        return TOO_FEW
    return NOT_SIGNIFICANT if ends[0] <= 0.0 <= ends[1] else SIGNIFICANT


def simple_average(methods: Sequence[Method]) -> Method | None:
    """The row that the others are set against."""
    return next((method for method in methods if method.name == SIMPLE), None)


def over_simple(method: Method, methods: Sequence[Method]) -> Values:
    """A method's merge accuracy minus simple averaging's, by seed."""
    base = simple_average(methods)
    own = method.average("merge_accuracy")
    return minus(own, base.average("merge_accuracy")) if base else (None,) * len(own)


def against_simple(methods: Sequence[Method]) -> list[str]:
    """A sentence for each method of `EXPECTED`: whether it beats simple averaging."""
    there = {method.name for method in methods}
    absent = [name for name in EXPECTED if name not in there]
    found = [_beats(m, methods) for name in EXPECTED for m in methods if m.name == name]
    return [*found, *([f"Not in this scenario: {', '.join(absent)}."] if absent else [])]


def _beats(method: Method, methods: Sequence[Method]) -> str:
    difference = over_simple(method, methods)
    found = spread_of(difference)
    if found is None:
        return f"{method.label}: the difference to {SIMPLE} is not available."
    mean = found["mean"]
    said = f"{figures.signed(mean)} points"
    side = "above" if mean > 0.0 else "below" if mean < 0.0 else "equal to"
    ends = interval(difference)
    if ends is None:
        seeds = f"{len(difference)} seed" + ("s" if len(difference) > 1 else "")
        few = f"{seeds}: an interval needs {ENOUGH}"
        return f"{method.label} is {side} {SIMPLE}: {said} ({few})."
    said += f", interval {figures.interval(ends)}"
    if verdict(difference) == NOT_SIGNIFICANT:
        return f"{method.label} does not differ significantly from {SIMPLE}: {said}."
    words = "beats" if mean > 0.0 else "does not beat"
    more = "" if mean > 0.0 else ", it is below"
    return f"{method.label} {words} {SIMPLE}{more}: {said}."
