"""Runs that are killed: in a process of their own, by SIGKILL, at a write that is chosen."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

from neulig_fl.core.run_folders import resumed_folder
from neulig_fl.ledger import chain
from neulig_fl.report import Report
from neulig_fl.study import resumption, runs


def apart(work: Callable[[], object], kill_at: int = 0, count: Path | None = None) -> bool:
    """Do something in a process of its own; whether it came to its end.

    Args:
        work: what.
        kill_at: the process is killed in place of its write of this number to a disk, from 1; it
            is not at 0. Everything that a run relies on is synced, so these are all its steps.
        count: a file that gets the number of writes.

    Raises:
        AssertionError: it ended otherwise.
    """
    process = os.fork()
    if process == 0:
        try:
            _count_writes(kill_at, count)
            work()
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert status == 0 or killed, f"the process ended with status {status}"
    return status == 0


def _count_writes(kill_at: int, count: Path | None) -> None:
    write, done = os.fsync, [0]

    def counted(handle: int) -> None:
        done[0] += 1
        if done[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        write(handle)
        if count is not None:
            count.write_text(str(done[0]))

    os.fsync = counted


def begin(scenario: Path, out: Path, *overrides: str) -> None:
    """Run a scenario on the local engine."""
    runs.run_seeds(scenario, "local", out, overrides)


def resume(out: Path) -> list[Report]:
    """Go on with a run."""
    with resumed_folder(out) as folder:
        return resumption.resume(resumption.opened(folder), folder)


def found(out: Path) -> Any:
    """All of a report that follows from the scenario, and not from clocks and keys."""
    report = Report.load(out)
    stages = [[s["name"], s["comparisons"], s["refusals"]] for s in report.data["stages"]]
    rest = [report.data[key] for key in ("stage_comparisons", "coopvec_maps", "notes")]
    portland = report.data["portland"]
    trained = portland and {k: v for k, v in portland.items() if "second" not in k}
    said = [tiny.results(report), stages, rest, trained, report.data["reference"]]
    return json.loads(json.dumps(said))


def entered(out: Path) -> dict[str, list[tuple[object, ...]]]:
    """What each client's ledger says, in order, without time, keys and bytes that are masked."""
    facts = ("event", "stage", "kind", "queries", "protection", "rows", "bytes", "repeats")
    return {
        file.parent.name: [tuple(e.get(fact) for fact in facts) for e in chain.read(file)]
        for file in sorted(out.glob("**/clients/*/ledger.jsonl"))
    }
