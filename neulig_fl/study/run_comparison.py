"""Compares runs: what their scenarios differ in, and their accuracies, paired where they can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.config.differences import MISSING, differences
from neulig_fl.core.errors import InputError, plain
from neulig_fl.metrics import evaluation
from neulig_fl.metrics.intervals import spread
from neulig_fl.metrics.predictions import Key
from neulig_fl.report import rows, timeline
from neulig_fl.report.comparison import (
    Cell,
    ComparedRun,
    ComparedStage,
    Comparison,
    Difference,
    Line,
    Setting,
    Speaker,
    name,
)
from neulig_fl.report.figures import mean
from neulig_fl.report.headline import QUANTITIES, headline, quantity
from neulig_fl.study import compared_runs
from neulig_fl.study.compared_runs import ReadRun, Result, SeedRun

NO_COMMON_SEED = "the runs have no seed in common"
Names = tuple[str | None, ...]


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare runs with the first of them.

    An accuracy is the mean over the tasks that all runs have, and over seeds. With one seed each, a
    difference is paired by query, where both runs answered the same images with the same labels and
    kept their predictions; with several, it is paired by seed.

    Args:
        folders: of two runs or more.

    Raises:
        InputError: what `compared_runs.read` raises; or the runs have no task in common.
    """
    runs = compared_runs.read(folders)
    notes: list[str] = []
    tasks = _shared_tasks(runs, notes)
    pairing = _Pairing(tasks, *_shared_seeds(runs, notes))
    stages = [pairing.stage(names) for names in _matched(pairing.runs, notes)]
    told = [
        ComparedRun(
            str(run.folder),
            str(run.scenario.get("name")),
            tuple(seed.seed for seed in used),
            all(seed.keeps_predictions for seed in used),
        )
        for run, used in zip(runs, pairing.runs, strict=True)
    ]
    settings = [
        Setting(key, tuple(None if value is MISSING else value for value in values))
        for key, values in differences([run.scenario for run in runs])
    ]
    return Comparison(tuple(told), tuple(settings), tuple(tasks), tuple(stages), tuple(notes))


# ---------------------------------------------------------------- what is compared


def _shared_tasks(runs: Sequence[ReadRun], notes: list[str]) -> list[str]:
    """The tasks that all runs have, in the first one's order."""
    shared = [task for task in runs[0].tasks if all(task in run.tasks for run in runs)]
    if not shared:
        each = "; ".join(f"{run.folder}: {', '.join(run.tasks) or 'none'}" for run in runs)
        raise InputError(
            f"compare: the runs have no task with an accuracy in common ({each}); compare runs of "
            "the same tasks"
        )
    left = {task: None for run in runs for task in run.tasks if task not in shared}
    if left:
        notes.append(
            f"Accuracies are means over the tasks that all runs have ({', '.join(shared)}); not "
            f"compared: {', '.join(left)}."
        )
    return shared


def _shared_seeds(
    runs: Sequence[ReadRun], notes: list[str]
) -> tuple[list[tuple[SeedRun, ...]], bool]:
    """The seeds that are compared, run by run, and whether they can be paired."""
    every = [run.seeds for run in runs]
    numbers = [[seed.seed for seed in seeds] for seeds in every]
    if all(len(seeds) == 1 for seeds in every):
        if len({each[0] for each in numbers}) > 1:
            notes.append(
                f"The seeds differ ({', '.join(str(each[0]) for each in numbers)}): an interval "
                "over queries does not tell how much another seed's training changes."
            )
        return every, True
    shared = [seed for seed in numbers[0] if all(seed in each for each in numbers)]
    if not shared:
        notes.append("The runs have no seed in common: each one's mean is over its own seeds.")
        return every, False
    left = {seed: None for each in numbers for seed in each if seed not in shared}
    if left:
        notes.append(
            f"Compared are the seeds that all runs have ({_listed(shared)}); not compared: "
            f"{_listed([*left])}."
        )
    return [tuple(s for n in shared for s in seeds if s.seed == n) for seeds in every], True


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _matched(runs: Sequence[tuple[SeedRun, ...]], notes: list[str]) -> list[Names]:
    """The stages that are compared: by name, those that are left by their order."""
    names = [[stage["name"] for stage in seeds[0].report["stages"]] for seeds in runs]
    partners = [_partners(names[0], each) for each in names[1:]]
    found: list[Names] = [
        (first, *(each.get(first) for each in partners)) for first in dict.fromkeys(names[0])
    ]
    for number, (partner, theirs) in enumerate(zip(partners, names[1:], strict=True), start=1):
        for more in theirs:
            if more not in partner.values():
                found.append(tuple(more if n == number else None for n in range(len(runs))))
        renamed = [f"{one} and {other}" for one, other in partner.items() if one != other]
        if renamed:
            notes.append(
                f"Stages of {name(0)} and {name(number)} that are called otherwise are matched by "
                f"their order: {'; '.join(renamed)}."
            )
    return found


