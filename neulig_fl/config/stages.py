"""What a scenario can say of its stages: what is shared, how it is protected, what is run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from neulig_fl.config.protection import Protection
from neulig_fl.config.values import (
    SUMS,
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
        description="Query sets of the record. Defaults: pool and evaluation for outputs, train "
        "for inputs; offset-sum and parameters have none.",
    )
    fraction: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0,
        description="Fraction of the queries; for a trimmed-task-vector, fraction of its entries "
        "that is kept, those of largest magnitude, at most 0.99.",
    )
    protection: Protection = Field(
        Protection("none"),
        description="What is done to a record before it leaves: a name, or a mapping of it to its "
        "options.",
        json_schema_extra={"default": "none"},
    )
    examples: Count | None = Field(
        None,
        description="gram and fisher: maximum number of training images on which they are "
        "computed; null: 256.",
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

    @property
    def in_sums(self) -> bool:
        """Whether the server is to learn sums of the records, and no single one."""
        return self.protection.name in SUMS


class Stage(Section):
    """A part of the scenario with its own share policy."""

    name: Slug = Field(description="Unique name of the stage.")
    group: Group = Field("A", description="The group whose experts take part.")
    share: tuple[Share, ...] = Field((), description="The records requested from every client.")
    run: Annotated[tuple[Step, ...], AfterValidator(unique)] = Field(
        (), description="The steps that the server then executes, in order."
    )
    granularity: Several[Granularity] = Field(
        ("sample",), description="Granularities of `merge`; each gives a result."
    )

    def summed(self, kind: str, queries: str | None = None) -> Share | None:
        """The entry of `share` under which sums of a kind of record can be asked for, if any.

        Args:
            kind: kind of record.
            queries: the query set; None for kinds without queries.
        """
        fitting = (s for s in self.share if s.kind == kind and queries in (s.queries or (None,)))
        return next((share for share in fitting if share.in_sums), None)


class SecureAggregationOptions(Section):
    """How secure sums are made: on a grid of whole numbers, under masks that cancel."""

    threshold: Count | None = Field(
        None,
        description="Minimum number of clients that must complete a sum: 3 or more, and more than "
        "half; null: two thirds, rounded up. Below it there is no sum.",
    )
    clip: Clip = Field(
        64.0,
        description="Maximum absolute value of an entry of a client's vector; a client that "
        "exceeds it does not take part. It determines the resolution of the fixed-point grid.",
    )
