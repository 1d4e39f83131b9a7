"""The runs that lie in folders: when each began, whether it ended, and what it came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files, run_folders, strict_json, unfinished_runs
from neulig_fl.core.errors import NeuligError
from neulig_fl.core.run_folders import SCENARIO_FILE
from neulig_fl.report import contract, figures, timeline
from neulig_fl.report.summary import FILE_NAME as SUMMARY_FILE


@dataclass(frozen=True)
class KeptRun:
    """A run's folder.

    Attributes:
        folder: of the run.
        began: when the scenario was written there.
        state: `done`; `running` while a process holds the folder; `failed` where an error ended it;
            `interrupted` where nothing did, as after Ctrl-C or a power cut.
        says: the last stage's accuracy, or the reason; one line.
    """

    folder: Path
    began: datetime
    state: str
    says: str


def found(parent: Path) -> Iterator[KeptRun]:
    """The runs at or below a folder, the latest last.

    Args:
        parent: a folder of runs, as `runs/`, or a run's own.
    """
    files = [file for file in sorted(parent.rglob(SCENARIO_FILE)) if file.is_file()]
    for file in sorted(files, key=lambda each: each.stat().st_mtime):
        yield look(file.parent)


def look(folder: Path) -> KeptRun:
    """One run, by what lies in its folder."""
    began = datetime.fromtimestamp((folder / SCENARIO_FILE).stat().st_mtime).astimezone()
    state, says = _state(folder)
    return KeptRun(folder, began, state, figures.plain(says))


def _state(folder: Path) -> tuple[str, str]:
    if (folder / SUMMARY_FILE).is_file():
        return "done", _of_seeds(folder)
    if (folder / contract.FILE_NAME).is_file():
        return "done", _of_one(folder)
    state, reason = run_folders.state(folder) or ("interrupted", "")
    if state == "interrupted":
        return state, f"{_so_far(folder)}; {run_folders.next_step(folder)}"
    return state, reason or _so_far(folder)


def _of_one(folder: Path) -> str:
    try:
        report, _ = contract.read(folder)
    except NeuligError as error:
        return str(error)
    lines = [line for line in timeline.stage_lines(report) if line.row]
    return timeline.headline_words(lines[-1]) if lines else "no accuracy"


def _of_seeds(folder: Path) -> str:
    try:
        summary: Mapping[str, Any] = strict_json.parsed(regular_files.read(folder / SUMMARY_FILE))
        return f"seeds {', '.join(str(seed) for seed in summary['seeds'])}"
    except (NeuligError, OSError, ValueError, KeyError, TypeError) as error:
        return f"{SUMMARY_FILE} cannot be read ({error})"


def _so_far(folder: Path) -> str:
    done = sorted(file.parent.name for file in folder.glob(f"seed-*/{contract.FILE_NAME}"))
    if done:
        return f"has the report of {', '.join(done)}"
    stages = unfinished_runs.stages_done(folder)
    return f"{stages} stage{'s' if stages > 1 else ''} done" if stages else "no report yet"
