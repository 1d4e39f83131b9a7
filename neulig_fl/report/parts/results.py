"""A result: one method at one granularity, over tasks and on average, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field

from neulig_fl.report.parts.values import (
    Accuracy,
    AtLeastOne,
    Count,
    Fault,
    Granularity,
    Interval,
    NotNegative,
    Options,
    Part,
    Points,
    Positive,
    Share,
    Text,
    Variant,
    same,
)

_NULL = {"type": "null"}
_REASON_WHERE_NULL: dict[str, Any] = {
    "if": {
        "anyOf": [
            {"properties": {"merge_accuracy": _NULL}},
            {"properties": {"ensemble_accuracy": _NULL}},
        ]
    },
    "then": {"properties": {"reason": {"type": "string"}}},
}
"""What `Task.contradictions` says of its reason, in the words of JSON Schema."""


class Task(Part):
    """One task's figures."""

    model_config = ConfigDict(json_schema_extra=_REASON_WHERE_NULL)

    task: Text
    n: AtLeastOne = Field(description="evaluation queries")
    merge_accuracy: Accuracy | None
    ensemble_accuracy: Accuracy | None
    gap: Points | None
    gap_ci95: Interval | None
    agreement: Share | None = Field(
        description="share of the queries on which merge and ensemble predict the same class"
    )
    effective_experts: Positive | None = Field(description="mean of exp(H(beta)) over the queries")
    interior: Share | None = Field(
        description="share of the queries whose largest CoopVec entry is below 0.9"
    )
    reason: Text | None = Field(
        description="why a figure is null; needed where an accuracy is null"
    )

    def contradictions(self) -> Iterator[Fault]:
        """The gap is a difference, and an accuracy is not null for no reason."""
        yield from _gap_faults(self.gap, "gap", self)
        if self.reason is None and None in (self.merge_accuracy, self.ensemble_accuracy):
            yield (
                ("reason",),
                "None is not of type 'string', as is needed where an accuracy is null",
            )


class Equivalence(Part):
    """Two one-sided tests at 5 %."""

    margin_pp: Positive = Field(description="percentage points")
    ci90: Interval
    verdict: Literal["equivalent", "different", "inconclusive"]


class Average(Part):
    """Unweighted over the tasks; null where a task's figure is."""

    merge_accuracy: Accuracy | None
    ensemble_accuracy: Accuracy | None
    gap_of_means: Points | None
    gap_of_means_ci95: Interval | None
    mean_absolute_gap: Annotated[float, Field(ge=0, le=100)] | None = Field(
        description="percentage points"
    )
    equivalence: Equivalence | None

    def contradictions(self) -> Iterator[Fault]:
        """The gap is a difference."""
        yield from _gap_faults(self.gap_of_means, "gap_of_means", self)


def _gap_faults(gap: float | None, key: str, figures: Task | Average) -> Iterator[Fault]:
    merge, ensemble = figures.merge_accuracy, figures.ensemble_accuracy
    expected = None if merge is None or ensemble is None else merge - ensemble
    if not same(gap, expected):
        yield (key,), f"{gap} is not merge minus ensemble accuracy, {expected}"


class Grouping(Part):
    """What merging.tolerance changed; null where it moved no CoopVec, or nothing was merged."""

    tolerance: float = Field(
        gt=0, lt=1, description="the most that an entry of a CoopVec may have moved by"
    )
    queries: AtLeastOne = Field(description="queries that were merged")
    networks: AtLeastOne = Field(description="different merged models that they got")
    checked: AtLeastOne = Field(
        description="queries, drawn at random, that were merged exactly as well"
    )
    largest_output_change: NotNegative = Field(
        description="on those, over the largest absolute entry of the exact outputs"
    )
    changed_predictions: Count = Field(
        description="of those, queries that exact merging gives another class"
    )

    def contradictions(self) -> Iterator[Fault]:
        """A part is no more than its whole."""
        for part, whole in (
            ("networks", "queries"), ("checked", "queries"), ("changed_predictions", "checked"),
        ):  # fmt: skip
            count, most = getattr(self, part), getattr(self, whole)
            if count > most:
                yield (part,), f"{count} is more than {whole}, {most}"


class Tried(Part):
    """Options that were tried."""

    options: Options
    pool_accuracy: Accuracy


class Settings(Part):
    """How a merge method was set; null for NeuLig and the controls."""

    needs: Text = Field(description="what it needs released, and at the merger")
    options: Options = Field(description="every option, defaults too")
    tried: list[Tried] = Field(
        description="what was tried on the labelled pool, in order; empty where nothing was tuned"
    )
    extension: Text | None = Field(
        description="how the method's rule is extended to this model; null where it is not"
    )


class _AnyResult(Part):
    """What a result has, whether it has figures or not."""

    method: Text = Field(description='"neulig", a control, or a merge method\'s name')
    granularity: Granularity
    variant: Variant
    seconds: NotNegative | None
    peak_rss_bytes: Count | None
    bytes: Count | None = Field(description="payload bytes that this result needed")
    experts: list[Text] = Field(description="the clients whose experts were mixed")
    settings: Settings | None


class ComputedResult(_AnyResult):
    """One method at one granularity."""

    status: Literal["ok"]
    reason: Text | None = Field(description="why the status is not ok")
    tasks: list[Task] = Field(min_length=1)
    average: Average
    grouping: Grouping | None

    def contradictions(self) -> Iterator[Fault]:
        """The average is the tasks' mean; null where one of theirs is."""
        for key in ("merge_accuracy", "ensemble_accuracy"):
            found = getattr(self.average, key)
            values = [getattr(task, key) for task in self.tasks]
            mean = None if None in values else math.fsum(values) / len(values)
            if not same(found, mean):
                yield ("average", key), f"{found} is not the tasks' mean, {mean}"


class MissingResult(_AnyResult):
    """A result that there is not."""

    status: Literal["not-permitted", "failed"]
    reason: Text = Field(description="why the status is not ok")
    tasks: list[Task] = Field(max_length=0)
    average: None
    grouping: None


Result = Annotated[ComputedResult | MissingResult, Discriminator("status")]
