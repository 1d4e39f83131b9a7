"""A stage: its results, how they compare with NeuLig's, and what left the clients for them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neulig_fl.report.parts.results import Result
from neulig_fl.report.parts.values import (
    Count,
    Epsilon,
    Granularity,
    Group,
    Interval,
    Options,
    Part,
    Points,
    Sha256,
    Share,
    Text,
    Variant,
)

Quantity = Literal["merge_accuracy", "ensemble_accuracy"]
RowKey = tuple[str, str | None, str | None]
"""Method, granularity, variant."""


class Comparison(Part):
    """A method minus NeuLig, paired by query, percentage points."""

    method: Text
    granularity: Granularity
    variant: Variant
    versus: Literal["neulig"]
    quantity: Quantity
    difference: Points
    ci95: Interval


class StageComparison(Part):
    """A stage's accuracy minus an earlier stage's, paired by query, percentage points.

    Both are accuracies of the row that speaks for its stage (`headline`).
    """

    stage: Text
    method: Text
    granularity: Granularity
    variant: Variant
    quantity: Quantity
    versus: Text = Field(description="the earlier stage")
    versus_method: Text
    versus_granularity: Granularity
    versus_variant: Variant
    versus_quantity: Quantity
    difference: Points
    ci95: Interval

    @property
    def row(self) -> RowKey:
        """The stage's row."""
        return self.method, self.granularity, self.variant

    @property
    def versus_row(self) -> RowKey:
        """The earlier stage's row."""
        return self.versus_method, self.versus_granularity, self.versus_variant


class Release(Part):
    """A record that left a client."""

    client: Text
    kind: Text
    queries: Text | None = Field(description="the query set; null where the record answers none")
    protection: Text
    rows: Count = Field(description="rows of the record")
    bytes: Count = Field(description="payload as protected, before framing")
    sha256: Sha256
    epsilon: Epsilon
    delta: Share | None
    adjacency: Text | None


class Refusal(Part):
    """A record that a client did not release, and why."""

    client: Text
    kind: Text
    reason: Text


class Stage(Part):
    """What was computed in one stage, and from what."""

    name: Text
    group: Group
    results: list[Result]
    comparisons: list[Comparison]
    releases: list[Release] = Field(description="each record that left a client in this stage")
    refusals: list[Refusal]
    audits: list[Options]
