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


class Comparison(Part):
    """A method minus NeuLig, paired by query, percentage points."""

    method: Text
    granularity: Granularity
    variant: Variant
    versus: Literal["neulig"]
    quantity: Literal["merge_accuracy", "ensemble_accuracy"]
    difference: Points
    ci95: Interval


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
