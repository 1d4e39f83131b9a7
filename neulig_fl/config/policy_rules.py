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
    never_null,
    unique,
)


class AllowRule(Section):
    """One kind of record that may leave, and how."""

    kind: KindName = Field(description="Kind of record.")
    queries: Several[QuerySet] | None = Field(
        None, description="The allowed query sets; null: any."
    )
    fraction: Annotated[Number, Field(gt=0, le=1)] = Field(
        1.0,
        description="Maximum fraction of a query set, or of the entries of a trimmed task vector.",
    )
    protections: Several[ProtectionName] | None = Field(
        None,
        description="The allowed protections of the record; null: any, including none.",
    )


class Budgets(Section):
    """How much of one expert may leave in all: over stages, runs, kinds and query sets."""

    max_rows: Count | None = Field(
        None,
        description="Maximum number of rows of outputs and of training inputs; every new release "
        "counts, even of the same queries in another kind, fraction or protection. null: no limit.",
    )
    max_bytes: Count | None = Field(
        None, description="Maximum number of bytes of all records, as sent. null: no limit."
    )
    max_epsilon: Epsilon | None = Field(
        None,
        description="Maximum epsilon of all releases together, at max_delta; a record without "
        "noise has infinite epsilon, so it is refused. null: no limit.",
    )
    max_delta: Delta = Field(
        1e-5,
        description="Maximum delta of a noised record; max_epsilon is evaluated at it, whatever "
        "delta a stage specifies.",
    )
    max_leverage: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.5,
        description="Maximum leverage of a record within its secure sums; at 1 the sums determine "
        "it.",
    )
    min_group_size: Annotated[Count, Field(ge=2)] | None = Field(
        None,
        description="Minimum effective number of clients in a secure sum, (sum of |w|)^2 / sum of "
        "w^2, so that a client with little weight counts little. null: any.",
    )
    max_sums: Count = Field(
        64,
        description="Maximum number of secure sums of related vectors of one expert: outputs on "
        "the same images, and parameters; sums with the same weights count too.",
    )
    max_runs: Count | None = Field(
        None,
        description="Maximum number of runs over the lifetime of the client's store; each begins "
        "with the first stage, and may send other images by value. null: no limit.",
    )
    not_after: Moment | None = Field(
        None,
        description="A date (inclusive, in UTC), or a date-time with a time zone; afterwards no "
        "record leaves and no expert is trained. null: no end.",
    )


class Policy(Section):
    """A client's own rules; they beat what any stage asks for."""

    preset: Text | None = Field(
        None,
        json_schema_extra=never_null,
        description="Additional rules: the name of a preset, or the path of a policy file.",
        examples=["outputs-only", "my-policy.yaml"],
    )
    allow: Annotated[tuple[AllowRule, ...], AfterValidator(unique)] | None = Field(
        None,
        json_schema_extra=never_null,
        description="The records that may leave; []: none. Left out: what the stages share.",
    )
    never: tuple[KindName, ...] = Field(
        (), description="Kinds of record that never leave the client."
    )
    only: tuple[KindName, ...] | None = Field(
        None, description="The only kinds of record that may leave the client; null: any."
    )
    budgets: Budgets = Field(
        Budgets(), description="Budgets on all releases together, and an end date."
    )
    scenarios: tuple[Digest, ...] | None = Field(
        None,
        description="Hashes of the allowed scenarios, as printed by `neulig-fl check --hash`; for "
        "a node's own policy file. null: any.",
    )


def is_policy_file(preset: str) -> bool:
    """Tell whether a `preset` is the path of a file, not a name.

    Example:
        >>> is_policy_file("outputs-only"), is_policy_file("my.yaml"), is_policy_file("./mine")
        (False, True, True)
    """
    return preset.endswith((".yaml", ".yml")) or any(mark in preset for mark in "/\\~")
