"""Whether a report is what the server's signed outcome says, and its pages what the report says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files, strict_json, versions
from neulig_fl.core.errors import InputError, NeuligError, RunError
from neulig_fl.report import composition, contract, markdown, summary
from neulig_fl.study import over_seeds
from neulig_fl.verification import given_scenario
from neulig_fl.verification.findings import Failure, Findings

REPORT_FILE, PAGE_FILE, REFERENCE_FILE = contract.FILE_NAME, "report.md", "reference.json"


def loaded(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty, and so without what must be in it, when there is none."""
    try:
        found = strict_json.parsed(regular_files.read(file))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class ReportCheck:
    """A report held against what it was made of.

    Args:
        folder: of the seed.
        report: content of report.json.
        outcome: content of outcome.json, which the server signed.
        scenario: `name`, `seed` and `hash` of the scenario, as far as they are known.
        stores: the folder of the clients' stores.
        run: the run's id.
    """

    folder: Path
    report: Mapping[str, Any]
    outcome: Mapping[str, Any]
    scenario: Mapping[str, Any]
    stores: Path
    run: object

    def failures(self) -> Iterator[Failure]:
        """What does not hold; the first of each file."""
        file = self.folder / REPORT_FILE
        problem = self._told() or self._contract() or self._reference()
        if problem is not None:
            yield Failure(file, None, problem)
            return
        if self.other_version is None:
            yield from self._page()

    @property
    def other_version(self) -> str | None:
        """The version that wrote the report's page, where this one would write it otherwise."""
        wrote = self.outcome.get("versions")
        own = wrote.get("neulig_fl") if isinstance(wrote, dict) else None
        return None if own == versions.own() else str(own)

    def _told(self) -> str | None:
        problem = composition.difference(self.report, self.outcome)
        if problem is not None:
            return f"{problem}, which the server signed"
        said = self.report.get("scenario")
        for key, wanted in self.scenario.items():
            own = said.get(key) if isinstance(said, dict) else None
            if own != wanted:
                return f"scenario.{key} is {str(own)[:80]!r} where the run's is {wanted!r}"
        return None

    def _contract(self) -> str | None:
        """What a schema, or the report itself, contradicts."""
        try:
            contract.validate(self.report)
        except RunError as error:
            return f"is not what its contract says: {str(error).splitlines()[1].strip()}"
        return None

    def _reference(self) -> str | None:
        """The experts' own accuracies are those in the clients' stores, as this run left them."""
        for fact in self.report["reference"]["experts"]:
            name = str(fact["client"])
            file = self.stores / Path(name).name / REFERENCE_FILE
            said = loaded(file)
            if said.get("run") == self.run and fact not in _listed(said.get("experts")):
                return f"reference of client {name!r} is not what its store says"
        return None

    def _page(self) -> Iterator[Failure]:
        file = self.folder / PAGE_FILE
        if not file.is_file():
            yield Failure(file, None, "is not there")
            return
        try:
            page = markdown.render(self.report).encode()
        except (ValueError, LookupError, TypeError) as error:
            yield Failure(file, None, f"cannot be made of report.json ({type(error).__name__})")
            return
        if regular_files.read(file) != page:
            what = "is not the page of report.json; `neulig_fl.Report.load(RUN).write(RUN)` is"
            yield Failure(file, None, what)


def _listed(said: object) -> list[object]:
    return said if isinstance(said, list) else []


def of_seeds(run: Path, seeds: Sequence[Findings]) -> Findings | None:
    """What is found of a run's seeds together; None where the folder is that of a single one.

    Args:
        run: the folder of all seeds.
        seeds: what was found of each.
    """
    if [each.folder for each in seeds] == [run]:
        return None
    file, unchecked = run / summary.FILE_NAME, [*_absent(run, seeds)]
    if not file.is_file():
        return Findings(run, (), (*unchecked, f"{file.name}: not here"), ())
    reports = [loaded(each.folder / REPORT_FILE) for each in seeds if each.error is None]
    problem = _summary_problem(loaded(file), reports)
    if problem is not None:
        return Findings(run, (), tuple(unchecked), (Failure(file, None, problem),))
    checked = f"{file.name}: made again of the reports of {len(reports)} seeds"
    return Findings(run, (checked,), tuple(unchecked), ())


def _absent(run: Path, seeds: Sequence[Findings]) -> Iterator[str]:
    """Seeds of the scenario whose folders are not there."""
    try:
        said = given_scenario.read(run).all_seeds
    except (InputError, OSError):
        return
    yield "how many seeds there were: the scenario says it, which nobody signed for all of them"
    there = {each.folder.name for each in seeds}
    for seed in said:
        if f"seed-{seed}" not in there:
            yield f"seed {seed}: the scenario names it, and it is not here"


def _summary_problem(said: Mapping[str, Any], reports: Sequence[Mapping[str, Any]]) -> str | None:
    try:
        for report in reports:
            contract.validate(report)
        wanted = json.loads(contract.to_json(over_seeds.build(reports)))
    except (NeuligError, KeyError, TypeError, ValueError) as error:
        return f"cannot be made again of the seeds' reports ({str(error).splitlines()[0]})"
    if wanted != said:
        return "is not the summary of the seeds' reports"
    return None
