"""What a run, or all seeds together, cost in differential privacy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from neulig_fl.report.parts.values import Count, Epsilon, Part, Share, Text

Unprotected = Annotated[
    list[Text],
    Field(description="kinds that left without noise, which make epsilon infinite"),
]
Noise = Annotated[
    tuple[
        Annotated[float, Field(ge=1e-100, le=1e9)],
        Annotated[int, Field(ge=1, le=1_000_000_000)],
    ],
    Strict(False),  # JSON has no tuples; the two numbers stay strict
]


class Account(Part):
    """All that has left of one expert."""

    expert: str | None = Field(description="tag of the expert in the client's ledger")
    delta: Share | None
    adjacency: Text | None
    noise: list[Noise] = Field(
        description="pairs: a noise multiplier, and how many releases had it"
    )
    unprotected: Unprotected
    runs: list[str]
    earlier_runs: Count


class Spender(Part):
    """A client, and all that has left of its experts, as it signed it."""

    client: Text
    epsilon: Epsilon
    unprotected: Unprotected
    earlier_runs: Count = Field(
        description="in which the expert of most of them released something"
    )
    runs: list[str] = Field(description="ids of the latest of these")
    experts: list[Account]


class StageCost(Part):
    """What one stage cost."""

    stage: Text
    epsilon: Epsilon = Field(description="of the stage's own new records")
    so_far: Epsilon = Field(description="of all records until its end, earlier runs' included")


class SeedsPrivacy(Part):
    """What all seeds cost in differential privacy; null and empty where nothing was noised."""

    epsilon: Epsilon = Field(description="of the client that spent most")
    delta: Share | None
    adjacency: Text | None
    clients: list[Spender]


class Privacy(SeedsPrivacy):
    """What the run cost in differential privacy; null and empty where nothing was noised."""

    stages: list[StageCost]
