"""The whole of study.json: one scenario in several cases, over several seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from neulig_fl.report.parts.seeds import SeedsResult, Spread
from neulig_fl.report.parts.stages import Quantity
from neulig_fl.report.parts.values import (
    Count,
    Epsilon,
    Fault,
    Granularity,
    Group,
    NotNegative,
    Part,
    Seeds,
    Sha256,
    Text,
    Texts,
    Variant,
    Version,
    contradicted,
    repeated,
    same,
)

Word = Annotated[
    Literal["more", "less", "not-shown", "one-seed", "missing"],
    Field(
        description="more, less: the interval excludes 0; not-shown: it does not; one-seed: there "
        "is no interval; missing: a seed lacks one of the two accuracies"
    ),
]


class Base(Part):
    """The scenario from which every case starts."""

    file: Text = Field(description="as the study's file names it")
    name: Text
    hash: Sha256 = Field(description="of the scenario without its seeds")
    clients: Texts


class Case(Part):
    """One case, and how its scenario differs from the base."""

    name: Text
    overrides: list[Text] = Field(
        description="KEY=VALUE, as --set takes them, the point of the grid included; empty: the "
        "base as it is"
    )
    varied: dict[str, JsonValue] = Field(description="the point of the grid, by key")
    scenario_hash: Sha256


class Run(Part):
    """One run: a case and a seed."""

    case: Text
    seed: int
    folder: Text = Field(description="from the study's folder; it has report.json and report.md")
    state: Literal["done", "failed"]
    reason: Text | None = Field(description="why it failed")
    seconds: NotNegative | None
    trained: Count | None = Field(description="experts that were not in the cache")
    verified: bool | None = Field(description="its ledger: the chain and every signature")

    def contradictions(self) -> Iterator[Fault]:
        """A failed run has a reason, and nothing else has one."""
        if (self.state == "failed") is (self.reason is None):
            yield ("reason",), f"{self.reason!r} does not go with the state {self.state}"


class TaskSpread(Part):
    """One task of a result."""

    task: Text
    merge_accuracy: Spread
    ensemble_accuracy: Spread


class CaseResult(SeedsResult):
    """One method at one granularity, in one stage of one case, over the seeds."""

    case: Text
    stage: Text
    group: Group
    tasks: list[TaskSpread]
    bytes: Count | None = Field(description="that the result needed, the most of a seed")
    seconds: NotNegative | None = Field(description="mean over the seeds that have it")
    experts: list[Text] = Field(description="clients whose experts were mixed in every seed")
    reason: Text | None = Field(description="why a seed has no figures, the first one's")


class Released(Part):
    """One kind of record under one protection, and who released it."""

    kind: Text
    protection: Text
    queries: list[Text] = Field(description="query sets; empty where the record answers none")
    clients: Texts = Field(description="that released it in a seed")
    bytes: Count = Field(description="of one client, the most of a client and seed")
    epsilon: Epsilon


class Bytes(Part):
    """Bytes that a client had released: the least and the most of a client and seed."""

    least: Count
    most: Count


class Headline(Part):
    """The row that speaks for a stage, and its accuracies over the seeds."""

    method: Text
    granularity: Granularity
    variant: Variant
    label: Text = Field(description="the row's name as tables print it")
    quantity: Quantity = Field(description="the joint model's accuracy")
    accuracy: Spread = Field(description="that quantity: what a table prints and sentences compare")
    merge_accuracy: Spread
    ensemble_accuracy: Spread
    gap_of_means: Spread


class CaseStage(Part):
    """One stage of one case: what was released until its end, and what it came to."""

    case: Text
    stage: Text
    group: Group
    last: bool = Field(description="the case's last stage that has an accuracy")
    headline: Headline | None = Field(description="null where no row has an accuracy")
    given: list[Text] = Field(description="kinds released in the stage, in words, with by whom")
    without: list[Text] = Field(description="clients that the headline lacks in a seed")
    released: list[Released] = Field(description="in this stage")
    released_so_far: list[Released] = Field(description="in this stage and those before it")
    bytes_so_far: Bytes
    epsilon_so_far: Epsilon = Field(description="of the client that spent most, the most of a seed")
    refusals: Count = Field(description="records refused or missing, over all seeds")
    seeds: list[int] = Field(description="whose runs reached the stage")


class CaseComparison(Part):
    """An accuracy of one case minus one of the case `versus`, paired by seed, percentage points."""

    case: Text
    stage: Text
    quantity: Quantity
    versus_case: Text
    versus_stage: Text
    versus_quantity: Quantity
    last: bool = Field(description="both are their case's last stage that has an accuracy")
    joint: bool = Field(description="both quantities are those of their stages' joint models")
    difference: Spread = Field(description="values: a seed's difference; ci95: Student's t")
    word: Word


class StudyReport(Part):
    """study.json: one scenario in several cases, over several seeds.

    Accuracies are percentages, differences percentage points. Null is never 0. A mean is over all
    seeds: where one lacks the figure it is null, and `values` has those of the others.
    """

    model_config = ConfigDict(title="neulig-fl study.json, schema version 1")

    schema_version: Version
    name: Text
    question: Text | None
    hash: Sha256 = Field(description="of the study's name, its cases' scenarios, and its seeds")
    base: Base
    seeds: Seeds
    versus: Text = Field(description="the case that others are compared with")
    vary: list[Text] = Field(description="keys of the grid")
    versions: list[Text] = Field(description="of neulig-fl that made the runs")
    engines: list[Text] = Field(description="that made the runs")
    rule: Text = Field(description="when a sentence says more or less")
    answers: list[Text] = Field(description="the study in sentences")
    cases: list[Case] = Field(min_length=1)
    runs: list[Run] = Field(min_length=1)
    results: list[CaseResult]
    stages: list[CaseStage]
    comparisons: list[CaseComparison] = Field(description="of every other case with it")

    def contradictions(self) -> Iterator[Fault]:
        """Each case and seed has one run, and every other part is of a case that there is."""
        cases = [case.name for case in self.cases]
        for name, times in repeated(cases):
            yield ("cases",), f"{name!r} stands there {times} times; a case's name is unique"
        if self.versus not in cases:
            yield ("versus",), f"{self.versus!r} is none of {', '.join(cases)}"
        expected = {(case, seed) for case in cases for seed in self.seeds}
        if {(run.case, run.seed) for run in self.runs} != expected or len(self.runs) != len(
            expected
        ):
            yield ("runs",), "are not one for each case and seed"
        for key in ("results", "stages", "comparisons"):
            for at, part in enumerate(getattr(self, key)):
                if part.case not in cases:
                    yield (key, at, "case"), f"{part.case!r} is none of {', '.join(cases)}"
        yield from self._spread_faults()

    def _spread_faults(self) -> Iterator[Fault]:
        """Every figure has one value a seed, and its mean is theirs."""
        for key, figures in (
            ("results", ("merge_accuracy", "ensemble_accuracy", "gap_of_means")),
            ("comparisons", ("difference",)),
        ):
            for at, part in enumerate(getattr(self, key)):
                for figure in figures:
                    spread = getattr(part, figure)
                    values = [value for value in spread.values if value is not None]
                    whole = len(values) == len(spread.values) == len(self.seeds)
                    mean = sum(values) / len(values) if whole and values else None
                    if len(spread.values) != len(self.seeds) or not same(spread.mean, mean):
                        yield (
                            (key, at, figure),
                            "is not one value a seed with their mean, null where one lacks it",
                        )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Held here for all parts, so that no contradiction hides another."""
        found = [*self.all_contradictions()]
        if found:
            raise contradicted(*found)
        return self
