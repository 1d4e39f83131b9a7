"""Portland as it was trained, and the CoopVec Maps that it gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from neulig_fl.report.parts.values import (
    Accuracy,
    AtLeastOne,
    Count,
    Fault,
    Group,
    NotNegative,
    Part,
    Positive,
    Text,
    Texts,
)

_ROUNDING = 1e-3  # of a row's sum in float32


class Epoch(Part):
    """One epoch of Portland's training."""

    epoch: Count
    loss: float
    boosting: float
    alignment: float | None
    accuracy: Accuracy | None
    effective_experts: Positive | None


class Portland(Part):
    """Null where no stage trained Portland."""

    experts: Texts
    outputs: Literal["features", "logits"]
    objective: Literal["supervised", "semi"]
    objective_on: Literal["ensemble", "merge", "both"] = Field(
        description=("whose predictions the boosting term was computed on; the paper's is ensemble")
    )
    queries: Literal["pool", "evaluation", "train"]
    alignment: Literal["paper", "code", "none"]
    alpha: float
    beta: float
    parameters: Count = Field(description="trained parameters")
    seconds: NotNegative
    samples_per_second: NotNegative
    trajectory: list[Epoch]
    transductive: bool = Field(description="trained on the inputs on which accuracy is measured")


class Histograms(Part):
    """How the CoopVec entries are distributed over [0, 1]."""

    bins: AtLeastOne
    counts: list[list[list[Count]]] = Field(description="(tasks, experts, bins)")


class CoopvecMap(Part):
    """The typical CoopVec of each task's queries."""

    stage: Text
    group: Group
    epoch: Count = Field(description="epochs that Portland had been trained for")
    estimator: Text = Field(description="how the peak of a distribution was found")
    tasks: Texts
    experts: Texts
    values: list[list[NotNegative]] = Field(description="(tasks, experts); each row sums to 1")
    raw_sums: list[NotNegative] = Field(
        description="(tasks,); the sum of each row's peaks before it was normalised"
    )
    histograms: Histograms | None

    def contradictions(self) -> Iterator[Fault]:
        """Arrays have the shapes that the names say, and rows are normalised."""
        tasks, experts = len(self.tasks), len(self.experts)
        if not _is_shaped(self.values, tasks, experts):
            yield ("values",), f"not {tasks} tasks x {experts} experts"
        elif any(abs(math.fsum(row) - 1.0) > _ROUNDING for row in self.values):
            yield ("values",), "a row does not sum to 1"
        if len(self.raw_sums) != tasks:
            yield ("raw_sums",), f"{len(self.raw_sums)} values for {tasks} tasks"
        if self.histograms is not None:
            counts, bins = self.histograms.counts, self.histograms.bins
            whole = _is_shaped(counts, tasks, experts)
            if not whole or any(len(entry) != bins for row in counts for entry in row):
                yield (
                    ("histograms", "counts"),
                    f"not {tasks} tasks x {experts} experts x {bins} bins",
                )


def _is_shaped(table: list[list[float]] | list[list[list[int]]], rows: int, columns: int) -> bool:
    return len(table) == rows and all(len(row) == columns for row in table)
