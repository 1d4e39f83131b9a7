"""A study from its file to its report: what is finished stays, what is not is run, and named.

A study's folder holds `study.yaml` (as it was given), a run's folder for each case and seed
(`CASE/seed-N`, as `runs` describes), and at the end `study.json`, `study.md`, `runs.csv` and
`runs.parquet`. What a run that did not end left is moved to `CASE/ended/`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from neulig_fl.config import given_scenario, yaml_source
from neulig_fl.core.errors import InputError, ScenarioError, plain
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.live import Live
from neulig_fl.core.run_folders import STUDIES, put_aside, study_folder
from neulig_fl.report import contract, study_report
from neulig_fl.report.study_report import StudyReport
from neulig_fl.runtime import engines, machine
from neulig_fl.study import one_run, study_experts, study_results
from neulig_fl.study.one_run import OtherProcess
from neulig_fl.study.runs import Show
from neulig_fl.study.study_files import OpenedStudy, StudyRun, open_study
from neulig_fl.study.study_results import Ended

GIVEN = "study.yaml"
"""The study as it was given."""

MOST_JOBS = 256

_POLL = 0.1


def run_study(
    file: str | Path,
    engine: str = "simulation",
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    jobs: int = 1,
    show: Show | None = None,
    *,
    quiet: bool = False,
) -> StudyReport:
    """Run every case of a study with every seed, and return the study's report.

    Runs that are finished in the folder are kept, so that the same call goes on after an
    interruption. A run that fails is named in the report, and the others go on.

    Args:
        file: the study's YAML file.
        engine: `simulation` (Flower on Ray) or `local` (the same apps in one process).
        out: the study's folder; `studies/NAME` below the current folder if not given.
        overrides: what replaces the file's values, by key, as {"seeds": [7, 8]}; or texts as for
            `--set`.
        jobs: how many runs go on at a time, each in a process of its own where it is above 1.
        show: takes progress events, in the place of the display.
        quiet: shows no progress; otherwise it goes to the standard error, or below the cell.

    Raises:
        InputError: the study, a case, or the folder cannot be used; nothing was run.

    Example:
        report = neulig_fl.run_study("scenarios/studies/privacy-stages.yaml", engine="local")
        print(report.frame().groupby("case")["merge_accuracy"].mean())
    """
    engines.load(engine)
    if not isinstance(file, str | Path):
        raise InputError(
            f"study: {type(file).__name__} is no path; give the path of a study's YAML file"
        )
    study = open_study(file, given_scenario.overrides(overrides))
    with nullcontext() if show or quiet else Live() as display:
        return run_opened(study, engine, out, jobs, show or display)


def run_opened(
    study: OpenedStudy,
    engine: str,
    out: str | Path | None = None,
    jobs: int = 1,
    show: Show | None = None,
) -> StudyReport:
    """As `run_study`, of a study that was read."""
    if not 1 <= jobs <= MOST_JOBS:
        raise InputError(f"--jobs {jobs}: allowed: 1 to {MOST_JOBS}")
    for case in study.cases:
        machine.require(case.opened.scenario.resources, study.written.source.name)
    said = show or (lambda _: None)
    with study_folder(place(study, out)) as folder:
        done = finished(study, folder)
        left = [run for run in study.runs if str(run) not in done]
        write_atomically(folder / GIVEN, study.written.source.text, PRIVATE)
        for run in left:
            put_aside(folder / run.folder)
        said({"note": f"{study.name}: {_count(done, left)}, in {plain(folder)}"})
        reasons = _together(folder, left, engine, jobs, said)
        ended = [_ended(folder, run, reasons.get(str(run))) for run in study.runs]
        return study_report.write(study_results.build(study, ended), folder)


def place(study: OpenedStudy, out: str | Path | None) -> Path:
    """The study's folder."""
    return Path(out) if out else STUDIES / study.name


def _count(done: Mapping[str, Any], left: Sequence[StudyRun]) -> str:
    runs = f"{len(left)} run{'' if len(left) == 1 else 's'} to do"
    return f"{len(done)} finished, {runs}" if done else runs


