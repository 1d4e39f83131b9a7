"""The runs of a scenario, one a seed: finished ones are used again, the others are run."""

from __future__ import annotations

from pathlib import Path

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import InputError, NeuligError
from neulig_fl.core.versions import versions
from neulig_fl.report import Report, contract
from neulig_fl.runtime.engines import LOG
from neulig_fl.study import runs


def obtain(path: Path, read: Scenario, engine: str, folder: Path, show: runs.Show) -> list[Report]:
    """The reports of a scenario, in the order of its seeds.

    Args:
        path: the scenario's file.
        read: what it says.
        engine: under which what is missing is run.
        folder: of all runs.
        show: takes progress events.

    Raises:
        InputError: a report that is there cannot be used.
        RunError: a run failed; finished ones are kept.
    """
    return [_of_seed(path, read, seed, engine, folder, show) for seed in read.all_seeds]


def place(folder: Path, read: Scenario, seed: int) -> Path:
    """The folder of one run; a changed scenario has another one."""
    return folder / read.name / read.hash[:12] / f"seed-{seed}"


def _of_seed(
    path: Path, read: Scenario, seed: int, engine: str, folder: Path, show: runs.Show
) -> Report:
    own = place(folder, read, seed)
    if (own / contract.FILE_NAME).is_file():
        show({"note": f"{path}, seed {seed}: finished before, in {own}"})
        return _finished(own, read, seed)
    show({"note": f"{path}, seed {seed}: {engine} engine, in {own}"})
    try:
        return runs.run(path, engine, own, [f"seed={seed}", "seeds=null"], show)
    except NeuligError as error:
        error.add_note(f"the log of {read.name}, seed {seed}, is {own / LOG}")
        raise


def _finished(own: Path, read: Scenario, seed: int) -> Report:
    """The report of a run's folder, if it is one that would come out now.

    Raises:
        InputError: it is of another scenario, seed or version of what figures depend on.
    """
    report = Report.load(own)
    advice = f"remove {own}, or give another folder with --runs"
    asked = {"name": read.name, "seed": seed, "hash": read.hash}
    if not asked.items() <= report.data["scenario"].items():
        raise InputError(f"{report.path}: is not of {read.name} with seed {seed}; {advice}")
    was, now = report.data["versions"], versions()
    other = [f"{name} {was[name]}, not {now[name]}" for name in now if was[name] != now[name]]
    if other:
        raise InputError(f"{report.path}: was made by {'; '.join(other)}; {advice}")
    return report
