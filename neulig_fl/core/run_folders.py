"""Run folders: each run has one of its own, which it holds while it goes on."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from neulig_fl.core import regular_files
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, sweep, write_atomically
from neulig_fl.core.private_folders import WRITE, make_way, require_firm, require_private

RUNS = Path("runs")
STUDIES = Path("studies")
SCENARIO_FILE = "scenario.yaml"
"""The scenario as it is run: with every override and default, and absolute paths."""

GIVEN_FILE, OVERRIDES_FILE = "given.yaml", "overrides.json"
"""The scenario as it was given, and what replaced its values, where something did."""

STARTED_FILE = "started.json"
"""How a run was begun: engine, keys, stores, and the hashes of its scenario's files."""

UNFINISHED, STATE_FILE = "unfinished", "run.json"
"""What a run keeps until it ends, to go on with another process; the file that says which it is."""

RUN_PAGE, STUDY_PAGE = "report.html", "study.html"
"""The page of a run, or of one seed of it, and that of a study."""

ERROR_FILE = "error.json"
"""What ended a run, where an error did."""


@contextmanager
def run_folder(name: str, out: str | Path | None) -> Iterator[Path]:
    """Make the folder of a new run, and hold it within the block.

    Without `out` it is a new folder, whatever other runs start in the same second. With `out` it
    may be there, as that of a run that was interrupted, but no other run may be at work in it.

    Args:
        name: the scenario's name.
        out: the folder; `runs/NAME/TIME` below the current folder if not given.

    Raises:
        InputError: the folder holds an earlier run's report, another run works in it, or it cannot
            be made or written to.
    """
    folder = _given(Path(out), "--out") if out else _new(RUNS / name)
    require_firm(folder / "clients", "run folder")
    with _held(folder, "--out"):
        if any(folder.glob("**/report.json")):
            raise InputError(
                f"--out {folder}: holds the report of an earlier run; choose another folder or "
                "remove that one"
            )
        sweep(folder)
        yield folder


@contextmanager
def study_folder(folder: Path) -> Iterator[Path]:
    """Make a study's folder, and hold it within the block; it may be that of an earlier start.

    Raises:
        InputError: another process works in it, or it cannot be made or written to.
    """
    _given(folder, "--out")
    with _held(folder, "--out"):
        sweep(folder)
        yield folder


def put_aside(folder: Path) -> None:
    """Move what a run that did not end left to `ended/NAME-N` beside it, so that one can begin.

    What clients released in it stays on record there. Nothing is done where nothing is there.

    Args:
        folder: of the run.

    Raises:
        InputError: a process is at work in it.
    """
    if not folder.is_dir():
        return
    with _held(folder, "--out"):
        beside = folder.parent / "ended"
        beside.mkdir(mode=0o700, exist_ok=True)
        names = (beside / f"{folder.name}-{number}" for number in itertools.count(1))
        folder.rename(next(name for name in names if not name.exists()))


@contextmanager
def resumed_folder(folder: Path) -> Iterator[Path]:
    """Hold the folder of a run that was broken off within the block.

    Args:
        folder: of the run.

    Raises:
        InputError: it is no folder, others have a hand in it, or a run is in progress there.
    """
    if not folder.is_dir():
        raise InputError(f"--resume {folder}: no such folder; name the folder of a run")
    if folder.name.startswith("seed-") and (folder.parent / SCENARIO_FILE).is_file():
        raise InputError(
            f"--resume {folder}: is one seed of a run; name the whole run, {folder.parent}"
        )
    _given(folder, "--resume")
    with _held(folder, "--resume"):
        sweep(folder)
        yield folder


def _given(folder: Path, option: str) -> Path:
    try:
        make_way(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be made ({error.strerror})") from error
    require_private(folder, f"{option} folder", WRITE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option} {folder}: cannot be written to; choose another folder")
    return folder


def _new(parent: Path) -> Path:
    """A folder that was not there: named by the time, and by a number where that was taken."""
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    try:
        make_way(parent / moment)
        folder, number = parent / moment, 1
        while not _made(folder):
            number += 1
            folder = parent / f"{moment}-{number}"
        return folder
    except OSError as error:
        raise InputError(
            f"{parent}: no folder can be made there ({error.strerror}); choose one with --out"
        ) from error


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


@contextmanager
def held_stores(folder: Path) -> Iterator[None]:
    """Make the folder of the clients' stores, and hold it within the block.

    Args:
        folder: made for its owner alone when it is not there.

    Raises:
        InputError: another run works with it, or it cannot be made or written to.
    """
    _given(folder, "--stores")
    with _held(folder, "--stores"):
        yield


@contextmanager
def _held(folder: Path, option: str) -> Iterator[None]:
    """Keep other runs out of a folder; the lock is gone with this process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{option} {folder}: another run is at work there; "
                + ("wait for its end" if option == "--resume" else "choose another folder")
            ) from error
        except OSError:
            pass  # A file system without locks on folders; then nobody can be kept out.
        yield
    finally:
        os.close(handle)


def state(folder: Path) -> tuple[str, str] | None:
    """How a run that has no report stands.

    Args:
        folder: of a run, or of one seed of it.

    Returns:
        `running`, `failed` or `interrupted`, and the reason where an error ended it; None where
        no run was begun in the folder.
    """
    there = [folder / SCENARIO_FILE, folder / "scenario.json"]
    if not any(file.is_file() for file in there):
        return None
    if _at_work(folder):
        return "running", ""
    for file in (folder / ERROR_FILE, *sorted(folder.glob(f"seed-*/{ERROR_FILE}"))):
        if file.is_file() and not (file.parent / UNFINISHED / STATE_FILE).is_file():
            return "failed", _reason(file)
    return "interrupted", ""


def _at_work(folder: Path) -> bool:
    """Whether a process holds the folder, or that of all seeds above it."""
    above = [folder.parent] if folder.name.startswith("seed-") else []
    return any(map(_is_held, [folder, *above]))


def _is_held(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # A file system without locks on folders.
    finally:
        os.close(handle)
    return False


def _reason(file: Path) -> str:
    try:
        return str(json.loads(regular_files.read(file))["message"])
    except (InputError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{file.name} cannot be read"


def next_step(folder: Path) -> str:
    """What to do with a run that was interrupted."""
    whole = folder.parent if folder.name.startswith("seed-") else folder
    if (whole / STARTED_FILE).is_file():
        return f"`neulig-fl run --resume {whole}` goes on"
    return "run the scenario again (trained experts are in the cache)"


def write_overrides(folder: Path, overrides: Sequence[str]) -> None:
    """Write what replaced the scenario's values into a run's folder; no file where nothing did."""
    file = folder / OVERRIDES_FILE
    if overrides:
        write_atomically(file, json.dumps([*overrides], indent=1) + "\n", PRIVATE)
    else:
        file.unlink(missing_ok=True)


def read_overrides(folder: Path) -> list[str]:
    """What `write_overrides` wrote.

    Raises:
        InputError: the file is not what it writes.
    """
    file = folder / OVERRIDES_FILE
    try:
        found = json.loads(regular_files.read(file)) if file.is_file() else []
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InputError(f"{file}: is not a list of KEY=VALUE as a run writes it")
    return found
