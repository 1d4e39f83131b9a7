"""Runs the comparison scenarios and writes docs/results.md beside the paper's tables.

    python benchmarks/reproduce.py
    python benchmarks/reproduce.py --only baselines-vit

Every run is kept in its folder, and the same command goes on where it was stopped: a finished run
of the same scenario, seed and versions is used again. What the page needs of a scenario's reports
is written to benchmarks/results/reproduce/, and the page is made from there. Some scenarios have no
section on it: README and other pages quote them (benchmarks/quotes.py). Progress goes to the
standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reproduction import data, page, runs
from reproduction.data import Entry

from neulig_fl.cli import exits
from neulig_fl.config import yaml_source
from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import InputError, NeuligError, RunError, nearest
from neulig_fl.core.files import write_atomically
from neulig_fl.core.live import Live
from neulig_fl.core.run_folders import RUNS
from neulig_fl.runtime import engines
from neulig_fl.study.checking import load

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "scenarios"
MICRO = FOLDER / "micro"
PRIVACY = FOLDER / "privacy"
SCENARIOS = (
    Entry(MICRO / "baselines-vit.yaml", ("2b", "5")),
    Entry(MICRO / "baselines-rn.yaml", ("2a",)),
    Entry(MICRO / "diverse-origin.yaml"),
    Entry(PRIVACY / "sums-of-statistics.yaml"),
    Entry(PRIVACY / "trimmed-then-parameters.yaml"),
    Entry(FOLDER / "quickstart.yaml", section=False),
)
"""The page's sections in order, each beside these of the paper's tables; then what others quote."""

PAGE = ROOT / "docs" / "results.md"
DATA = Path(__file__).with_name("results") / "reproduce"


def asked_for(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="these scenarios; all if not given")
    add("--runs", type=Path, default=RUNS / "reproduce", help="folder of the runs")
    add("--engine", default="simulation", help="simulation, or local: one process, easier to debug")
    add("--data", type=Path, default=DATA, help="folder of the data that the page is made from")
    add("--page", type=Path, default=PAGE, help="where the page is written")
    return parser.parse_args(arguments)


def main(asked: argparse.Namespace, entries: Sequence[Entry] = SCENARIOS) -> None:
    """Run what is missing, then write the data and the page.

    Args:
        asked: the command line.
        entries: what is run, and the page's sections.

    Raises:
        InputError: a name, a scenario or an engine that there is not; nothing was run.
        RunError: some scenarios failed; the others are on the page.
    """
    engines.load(asked.engine)
    wanted = chosen(asked.only, entries)
    for entry in entries:
        yaml_source.read(entry.path)
    read = {entry: load(entry.path) for entry in wanted}
    failed: list[str] = []
    for entry, scenario in read.items():
        try:
            run(asked, entry, scenario)
        except NeuligError as error:
            exits.say_error(error)
            failed.append(entry.name)
    write_atomically(asked.page, text(asked, entries))
    exits.say(f"the page is {asked.page}")
    if failed:
        raise RunError(
            f"{', '.join(failed)}: failed, and said above why; the page has what was there before, "
            "if that was of the same scenario; the same command tries again"
        )


def chosen(names: Sequence[str] | None, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are to be run.

    Raises:
        InputError: there is no such entry.
    """
    by_name = {entry.name: entry for entry in entries}
    for name in names or ():
        if name not in by_name:
            raise InputError(f"--only {name}: no such scenario; {nearest(name, by_name)}")
    return [entry for entry in entries if not names or entry.name in names]


def run(asked: argparse.Namespace, entry: Entry, scenario: Scenario) -> None:
    """Have all reports of one scenario, and write its data.

    Raises:
        NeuligError: a run failed, or the report of an earlier one cannot be used.
    """
    with Live() as live:
        reports = runs.obtain(entry.path, scenario, asked.engine, asked.runs, live)
    said = yaml_source.read(entry.path).data
    found = data.build(said, scenario, [report.data for report in reports])
    data.write(found, asked.data / f"{entry.name}.json")


def text(asked: argparse.Namespace, entries: Sequence[Entry] = SCENARIOS) -> str:
    """The page, from the data that there are."""
    sections = [section(asked, entry) for entry in entries if entry.section]
    return page.render(sections, asked.page, asked.data)


def section(asked: argparse.Namespace, entry: Entry) -> page.Section:
    """A scenario with its data; without them where they are of another scenario than its file's."""
    found = data.read(asked.data / f"{entry.name}.json")
    if found is None:
        return entry, None, "the scenario was not run yet"
    if found["said"] != yaml_source.read(entry.path).data:
        return entry, None, "the scenario has changed since it was run"
    return entry, found, None


if __name__ == "__main__":
    try:
        main(asked_for())
    except NeuligError as problem:
        exits.say_error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        exits.say("interrupted; finished runs are kept, and the same command goes on")
        sys.exit(exits.INTERRUPTED)
