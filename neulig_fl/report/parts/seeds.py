"""The whole of summary.json: one scenario over several seeds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neulig_fl.report.parts.privacy import SeedsPrivacy
from neulig_fl.report.parts.run import SeedsScenario
from neulig_fl.report.parts.values import (
    Granularity,
    NotNegative,
    Part,
    Seeds,
    Text,
    Variant,
    Version,
)


class Spread(Part):
    """One figure over the seeds; null where a seed has none, and sd and ci95 with one seed."""

    mean: float | None
    sd: NotNegative | None
    ci95: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        description="[low, high], Student's t; not cut to the figure's range"
    )
    values: list[float | None] = Field(
        min_length=1, description="one a seed, in the order of `seeds`"
    )


class SeedsResult(Part):
    """One method at one granularity."""

    method: Text
    granularity: Granularity
    variant: Variant
    merge_accuracy: Spread
    ensemble_accuracy: Spread
    gap_of_means: Spread


class SeedsStage(Part):
    """What was computed in one stage."""

    name: Text
    results: list[SeedsResult]


class Summary(Part):
    """summary.json: one scenario over several seeds."""

    schema_version: Version
    scenario: SeedsScenario
    seeds: Seeds
    engine: Text
    notes: list[Text] = Field(
        description="how experts were trained, departures and choices, as in the seeds' reports"
    )
    stages: list[SeedsStage]
    privacy: SeedsPrivacy