def _partners(first: Sequence[str], other: Sequence[str]) -> dict[str, str]:
    """Of one run's stages the counterparts in another."""
    found = {each: each for each in first if each in other}
    rest = [each for each in first if each not in found]
    theirs = [each for each in other if each not in found]
    found |= dict(zip(rest, theirs, strict=False))
    return {each: found[each] for each in first if each in found}


# ---------------------------------------------------------------- accuracies


@dataclass(frozen=True)
class _Place:
    """Which accuracy of a run: its stage, the row's key, the side."""

    stage: str
    key: Key
    quantity: str

    def result(self, seed: SeedRun) -> Result | None:
        """The row in one seed's report; None where it has none with accuracies."""
        return next((r for r in _results(seed, self.stage) if _key(r) == self.key), None)


@dataclass(frozen=True)
class _Pairing:
    """Runs that are compared with the first.

    Args:
        tasks: over which accuracies are averaged.
        runs: the seeds that are compared of each.
        paired: whether the n-th seeds of all runs belong together.
    """

    tasks: list[str]
    runs: Sequence[tuple[SeedRun, ...]]
    paired: bool

    def stage(self, names: Names) -> ComparedStage:
        """One stage beside its counterparts."""
        speaking = [
            None if of is None else _speaker(seeds[0], of)
            for of, seeds in zip(names, self.runs, strict=True)
        ]
        places = [None if each is None else each[0] for each in speaking]
        speakers = [
            None if each is None else Speaker(each[1], each[0].quantity, cell)
            for each, cell in zip(speaking, self._cells(places), strict=True)
        ]
        released = [self._given(number, of) for number, of in enumerate(names)]
        return ComparedStage(
            names,
            tuple(None if each is None else each[0] for each in released),
            tuple(None if each is None else each[1] for each in released),
            tuple(speakers),
            tuple(self._lines(names)),
        )

    def _lines(self, names: Names) -> Iterator[Line]:
        """Every accuracy that some run has of the stage."""
        there: dict[Key, Result] = {}
        for of, seeds in zip(names, self.runs, strict=True):
            for result in () if of is None else _results(seeds[0], of):
                there.setdefault(_key(result), result)
        for result in rows.ordered([*there.values()]):
            for side in QUANTITIES:
                key = _key(result)
                cells = self._cells([None if of is None else _Place(of, key, side) for of in names])
                if any(cell.value is not None for cell in cells):
                    yield Line(*key, side, cells)

    def _cells(self, places: Sequence[_Place | None]) -> tuple[Cell, ...]:
        """One accuracy of each run, and its difference to that of the first."""
        values = [self._values(number, place) for number, place in enumerate(places)]
        first, base = places[0], values[0]
        found = [Cell(mean(base))]
        for number, (place, own) in enumerate(zip(places[1:], values[1:], strict=True), start=1):
            if place is None or first is None or not base or not own:
                found.append(Cell(mean(own)))
            elif self.paired and len(own) == 1:
                found.append(Cell(own[0], self._by_query(number, first, place, own[0] - base[0])))
            elif self.paired:
                each = spread([a - b for a, b in zip(own, base, strict=True)])
                found.append(Cell(mean(own), Difference(each["mean"], each["ci95"], "seeds")))
            else:
                apart = math.fsum(own) / len(own) - math.fsum(base) / len(base)
                found.append(Cell(mean(own), Difference(apart, None, None, NO_COMMON_SEED)))
        return tuple(found)

    def _values(self, number: int, place: _Place | None) -> list[float]:
        """What every compared seed of a run has, percent; nothing where one has none."""
        if place is None:
            return []
        each = [self._of_seed(seed, place) for seed in self.runs[number]]
        known = [value for value in each if value is not None]
        return known if len(known) == len(each) else []

    def _of_seed(self, seed: SeedRun, place: _Place) -> float | None:
        result = place.result(seed)
        tasks = {} if result is None else {t["task"]: t[place.quantity] for t in result["tasks"]}
        return mean([tasks.get(task) for task in self.tasks])

    def _by_query(self, number: int, first: _Place, place: _Place, apart: float) -> Difference:
        """A run's accuracy minus the first run's, each of one seed.

        Args:
            number: of the run.
            first, place: which accuracies.
            apart: their difference, percentage points.
        """
        (one,), (other,) = self.runs[0], self.runs[number]
        sides = []
        for seed, at, run in ((one, first, 0), (other, place, number)):
            result = at.result(seed)
            scores = None if result is None else seed.scores(at.stage, result)
            if scores is None:
                words = f"{name(run)} kept no predictions; runs of this version keep them"
                return Difference(apart, None, None, words)
            sides.append([scores[task] for task in self.tasks])
        for score, base in zip(sides[1], sides[0], strict=True):
            unlike = _unlike(one, len(base.targets), other, len(score.targets), score.task)
            if unlike is not None:
                return Difference(apart, None, None, unlike)
        found = evaluation.comparison(sides[1], sides[0], place.quantity, first.quantity)
        if found is None:
            return Difference(apart, None, None, "a task has no query")
        low, high = found["ci95"]
        return Difference(found["difference"], (low, high), "queries")

    def _given(
        self, number: int, stage: str | None
    ) -> tuple[tuple[int, int], float | str | None] | None:
        """Bytes of a client by the end of a stage, and the largest epsilon, over the seeds."""
        if stage is None:
            return None
        reports = [seed.report for seed in self.runs[number]]
        lines = [each for r in reports for each in timeline.stage_lines(r) if each.name == stage]
        spent = [
            e["so_far"] for r in reports for e in r["privacy"]["stages"] if e["stage"] == stage
        ]
        sizes = [*itertools.chain.from_iterable(line.bytes for line in lines)]
        known = [each for each in spent if each is not None]
        epsilon = max(known, key=float, default=None)
        return (min(sizes, default=0), max(sizes, default=0)), epsilon


