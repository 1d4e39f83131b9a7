"""Opening a study: its file, its scenario and every case, checked before anything is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neulig_fl.config import studies
from neulig_fl.config.scenario import OpenedScenario, validated
from neulig_fl.config.studies import StudyText
from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.checking import checked, open_scenario
from neulig_fl.study.scenario_schema import json_schema


@dataclass(frozen=True)
class Case:
    """One case of a study, valid.

    Attributes:
        name: of the case, and of its folder.
        opened: its scenario; its seeds are the study's.
        varied: its point of the study's grid, by key.
    """

    name: str
    opened: OpenedScenario
    varied: Mapping[str, Any]

    def of_seed(self, seed: int) -> OpenedScenario:
        """Its scenario with one seed, as `run_opened` takes it."""
        one = self.opened.scenario.model_copy(update={"seed": seed, "seeds": None})
        overrides = (*self.opened.overrides, f"seed={seed}")
        return replace(self.opened, scenario=one, overrides=overrides)


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run of a study: a case and a seed."""

    case: Case
    seed: int

    @property
    def folder(self) -> Path:
        """Its folder in the study's."""
        return Path(self.case.name) / f"seed-{self.seed}"

    @property
    def opened(self) -> OpenedScenario:
        """Its scenario."""
        return self.case.of_seed(self.seed)

    def __str__(self) -> str:
        return f"{self.case.name}, seed {self.seed}"


@dataclass(frozen=True)
class OpenedStudy:
    """A study, valid with all its cases.

    Attributes:
        written: what its file says.
        base: the scenario from which every case starts.
        cases: in order.
        seeds: of every case.
        versus: the name of the case that others are compared with.
    """

    written: StudyText
    base: OpenedScenario
    cases: tuple[Case, ...]
    seeds: tuple[int, ...]
    versus: str

    @property
    def name(self) -> str:
        """Of the study."""
        return self.written.said.name

    @property
    def runs(self) -> Iterator[StudyRun]:
        """Every run: all cases of the first seed, then of the next.

        So each seed's experts are trained once, and each case has a figure early.
        """
        for seed in self.seeds:
            for case in self.cases:
                yield StudyRun(case, seed)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the name, each case's name and scenario, and the seeds."""
        cases = [[case.name, case.opened.scenario.hash] for case in self.cases]
        text = json.dumps([self.name, cases, list(self.seeds)], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def open_study(path: Path | str, overrides: Sequence[str] = ()) -> OpenedStudy:
    """Read a study and check all of it; nothing else is loaded.

    Args:
        path: the YAML file.
        overrides: `key=value` texts that replace values of the study's file.

    Raises:
        ScenarioError: everything that is wrong, a line each: in the study's file, in its scenario,
            or in a case, which is named with its place in the study's file.
    """
    written = studies.as_written(Path(path), tuple(overrides))
    if not written.base.is_file():
        raise studies.missing_base(written)
    base = open_scenario(written.base)
    found: list[Case] = []
    wrong: list[str] = []
    hashes = {}
    for text in studies.cases(written, base.source):
        try:
            opened = checked(validated(text.source, base.folder, text.overrides, json_schema))
        except ScenarioError as error:
            wrong.append(str(studies.in_case(written, text, error)))
            continue
        if text.name in hashes:
            raise ScenarioError(
                f"{written.source.origin(text.steps, key=True)}: two cases would be called "
                f"{text.name}; give the cases other names"
            )
        hashes[text.name] = (text.steps, opened.scenario.hash)
        found.append(Case(text.name, opened, text.varied))
    if wrong:
        raise ScenarioError("\n".join(dict.fromkeys(wrong)))
    studies.same_scenario(written, hashes)
    seeds = written.said.seeds or base.scenario.all_seeds
    versus = studies.compared_with(written, [case.name for case in found])
    return OpenedStudy(written, base, tuple(found), seeds, versus)
