"""The whole of report.json: one run and one seed, from the scenario to the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from neulig_fl.report.parts.portland import CoopvecMap, Portland
from neulig_fl.report.parts.privacy import Privacy
from neulig_fl.report.parts.stages import RowKey, Stage, StageComparison
from neulig_fl.report.parts.values import (
    Accuracy,
    Count,
    Fault,
    Group,
    NotNegative,
    Part,
    Sha256,
    Text,
    Version,
    contradicted,
    repeated,
    same,
)


class SeedsScenario(Part):
    """Which scenario was run."""

    name: Text
    hash: Sha256 = Field(description="of the validated scenario without its seeds")
    file: Text | None = Field(None, description="name of the file that it was given in")
    overrides: list[Text] = Field(
        [], description="what replaced the file's values before the run, as `key.sub=value`"
    )


class Scenario(SeedsScenario):
    """Which scenario was run, and with which seed."""

    seed: int


class Versions(Part):
    """The server's software."""

    neulig_fl: Text
    flwr: Text
    torch: Text
    open_clip: Text
    python: Text
    numpy: Text


class Seconds(Part):
    """Wall-clock seconds by part of the run."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NotNegative] = Field(init=False)

    total: NotNegative


class Expert(Part):
    """What only a simulation can know: an expert's accuracy on its own task's evaluation set."""

    client: Text
    task: Text
    group: Group
    origin: Literal["shared", "diverse"]
    accuracy: Accuracy
    n_train: Count | None = Field(description="null where the expert came as a checkpoint")
    n_eval: Count = Field(description="evaluation queries")


class Reference(Part):
    """Ground truth that only a simulation can know."""

    experts: list[Expert]
    reason: Text | None = Field(description="why there is no expert")


class Signer(Part):
    """A client's public key."""

    key: Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$")]
    pinned: bool = Field(description="false: trusted as it was first seen")


class Ledger(Part):
    """How far the ledgers go; without a run's id and keys where no client said hello."""

    entries: Count
    head: Text | None
    verified: bool = Field(description="the chain and every client's signature")
    run: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] = Field(
        default_factory=str, description="the run's random id, in every entry"
    )
    trust: dict[str, Signer] = Field(
        default_factory=dict,
        description="the public key of each client that said hello, by its name",
    )


class RunReport(Part):
    """One run and one seed.

    Accuracies are percentages, gaps percentage points, shares 0 to 1. Null is never 0.
    """

    model_config = ConfigDict(title="neulig-fl report.json, schema version 1")

    schema_version: Version
    scenario: Scenario
    versions: Versions
    engine: Text = Field(description="local, simulation or deployment")
    seconds: Seconds
    peak_rss_bytes: Count = Field(description="largest resident memory of the server's process")
    notes: list[Text] = Field(description="where this run departs from the paper")
    reference: Reference
    stages: list[Stage] = Field(min_length=1)
    stage_comparisons: list[StageComparison] = Field(
        description="each stage minus the first and the last before it that have accuracies",
    )
    coopvec_maps: list[CoopvecMap]
    portland: Portland | None
    privacy: Privacy
    ledger: Ledger

    def contradictions(self) -> Iterator[Fault]:
        """A stage's name is unique, and a difference between two stages is that of their rows."""
        for name, times in repeated([stage.name for stage in self.stages]):
            yield ("stages",), f"{name!r} stands there {times} times; a stage's name is unique"
        for at, found in enumerate(self.stage_comparisons):
            now = self._accuracy(found.stage, found.row, found.quantity)
            before = self._accuracy(found.versus, found.versus_row, found.versus_quantity)
            expected = None if now is None or before is None else now - before
            if not same(found.difference, expected):
                place = ("stage_comparisons", at, "difference")
                yield place, f"{found.difference} is not the difference of its rows, {expected}"

    def _accuracy(self, stage: str, row: RowKey, quantity: str) -> float | None:
        """The average of a result; None where there is none."""
        for result in (r for s in self.stages if s.name == stage for r in s.results):
            if (result.method, result.granularity, result.variant) == row and result.average:
                found: float | None = getattr(result.average, quantity)
                return found
        return None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Held here for all parts, so that no contradiction hides another."""
        found = [*self.all_contradictions()]
        if found:
            raise contradicted(*found)
        return self