def _unlike(one: SeedRun, n: int, other: SeedRun, m: int, task: str) -> str | None:
    """Why two runs' queries of a task cannot be paired; None where they are the same."""
    shown = plain(task, 60)
    if n != m:
        return f"of task {shown} {n} evaluation queries were answered in one run and {m} in another"
    if one.predictions is None or other.predictions is None:
        return None
    ours, theirs = one.predictions.queries[task, n], other.predictions.queries[task, n]
    if ours.images != theirs.images:
        return f"the evaluation images of task {shown} are not the same"
    if ours.labels != theirs.labels:
        return f"the labels of task {shown}'s evaluation images are not the same"
    return None


def _speaker(seed: SeedRun, stage: str) -> tuple[_Place, str] | None:
    """The joint model's accuracy, and how its method is called."""
    found = headline(_results(seed, stage))
    side = None if found is None else quantity(found)
    if found is None or side is None:
        return None
    return _Place(stage, _key(found), side), rows.called(found)


def _results(seed: SeedRun, stage: str) -> list[Result]:
    """A stage's rows that have accuracies."""
    found = next((each for each in seed.report["stages"] if each["name"] == stage), None)
    return [] if found is None else [r for r in found["results"] if r["average"]]


def _key(row: Mapping[str, Any]) -> Key:
    return row["method"], row["granularity"], row["variant"]
