"""What a scenario can say of its stages: what is shared, how it is protected, what is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from neulig_fl.config.protection import Protection
from neulig_fl.config.values import (
    WITHOUT_QUERIES,
    Clip,
    Count,
    KindName,
    Number,
    QuerySet,
    Section,
    Several,
    Slug,
    Step,
    unique,
)

Group = Literal["A", "B"]
Granularity = Literal["sample", "batch-first", "task", "global"]


EXAMPLES = 256
"""Training images that a statistic is measured on (RegMean, Fisher merging), unless given."""


class Share(Section):
    """One kind of record that a stage asks every client for."""

    kind: KindName = Field(description="Kind of record.")
    queries: Annotated[tuple[QuerySet, ...], AfterValidator(unique)] = Field(
        (),
        description="Query sets that are answered. Outputs: pool and evaluation unless given; "
        "inputs: train; offset-sum and parameters have none.",
    )
    fraction: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0,
        description="Share of the queries that is answered; of a trimmed-task-vector, share of its "
        "numbers that is kept, the largest ones.",
    )
    protection: Protection = Field(
        Protection("none"),
        description="What is done to a record before it leaves: a name, or a mapping of it to its "
        "options.",
        json_schema_extra={"default": "none"},
    )
    examples: Count | None = Field(
        None,
        description="gram and fisher: training images that they are measured on, at most; 256 "
        "unless given.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_queries(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "queries" in data:
            return data
        kind = data.get("kind")
        default = ["train"] if kind == "inputs" else ["pool", "evaluation"]
        none = isinstance(kind, str) and kind in WITHOUT_QUERIES
        return {**data, "queries": [] if none else default}


class Stage(Section):
    """A part of the scenario with its own share policy."""

    name: Slug = Field(description="Name of the stage; no two stages share one.")
    group: Group = Field("A", description="Whose experts take part: those of this half.")
    share: tuple[Share, ...] = Field((), description="What every client is asked for.")
    run: Annotated[tuple[Step, ...], AfterValidator(unique)] = Field(
        (), description="What the server then does, in this order."
    )
    granularity: Several[Granularity] = Field(
        ("sample",), description="How finely `merge` mixes parameters; each gives a result."
    )


class SecureAggregationOptions(Section):
    """How secure sums are made: on a grid of whole numbers, under masks that cancel."""

    threshold: Count | None = Field(
        None,
        description="Clients that must stay to the end of a sum: 3 or more, and more than half; "
        "null: two thirds, rounded up. Below it nothing is summed.",
    )
    clip: Clip = Field(
        64.0,
        description="Largest absolute entry of a client's features, logits or parameters; a client "
        "with a larger one takes no part. The grid is as fine as this allows.",
    )