def finished(study: OpenedStudy, folder: Path) -> dict[str, Mapping[str, Any]]:
    """The reports of a study's finished runs, by run.

    A run is finished where a valid report of its very scenario and seed lies in its folder.

    Raises:
        InputError: a report is of another scenario or seed, as the study was changed, or the
            folder is another study's.
    """
    _require_own(study, folder)
    found: dict[str, Mapping[str, Any]] = {}
    others = []
    for run in study.runs:
        try:
            report, path = contract.read(folder / run.folder)
        except InputError:  # none, or half of one
            continue
        scenario = report["scenario"]
        if (scenario["hash"], scenario["seed"]) == (run.case.opened.scenario.hash, run.seed):
            found[str(run)] = report
        else:
            others.append(path)
    if others:
        raise InputError(
            f"{plain(others[0])}: is the report of another scenario than case and seed have now "
            f"({len(others)} such in the study's folder): the study or its base was changed; "
            "choose another --out, or remove the folders of these runs"
        )
    return found


def _require_own(study: OpenedStudy, folder: Path) -> None:
    """See that no study of another name lies in a folder.

    Raises:
        InputError: one does.
    """
    try:
        there = yaml_source.read(folder / GIVEN).data.get("name")
    except ScenarioError:  # no study, or one that nobody can read
        return
    if there != study.name:
        raise InputError(
            f"{plain(folder)}: holds the study {plain(there, 60)}, and this one is {study.name}; "
            "choose another --out"
        )


def _ended(folder: Path, run: StudyRun, reason: str | None) -> Ended:
    own = folder / run.folder
    if reason is not None:
        return Ended(run, None, reason)
    try:
        report, _ = contract.read(own)
    except InputError as error:
        return Ended(run, None, str(error))
    return Ended(run, report, None, study_results.trained_experts(own))


def _together(
    folder: Path, left: Sequence[StudyRun], engine: str, jobs: int, show: Show
) -> dict[str, str]:
    """Run what is left, and return why runs failed, by run."""
    failed: dict[str, str] = {}
    alone = jobs == 1 or len(left) < 2
    ended = (
        _one_by_one(folder, left, engine, show)
        if alone
        else _in_processes(folder, left, engine, jobs, show)
    )
    began = time.monotonic()
    for number, (run, reason) in enumerate(ended, start=1):
        how = "done" if reason is None else f"FAILED: {plain(reason, 300)}"
        minutes = (time.monotonic() - began) / 60
        show({"note": f"{run}: {how} ({number} of {len(left)}, {minutes:.1f} min)"})
        if reason is not None:
            failed[str(run)] = reason
    return failed


def _one_by_one(
    folder: Path, left: Sequence[StudyRun], engine: str, show: Show
) -> Iterator[tuple[StudyRun, str | None]]:
    for run in left:
        show({"note": f"{run}: begins"})
        yield run, one_run.run(run.opened, engine, folder / run.folder, show)


def _in_processes(
    folder: Path, left: Sequence[StudyRun], engine: str, jobs: int, show: Show
) -> Iterator[tuple[StudyRun, str | None]]:
    """Several at a time; two that need the same untrained expert go one after the other."""
    waiting = {run: study_experts.of_run(run) for run in left}
    going: dict[StudyRun, tuple[OtherProcess, frozenset[Path]]] = {}
    try:
        while waiting or going:
            while len(going) < jobs and (run := _next(waiting, going)) is not None:
                training = study_experts.missing(waiting.pop(run))
                show({"note": f"{run}: begins"})
                own = folder / run.folder
                going[run] = OtherProcess.start(run.opened, engine, own), training
            ended = [run for run, (process, _) in going.items() if process.ended]
            for run in ended:
                process, _ = going.pop(run)
                reason = process.reason
                process.end()
                yield run, reason
            if not ended:
                time.sleep(_POLL)
    finally:
        for process, _ in going.values():
            process.process.terminate()  # all at once, before each is waited for
        for process, _ in going.values():
            process.end()


def _next(
    waiting: Mapping[StudyRun, frozenset[Path]],
    going: Mapping[StudyRun, tuple[OtherProcess, frozenset[Path]]],
) -> StudyRun | None:
    """The first run that needs no expert which another one trains now."""
    training = frozenset[Path]().union(*(files for _, files in going.values()))
    for run, files in waiting.items():
        if not study_experts.missing(files) & training:
            return run
    return None
