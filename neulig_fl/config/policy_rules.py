"""What a policy can say: strict, frozen models of its YAML, in a scenario or in a file of its own.

A policy is data: what may leave, with which protection, and how much in all. How policies are read
and what they allow stands in `records.policy_layers`, how releases add up in `records.budgets`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from neulig_fl.config.values import (
    Count,
    Delta,
    Digest,
    Epsilon,
    KindName,
    Moment,
    Number,
    ProtectionName,
    QuerySet,
    Section,
    Several,
    Text,
    unique,
)


class AllowRule(Section):
    """One kind of record that may leave, and how."""

    kind: KindName = Field(description="Kind of record.")
    queries: Several[QuerySet] | None = Field(
        None, description="The only query sets that may be answered; null: any."
    )
    fraction: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0,
        description="Largest share of a query set that may be answered, or of a task vector's "
        "numbers that may be kept.",
    )
    protections: Several[ProtectionName] | None = Field(
        None,
        description="What has to be done to the record: one of these; null: anything, none too.",
    )


class Limits(Section):
    """How much of one expert may leave in all: over stages, runs, kinds and query sets."""

    max_rows: Count | None = Field(
        None,
        description="Most rows of answers to queries, and of training inputs; every new release "
        "counts, also of the same queries in another kind, fraction or protection. null: no limit.",
    )
    max_bytes: Count | None = Field(
        None, description="Most bytes of all records, as they leave. null: no limit."
    )
    max_epsilon: Epsilon | None = Field(
        None,
        description="Largest epsilon of all releases together, at max_delta; a record without "
        "noise has none that is finite, so it is refused. null: no limit.",
    )
    max_delta: Delta = Field(
        1e-5,
        description="Largest delta that noise may be asked for; max_epsilon is judged at it, "
        "whatever delta a stage says.",
    )
    max_leverage: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.5,
        description="Largest leverage of a record within the sums that it goes into; at 1 the sums "
        "give it away.",
    )
    min_group_size: Annotated[Count, Field(ge=2)] | None = Field(
        None,
        description="Fewest clients in a sum that a record goes into; by their weights, (sum of "
        "|w|)^2 / sum of w^2, so that a client with little weight counts little. null: any.",
    )
    max_sums: Count = Field(
        64,
        description="Most sums of vectors of one expert that tell of one another: of the same "
        "images' answers, and of its parameters; sums under the same weights count as well.",
    )
    max_runs: Count | None = Field(
        None,
        description="Most runs that may begin for as long as the client's store lasts; each begins "
        "with the first stage, and may bring other images by value. null: no limit.",
    )
    not_after: Moment | None = Field(
        None,
        description="A date, through its end in UTC, or a date-time with its zone; afterwards "
        "everything is refused. null: no end.",
    )


class Policy(Section):
    """A client's own rules; they beat what any stage asks for."""

    preset: Text | None = Field(
        None,
        description="Rules that hold besides these: the name of a preset, or the path of a policy "
        "file of your own.",
        examples=["outputs-only", "my-policy.yaml"],
    )
    allow: Annotated[tuple[AllowRule, ...], AfterValidator(unique)] | None = Field(
        None,
        description="All that may leave, []: nothing. Left out: what the stages share.",
    )
    never: tuple[KindName, ...] = Field(
        (), description="Kinds of record that never leave the client."
    )
    only: tuple[KindName, ...] | None = Field(
        None, description="The only kinds of record that may leave it; null: no such limit."
    )
    limits: Limits = Field(Limits(), description="How much may leave in all, and until when.")
    scenarios: tuple[Digest, ...] | None = Field(
        None,
        description="Hashes of the scenarios whose runs may begin, as `neulig-fl check --hash` "
        "prints them; for a node's own policy file. null: any.",
    )


def is_policy_file(preset: str) -> bool:
    """Tell whether a `preset` is the path of a file, not a name.

    Example:
        >>> is_policy_file("outputs-only"), is_policy_file("my.yaml"), is_policy_file("./mine")
        (False, True, True)
    """
    return preset.endswith((".yaml", ".yml")) or any(mark in preset for mark in "/\\~")
