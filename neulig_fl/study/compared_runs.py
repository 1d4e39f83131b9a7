"""Reads the runs that are compared: reports, scenario and kept predictions of every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neulig_fl.config import yaml_source
from neulig_fl.core.errors import InputError
from neulig_fl.core.run_folders import SCENARIO_FILE, state
from neulig_fl.ledger import manifest
from neulig_fl.metrics import predictions
from neulig_fl.metrics.evaluation import TaskScore, percent
from neulig_fl.metrics.predictions import Predictions
from neulig_fl.report import contract, summary
from neulig_fl.report.parts.values import same

Result = Mapping[str, Any]


@dataclass(frozen=True)
class SeedRun:
    """One seed of a run.

    Args:
        folder: of the seed.
        report: its report, validated.
    """

    folder: Path
    report: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Its seed."""
        found: int = self.report["scenario"]["seed"]
        return found

    @property
    def keeps_predictions(self) -> bool:
        """Whether the run kept its predictions; those of earlier versions did not."""
        return (self.folder / manifest.PREDICTIONS).is_file()

    @cached_property
    def predictions(self) -> Predictions | None:
        """What it predicted; None where it kept nothing.

        Raises:
            InputError: the file is cut off, or not what a run writes.
        """
        if not self.keeps_predictions:
            return None
        return predictions.read(self.folder / manifest.PREDICTIONS)

    def scores(self, stage: str, result: Result) -> dict[str, TaskScore] | None:
        """What a result's row predicted, by task; None where that was not kept.

        Raises:
            InputError: the predictions are not those of the report.
        """
        if self.predictions is None:
            return None
        key = (result["method"], result["granularity"], result["variant"])
        found = {s.task: s for s in self.predictions.scores.get(stage, {}).get(key, ())}
        for task in result["tasks"]:
            score = found.get(task["task"])
            if score is None or not (
                same(task["merge_accuracy"], percent(score.merge_right))
                and same(task["ensemble_accuracy"], percent(score.ensemble_right))
            ):
                raise InputError(
                    f"{self.folder / manifest.PREDICTIONS}: does not give the accuracies of "
                    f"{contract.FILE_NAME} beside it; see `neulig-fl verify`, and copy the run's "
                    "folder again"
                )
        return found


@dataclass(frozen=True)
class ReadRun:
    """A run that is compared.

    Args:
        folder: as it was named.
        scenario: the effective one, as plain data.
        seeds: one or more, in the run's order.
    """

    folder: Path
    scenario: Mapping[str, Any]
    seeds: tuple[SeedRun, ...]

    @property
    def ids(self) -> set[str]:
        """The ids of its runs, one a seed."""
        return {str(s.report["ledger"].get("run") or s.folder.resolve()) for s in self.seeds}

    @property
    def tasks(self) -> list[str]:
        """The tasks that its results have, in their order."""
        return list(
            dict.fromkeys(
                task["task"]
                for seed in self.seeds
                for stage in seed.report["stages"]
                for result in stage["results"]
                for task in result["tasks"]
            )
        )


def read(folders: Sequence[Path]) -> list[ReadRun]:
    """Read the runs of some folders.

    Args:
        folders: two or more, each a run's, or that of one of its seeds.

    Raises:
        InputError: fewer than two; a folder without a run or with one that has not ended; one run
            twice; a file that cannot be read.
    """
    if len(folders) < 2:
        raise InputError(
            "compare: takes two runs or more; `neulig-fl report RUN` prints one, and "
            "`neulig-fl runs` lists those there are"
        )
    found: list[ReadRun] = []
    for folder in folders:
        run = _read(folder)
        twin = next((other for other in found if other.ids & run.ids), None)
        if twin is not None:
            raise InputError(
                f"{folder}: is the run of {twin.folder}, or a copy or a seed of it; name each run "
                "once"
            )
        found.append(run)
    return found


def _read(folder: Path) -> ReadRun:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name the folder of a run")
    if (folder / summary.FILE_NAME).is_file():
        seeds = [folder / f"seed-{seed}" for seed in summary.read(folder)["seeds"]]
    elif (state(folder) or ("", ""))[0] == "running":
        raise InputError(f"{folder}: the run goes on; compare it when it has ended")
    else:
        seeds = [folder]
    runs = tuple(SeedRun(each, contract.read(each)[0]) for each in seeds)
    return ReadRun(folder, _scenario(folder, runs[0].seed), runs)


def _scenario(folder: Path, seed: int) -> Mapping[str, Any]:
    """The effective scenario; of one seed, that of all of them with its seed."""
    places = [folder, folder.parent] if folder.name.startswith("seed-") else [folder]
    file = next((each / SCENARIO_FILE for each in places if (each / SCENARIO_FILE).is_file()), None)
    if file is None:
        raise InputError(
            f"{folder}: has no {SCENARIO_FILE}, which says what was run; copy the whole folder of "
            "the run"
        )
    said = dict(yaml_source.read(file).data)
    if file.parent != folder:
        said.pop("seeds", None)
        said["seed"] = seed
    return said
