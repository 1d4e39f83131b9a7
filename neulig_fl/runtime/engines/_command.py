"""Runs one of Flower's commands by name: `python -m neulig_fl.runtime.engines._command NAME ...`.

Where the commands were installed as scripts, and whether those still name a Python that is there,
does not matter then: a moved virtual environment or a `bin` that is not on PATH has the same.
"""

from __future__ import annotations

import signal
import sys
from importlib.metadata import entry_points
from typing import Any

from neulig_fl.runtime.engines._superlink import within_workplace

GROUP = "console_scripts"
DISTRIBUTION = "flwr"
SIMULATION = "flwr-simulation"
"""The command in whose place `_simulate` runs."""


def names() -> list[str]:
    """List Flower's commands."""
    found = entry_points(group=GROUP)
    return sorted({each.name for each in found if each.dist and each.dist.name == DISTRIBUTION})


def load(name: str) -> Any:
    """Load what a command runs; of several installations the first that Python would import.

    It finds the SuperLink, or is the SuperLink, of the workplace in which this process runs.
    """
    command = next(iter(entry_points(group=GROUP, name=name))).load()
    within_workplace(name)
    return command


def fresh_signals() -> None:
    """Undo what the process that started the run ignores or blocks, and hands down.

    Flower and Ray wait for their children and end on SIGTERM. SIGHUP and SIGINT stay as they are.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def main() -> None:
    """Run the command that the first argument names."""
    sys.argv = sys.argv[1:]  # Flower tells its own commands apart by the first of them.
    fresh_signals()
    sys.exit(load(sys.argv[0])())


if __name__ == "__main__":
    main()
