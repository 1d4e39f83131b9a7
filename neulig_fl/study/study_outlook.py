"""What a study would do: runs that are left, experts to be trained, and an estimate of the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from neulig_fl.core.errors import InputError, plain
from neulig_fl.core.run_folders import RUNS
from neulig_fl.report import contract, figures, tables
from neulig_fl.study import studies, study_experts
from neulig_fl.study.study_files import OpenedStudy
from neulig_fl.study.study_results import trained_experts

MOST_READ = 50
"""Earlier runs that are looked at for an estimate, the latest ones."""

NOTHING_KNOWN = "no earlier run is at hand from which the time could be estimated"


@dataclass(frozen=True)
class Pace:
    """How long things took in earlier runs on this machine, in seconds.

    Args:
        by_case: of a scenario's runs by its hash, the preparation of experts left out.
        usual: of all those runs.
        expert: of training one expert; None where none was trained.
    """

    by_case: Mapping[str, float]
    usual: float
    expert: float | None


@dataclass(frozen=True)
class CaseOutlook:
    """What is left of one case.

    Args:
        name: of the case.
        overrides: how it differs from the base.
        left: seeds whose runs are not finished.
        seconds: estimate of these runs without training; None where nothing is known.
    """

    name: str
    overrides: Sequence[str]
    left: Sequence[int]
    seconds: float | None


@dataclass(frozen=True)
class StudyOutlook:
    """What a study would do.

    Args:
        study: the study.
        folder: of the study.
        cases: what is left of each.
        experts: how many different ones the runs that are left need.
        shared: of these, how many more than one of the runs need.
        untrained: of these, how many must be trained.
        pace: of earlier runs; None where there are none.
    """

    study: OpenedStudy
    folder: Path
    cases: Sequence[CaseOutlook]
    experts: int
    shared: int
    untrained: int
    pace: Pace | None

    @property
    def left(self) -> int:
        """Runs that are not finished."""
        return sum(len(case.left) for case in self.cases)

    @property
    def seconds(self) -> float | None:
        """Estimate for one run at a time; None where there is nothing to estimate from."""
        if self.pace is None or (self.untrained and self.pace.expert is None):
            return None
        runs = sum(case.seconds or 0.0 for case in self.cases)
        return runs + self.untrained * (self.pace.expert or 0.0)

    def lines(self) -> Iterator[str]:
        """What a user should know, a line each."""
        runs = len(self.study.cases) * len(self.study.seeds)
        seeds = ", ".join(map(str, self.study.seeds))
        source = self.study.written.source.name
        yield f"OK: {plain(source)}: {self.study.name}: {len(self.cases)} cases, seeds {seeds}"
        yield f"Runs: {runs}, {runs - self.left} finished in {plain(self.folder)}, {self.left} left"
        yield (
            f"Experts: {self.experts} for the runs that are left, {self.shared} of them shared by "
            f"several runs; {self.untrained} must be trained, the others are in the cache"
        )
        yield f"Time: {self._time()}"

    def _time(self) -> str:
        if self.seconds is not None:
            return f"about {self.seconds / 60:.1f} minutes, one run at a time, as earlier runs took"
        if self.pace is None:
            return NOTHING_KNOWN
        return "not known: no earlier run trained an expert"

    def table(self) -> Table:
        """A line for each case."""
        table = tables.empty_table(["Case", "Seeds left", "Differs in"], words=3)
        for case in self.cases:
            left = ", ".join(map(str, case.left)) or "none"
            differs = "; ".join(case.overrides) or "nothing"
            table.add_row(Text(case.name), Text(left), Text(figures.plain(differs)))
        return table

    def record(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "study": self.study.name,
            "hash": self.study.hash,
            "folder": str(self.folder),
            "seeds": list(self.study.seeds),
            "cases": [
                {
                    "name": case.name,
                    "overrides": list(case.overrides),
                    "seeds_left": list(case.left),
                    "seconds": case.seconds,
                }
                for case in self.cases
            ],
            "runs_left": self.left,
            "experts": {
                "needed": self.experts, "shared": self.shared, "untrained": self.untrained
            },
            "seconds": self.seconds,
        }  # fmt: skip


def foreseen(study: OpenedStudy, out: str | Path | None = None) -> StudyOutlook:
    """Look at a study, its folder, the cache and earlier runs; nothing is made.

    Args:
        study: the study.
        out: as for `studies.run_study`.

    Raises:
        InputError: a task or a model cannot be opened, or the folder holds runs of another study.
    """
    folder = studies.place(study, out)
    done = studies.finished(study, folder)
    left = [run for run in study.runs if str(run) not in done]
    needed = Counter(file for run in left for file in study_experts.of_run(run))
    pace = _pace(folder)
    cases = []
    for case in study.cases:
        seeds = [run.seed for run in left if run.case is case]
        each = pace.by_case.get(case.opened.scenario.hash, pace.usual) if pace else None
        seconds = None if each is None else len(seeds) * each
        cases.append(CaseOutlook(case.name, case.opened.overrides, seeds, seconds))
    return StudyOutlook(
        study,
        folder,
        cases,
        experts=len(needed),
        shared=sum(count > 1 for count in needed.values()),
        untrained=len(study_experts.missing(needed)),
        pace=pace,
    )


def _pace(folder: Path) -> Pace | None:
    """From reports in the study's folder and in `runs/`."""
    files = [file for place in (folder, RUNS) for file in place.rglob(contract.FILE_NAME)]
    files = sorted(files, key=lambda file: file.stat().st_mtime)[-MOST_READ:]
    by_hash: dict[str, list[float]] = {}
    training, trained = 0.0, 0
    for file in files:
        try:
            report, _ = contract.read(file)
        except InputError:
            continue
        seconds = report["seconds"]
        prepare = seconds.get("prepare", 0.0)
        by_hash.setdefault(report["scenario"]["hash"], []).append(seconds["total"] - prepare)
        now = trained_experts(file.parent)
        training, trained = (training + prepare, trained + now) if now else (training, trained)
    every = [each for found in by_hash.values() for each in found]
    if not every:
        return None
    return Pace(
        {key: sum(found) / len(found) for key, found in by_hash.items()},
        sum(every) / len(every),
        training / trained if trained else None,
    )
