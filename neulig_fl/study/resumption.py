"""Going on with a run that was broken off: the same scenario, the same keys, the same results.

What is finished is not run again: seeds with a report, stages that were kept. The rest goes on as
if nothing had happened, since every random choice follows from the seed and a name, and the clients
are asked for nothing that they gave before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neulig_fl.config.scenario import dumped
from neulig_fl.core import regular_files, unfinished_runs
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import sweep
from neulig_fl.core.run_folders import (
    ERROR_FILE,
    SCENARIO_FILE,
    STARTED_FILE,
    STATE_FILE,
    UNFINISHED,
    read_overrides,
)
from neulig_fl.ledger import manifest
from neulig_fl.report import Report, contract, summary
from neulig_fl.runtime import engines, machine
from neulig_fl.runtime.node_config import RESUMED
from neulig_fl.server import unfinished
from neulig_fl.study.checking import open_scenario
from neulig_fl.study.runs import Given, Kept, Show, Whole, compose, each_seed, go_through, run_seed


def is_done(folder: Path) -> bool:
    """Whether a run has all its reports."""
    return any((folder / name).is_file() for name in (contract.FILE_NAME, summary.FILE_NAME))


def opened(folder: Path) -> Whole:
    """A run as it was begun.

    Args:
        folder: of the run; held (`resumed_folder`).

    Raises:
        InputError: no run was begun there, or its scenario was changed since.
    """
    said = unfinished_runs.read_started(folder)
    try:
        scenario, engine, name = (str(said[key]) for key in ("scenario", "engine", "file"))
        keys, stores = (
            None if said[k] is None else Path(said[k]) for k in ("server_keys", "stores")
        )
        kept = Kept(keys, stores, bool(said["with_reference"]))
    except (KeyError, TypeError) as error:
        file = folder / STARTED_FILE
        raise InputError(f"{file}: is not as a run writes it; begin the run anew") from error
    engines.load(engine)
    read = open_scenario(folder / SCENARIO_FILE)
    machine.require(read.scenario.resources, read.name)
    given = Given(scenario, name, tuple(read_overrides(folder)))
    return Whole(read, given, engine, kept)


def resume(whole: Whole, folder: Path, show: Show | None = None) -> list[Report]:
    """Go on with a run; its reports, one for every seed, in order.

    Args:
        whole: what `opened` gave.
        folder: of the run; held (`resumed_folder`).
        show: takes progress events.

    Raises:
        InputError: a file of the run was cut or changed, or a seed of it failed; nothing was run.
        RunError: the run failed.
    """
    return each_seed(whole, folder, lambda seed, own: _seed(whole, seed, own, show))


def _seed(whole: Whole, seed: int, folder: Path, show: Show | None) -> Report:
    """The report of one seed: as it is, or of what goes on, or of a run from the beginning."""
    if (folder / contract.FILE_NAME).is_file():
        return Report.load(folder)
    if all((folder / name).is_file() for name in (manifest.OUTCOME, manifest.FILE)):
        unfinished_runs.erase(folder)
        return compose(whole, seed, whole.job(seed, folder), 0.0)
    if (folder / UNFINISHED / STATE_FILE).is_file():
        return _go_on(whole, seed, folder, show)
    if any((folder / name).is_file() for name in (ERROR_FILE, manifest.FILE)):
        raise InputError(
            f"{folder}: the run failed, and what failed is not resumed; begin it anew with "
            f"`neulig-fl run {folder / SCENARIO_FILE}`"
        )
    return run_seed(whole, seed, folder, show)


def _go_on(whole: Whole, seed: int, folder: Path, show: Show | None) -> Report:
    one, file = whole.of(seed), folder / "scenario.json"
    with unfinished_runs.alone_in(folder / UNFINISHED):
        if not file.is_file() or regular_files.read(file) != dumped(one).encode():
            raise InputError(
                f"{file}: is not what {SCENARIO_FILE} says; a run goes on with its own scenario"
            )
        unfinished.check(folder, one, whole.kept.keys_of_server)
    sweep(folder)
    return go_through(whole, seed, replace(whole.job(seed, folder), begin=RESUMED), show)
