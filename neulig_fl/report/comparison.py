"""Runs beside one another: what their scenarios differ in, and what that changed, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neulig_fl.report import figures, rows, timeline
from neulig_fl.report.headline import MODELS

RULE = (
    f"{timeline.RULE} With several seeds the interval is Student's t over the differences of the "
    "seeds instead."
)


@dataclass(frozen=True)
class ComparedRun:
    """A run that is compared.

    Attributes:
        folder: as it was named.
        scenario: its name.
        seeds: those that are compared.
        predictions: whether every one of them kept its predictions.
    """

    folder: str
    scenario: str
    seeds: tuple[int, ...]
    predictions: bool


@dataclass(frozen=True)
class Setting:
    """A key in which scenarios differ.

    Attributes:
        key: its place, as `stages.merging.share`; what a list holds goes by its name, or number.
        values: of each run; None where it has no such key.
    """

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """One accuracy minus that of the first run.

    Attributes:
        value: percentage points.
        ci95: its interval, percentage points; None where there is none.
        over: what the interval is over.
        reason: why there is no interval; one clause.
    """

    value: float
    ci95: tuple[float, float] | None
    over: Literal["queries", "seeds"] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Cell:
    """A run's accuracy.

    Attributes:
        value: percent, the mean over the compared tasks (and seeds); None where there is none.
        versus_first: None for the first run, and where either has no accuracy.
    """

    value: float | None
    versus_first: Difference | None = None


@dataclass(frozen=True)
class Line:
    """One accuracy of one method in a stage, run by run.

    Attributes:
        method, granularity, variant: the result.
        quantity: `merge_accuracy` or `ensemble_accuracy`.
        cells: one a run.
    """

    method: str
    granularity: str | None
    variant: str | None
    quantity: str
    cells: tuple[Cell, ...]

    @property
    def label(self) -> str:
        """The method's name in a table."""
        return rows.label(self.method, self.granularity, self.variant)


@dataclass(frozen=True)
class Speaker:
    """The row that speaks for a run's stage (`headline`), with its joint model's accuracy.

    Attributes:
        label: the method's name in a table.
        quantity: which accuracy is the joint model's.
        cell: that accuracy.
    """

    label: str
    quantity: str
    cell: Cell


@dataclass(frozen=True)
class ComparedStage:
    """A stage of the first run beside its counterparts.

    Attributes:
        names: of the stage in each run; None where a run has no counterpart.
        released: bytes that a client had released at its end, the least and the most.
        epsilon: the largest of a client by then; None where nothing was noised.
        speakers: one a run; None where it has no joint model.
        lines: every other accuracy, in the order of the tables.
    """

    names: tuple[str | None, ...]
    released: tuple[tuple[int, int] | None, ...]
    epsilon: tuple[float | str | None, ...]
    speakers: tuple[Speaker | None, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Its name; the names, where runs call it otherwise."""
        return " / ".join(dict.fromkeys(name for name in self.names if name))


@dataclass(frozen=True)
class Comparison:
    """Runs beside one another; the first is what the others are compared with.

    Attributes:
        runs: two or more.
        settings: what their scenarios differ in.
        tasks: the tasks that all of them have, over which accuracies are averaged.
        stages: in the order of the first run, then those that it does not have.
        notes: what is not compared, one sentence each.
    """

    runs: tuple[ComparedRun, ...]
    settings: tuple[Setting, ...]
    tasks: tuple[str, ...]
    stages: tuple[ComparedStage, ...]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The comparison for programs, as plain JSON values."""
        found: dict[str, Any] = _plain(asdict(self))
        return {"schema_version": 1, "rule": RULE, **found}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def name(number: int) -> str:
    """What a run is called in tables, by its place from 0.

    Example:
        >>> name(0)
        'run 1'
    """
    return f"run {number + 1}"


def sentences(found: Comparison) -> list[str]:
    """What changed from the first run to the others, a sentence for each stage and run.

    Args:
        found: the comparison.
    """
    said = [figures.plain(each) for stage in found.stages for each in _of_stage(stage)]
    return said or ["No stage of two runs has an accuracy to compare."]


def _of_stage(stage: ComparedStage) -> Iterator[str]:
    first = stage.speakers[0]
    for number, speaker in enumerate(stage.speakers[1:], start=1):
        if first is None or speaker is None or speaker.cell.versus_first is None:
            continue
        yield (
            f"{stage.title}: {name(number)}, {_words(speaker)}: "
            f"{_changed(speaker.cell.versus_first)} {name(0)}, {_words(first)}."
        )


def _words(speaker: Speaker) -> str:
    side = MODELS[speaker.quantity]
    return f"{speaker.label}, {side} {figures.number(speaker.cell.value)} %"


def _changed(found: Difference) -> str:
    """A difference in words, by `RULE`; without an interval neither more nor less is said."""
    if found.ci95 is None:
        return f"{figures.signed(found.value)} points, without an interval, from"
    words = timeline.difference({"difference": found.value, "ci95": found.ci95})
    return words.replace("]", "] over seeds", 1) if found.over == "seeds" else words


def reasons(found: Comparison) -> list[str]:
    """Why differences have no interval, a sentence a reason with the runs that it holds for."""
    grouped: dict[str, dict[int, None]] = {}
    for stage in found.stages:
        cells = [(n, s.cell) for n, s in enumerate(stage.speakers) if s]
        cells += [(n, cell) for line in stage.lines for n, cell in enumerate(line.cells)]
        for number, cell in cells:
            if cell.versus_first is not None and cell.versus_first.reason is not None:
                grouped.setdefault(cell.versus_first.reason, {})[number] = None
    return [
        f"No interval for {' and '.join(name(each) for each in sorted(numbers))}: {reason}."
        for reason, numbers in grouped.items()
    ]
