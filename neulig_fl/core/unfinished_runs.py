"""What of a run's folder is there while the run is unfinished, and who is at work in it.

`started.json` says how the run was begun, and stays. `unfinished/` holds what the server needs to
go on: its keys, what it received, the stages that are finished. It is its owner's alone, and is
erased when the run ends, so it also says that a run can be resumed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import InputError
from neulig_fl.core.files import PRIVATE, sha256, sync_folder, write_atomically
from neulig_fl.core.run_folders import (
    GIVEN_FILE,
    OVERRIDES_FILE,
    SCENARIO_FILE,
    STARTED_FILE,
    STATE_FILE,
)
from neulig_fl.core.run_folders import UNFINISHED as FOLDER

STAGES, INDEX_FILE = "stages", "index.json"
"""In `unfinished/`: the finished stages, and their hashes."""

_STOPPING = "stopping"
_FILES = (SCENARIO_FILE, GIVEN_FILE, OVERRIDES_FILE)
_PATIENCE = 60.0
"""Seconds for which a process that was left behind may still hold the folder."""


def write_started(folder: Path, said: Mapping[str, Any]) -> None:
    """Note in a run's folder how it is begun, with the hashes of the scenario's files there."""
    hashes = {name: sha256(folder / name) for name in _FILES if (folder / name).is_file()}
    text = json.dumps({**said, "files": hashes}, indent=1) + "\n"
    write_atomically(folder / STARTED_FILE, text, PRIVATE)


def read_started(folder: Path) -> dict[str, Any]:
    """What `write_started` noted.

    Raises:
        InputError: no run was begun in the folder, its note is damaged, or its scenario is another
            one by now.
    """
    file = folder / STARTED_FILE
    try:
        said: dict[str, Any] = strict_json.parsed(regular_files.read(file))
        hashes = dict(said["files"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder}: no run was begun there that can be resumed (it has no {STARTED_FILE}); "
            "name the folder of one, as `neulig-fl runs` lists them"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: is not as a run writes it; begin the run anew") from error
    for name in _FILES:
        there = sha256(folder / name) if (folder / name).is_file() else None
        if there != hashes.get(name):
            raise InputError(
                f"{folder / name}: was changed since the run began, and a run goes on with its own "
                f"scenario only; put it back, or begin anew with `neulig-fl run {folder / name}`"
            )
    return said


def is_resumable(folder: Path) -> bool:
    """Whether the server of a run, or of one of its seeds, left what it needs to go on."""
    places = (folder, *folder.glob("seed-*"))
    return any((place / FOLDER / STATE_FILE).is_file() for place in places)


def stages_done(folder: Path) -> int:
    """How many stages of an unfinished run are finished; 0 where that cannot be read."""
    try:
        return len(strict_json.parsed(regular_files.read(folder / FOLDER / STAGES / INDEX_FILE)))
    except (OSError, ValueError, TypeError, InputError):
        return 0


def erase(folder: Path) -> None:
    """Erase what an unfinished run kept; first what says that it can be resumed."""
    kept = folder / FOLDER
    with suppress(OSError):
        (kept / STATE_FILE).unlink(missing_ok=True)
        sync_folder(kept)
    shutil.rmtree(kept, ignore_errors=True)


def stop(folder: Path) -> None:
    """Note that the processes of a run are about to be ended, before any of them is."""
    if (folder / FOLDER).is_dir():
        with suppress(OSError):
            (folder / FOLDER / _STOPPING).touch(mode=PRIVATE)


def go_on(folder: Path) -> None:
    """Take the note of `stop` away."""
    (folder / FOLDER / _STOPPING).unlink(missing_ok=True)


def is_abandoned(folder: Path) -> bool:
    """Whether nobody waits for a run any more: it is being ended, or who started it is gone.

    Its clients may be ended before its server, which must not take that for their answer.

    Args:
        folder: of the run, or of one seed of it.
    """
    # A run of several seeds holds the folder above, a study's run that of its seed.
    places = [folder, folder.parent] if folder.name.startswith("seed-") else [folder]
    return (folder / FOLDER / _STOPPING).exists() or not any(map(_is_held, places))


def _is_held(folder: Path) -> bool:
    """Whether a process holds a folder; also where that is not known."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def alone_in(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the folder of an unfinished run within the block, as its one server.

    A process that was left behind by one that was killed ends soon; it is waited for.

    Args:
        folder: `unfinished` of a run.
        patience: seconds.

    Raises:
        InputError: another process holds it for longer.
    """
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise InputError(
                        f"{folder}: a process of the run is still at work there; end it first"
                    ) from error
                time.sleep(0.1)
                continue
            except OSError:
                pass  # A file system without locks on folders.
            break
        yield
    finally:
        os.close(handle)
