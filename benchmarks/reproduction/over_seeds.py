"""A method's figures over seeds, and what their differences say; paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neulig_fl.metrics.intervals import Spread, spread
from neulig_fl.report import figures, rows

ENOUGH = 3
"""From so many seeds on an interval over seeds is given."""

DECIMALS = 9
"""Of a difference: what is smaller comes from adding floats, not from a query."""

Values = tuple[float | None, ...]
"""One figure a seed; None where the seed has none."""


@dataclass(frozen=True)
class Method:
    """One method of a stage.

    Args:
        results: the report's result of each seed; None where the report has no such result.
    """

    results: tuple[Mapping[str, Any] | None, ...]

    @property
    def known(self) -> list[Mapping[str, Any]]:
        """The results that there are."""
        return [result for result in self.results if result is not None]

    @property
    def name(self) -> str:
        """The method, without granularity and variant."""
        return str(self.known[0]["method"])

    @property
    def granularity(self) -> str | None:
        """How finely NeuLig mixes; None for the others."""
        found: str | None = self.known[0]["granularity"]
        return found

    @property
    def label(self) -> str:
        """How the report's tables call it."""
        return rows.called(self.known[0])

    @property
    def kind(self) -> str:
        """NeuLig, a merge method or a control."""
        if self.name == "neulig":
            return "NeuLig"
        return "control" if self.name in rows.CONTROLS else "merge method"

    @property
    def status(self) -> str:
        """In words; with a count where the seeds differ."""
        found = [result["status"] if result else "not there" for result in self.results]
        counts = {status: found.count(status) for status in found}
        words = {status: status.replace("-", " ") for status in counts}
        if len(counts) == 1:
            return words[found[0]]
        each = ", ".join(f"{words[status]} in {count}" for status, count in counts.items())
        return f"{each} of {len(found)} seeds"

    def average(self, figure: str) -> Values:
        """One of the averages over tasks."""
        averages = [result and result["average"] for result in self.results]
        return tuple(average[figure] if average else None for average in averages)

    def task(self, name: str) -> Values:
        """The merge accuracy on one task."""
        tasks = [{t["task"]: t for t in r["tasks"]} if r else {} for r in self.results]
        return tuple(of[name]["merge_accuracy"] if name in of else None for of in tasks)

    def taken(self, figure: str) -> Values:
        """Seconds or bytes, of the seeds in which there is something to show."""
        return tuple(r[figure] if r and r["status"] == "ok" else None for r in self.results)


def methods(stages: Sequence[Mapping[str, Any]]) -> list[Method]:
    """The methods of one stage in the order of the report's tables.

    Args:
        stages: the stage as each seed has it.
    """
    found: dict[tuple[str, str | None, str | None], list[Mapping[str, Any] | None]] = {}
    for at, stage in enumerate(stages):
        for result in rows.ordered(stage["results"]):
            key = (result["method"], result["granularity"], result["variant"])
            found.setdefault(key, [None] * len(stages))[at] = result
    first = [{"method": key[0], "of": Method(tuple(results))} for key, results in found.items()]
    return [each["of"] for each in rows.ordered(first)]


def spread_of(values: Values) -> Spread | None:
    """Mean, sd and Student interval; None where a seed lacks the figure."""
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def interval(values: Values) -> tuple[float, float] | None:
    """The 95 % Student interval; None with fewer seeds than `ENOUGH`.

    Example:
        >>> interval((1.0, 2.0)), interval((1.0, 1.0, 1.0))
        (None, (1.0, 1.0))
    """
    found = spread_of(values)
    return found["ci95"] if found and len(values) >= ENOUGH else None


def gap_interval(method: Method) -> Sequence[float] | None:
    """Of the gap of means, over seeds; of a single seed the run's own, over its queries."""
    if len(method.results) > 1:
        return interval(method.average("gap_of_means"))
    average = method.known[0]["average"]
    own: Sequence[float] | None = average["gap_of_means_ci95"] if average else None
    return own


def minus(one: Values, other: Values) -> Values:
    """Differences, seed by seed."""
    return tuple(
        None if a is None or b is None else round(a - b, DECIMALS)
        for a, b in zip(one, other, strict=True)
    )


def shown(values: Values, signed: bool = False) -> str:
    """The mean, with the standard deviation where there are several seeds.

    Example:
        >>> shown((91.0, 92.0, 93.0)), shown((1.25,), signed=True), shown((1.0, None))
        ('92.00 +- 1.00', '+1.25', '-')
    """
    found = spread_of(values)
    if found is None:
        return figures.NULL
    mean = figures.signed(found["mean"]) if signed else figures.number(found["mean"])
    return mean if found["sd"] is None else f"{mean} +- {figures.number(found['sd'])}"
