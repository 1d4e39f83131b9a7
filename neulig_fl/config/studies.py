"""The study: one scenario in several cases and over several seeds, read from YAML, strictly.

A case's overrides are `key: value` with keys as `--set` takes them. A grid (`vary`) makes a case of
each of its points, within each named case.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from neulig_fl.config.overrides import as_text, with_text, with_value
from neulig_fl.config.problems import Problem, problems_of, quoted, report
from neulig_fl.config.scenario import folder_of
from neulig_fl.config.values import (
    DOTTED,
    MOST_NAME,
    Section,
    Seed,
    Several,
    Slug,
    Text,
    is_slug,
)
from neulig_fl.config.yaml_source import ScenarioText, Steps, read
from neulig_fl.core.errors import ScenarioError, nearest

MOST_CASES = 200
"""Of a study, points of its grid included."""

MOST_QUESTION = 500
"""Characters."""

OF_THE_STUDY = ("seed", "seeds")
"""Keys of a scenario that a study has itself."""

Key = Annotated[str, Field(pattern=DOTTED, max_length=200)]
Overrides = dict[Key, Any]


def _different(values: list[Any]) -> list[Any]:
    if any(value in values[:at] for at, value in enumerate(values)):
        raise PydanticCustomError("repeated", "names the same thing twice")
    return values


class StudyFile(Section):
    """One scenario in several cases: what a study's file says."""

    name: Slug = Field(description="Name of the study.")
    question: Annotated[Text, Field(max_length=MOST_QUESTION)] | None = Field(
        None, description="The question that the study answers; stands at the head of its report."
    )
    base: Text = Field(
        description="Path of the scenario from which every case starts, from the study's folder."
    )
    common: Overrides = Field(
        {}, description="Keys and values that replace the scenario's in every case, before its own."
    )
    cases: Annotated[dict[Slug, Overrides], Field(min_length=1)] | None = Field(
        None,
        description="Cases by name: of each, keys as --set takes them, and the values that replace "
        "the scenario's; {} is the scenario as it is.",
    )
    vary: (
        Annotated[
            dict[Key, Annotated[list[Any], Field(min_length=1), AfterValidator(_different)]],
            Field(min_length=1),
        ]
        | None
    ) = Field(
        None,
        description="A grid: keys as --set takes them, each with a list of values. Each named case "
        "is run at every point of it.",
    )
    versus: Slug | None = Field(
        None, description="The case that others are compared with; null: the first."
    )
    seeds: Several[Seed] | None = Field(
        None, description="The seeds, one run each; null: those of the scenario."
    )

    @model_validator(mode="after")
    def _something_varies(self) -> Self:
        if not self.cases and not self.vary:
            raise PydanticCustomError("nothing_varies", "neither cases nor vary")
        return self


@dataclass(frozen=True)
class CaseText:
    """A case before it is validated.

    Attributes:
        name: unique in the study; a folder is called so.
        varied: its point of the grid, by key.
        overrides: all that differs from the base, as `--set` takes it.
        source: the base's text with these overrides.
        steps: where the case is written in the study's file.
    """

    name: str
    varied: Mapping[str, Any]
    overrides: tuple[str, ...]
    source: ScenarioText
    steps: Steps


@dataclass(frozen=True)
class StudyText:
    """A study whose file was read, and valid in itself; its base is not read yet.

    Attributes:
        said: what the file says.
        source: its text, and where each value stands in it.
        folder: where its relative path starts, absolute.
    """

    said: StudyFile
    source: ScenarioText
    folder: Path

    @property
    def base(self) -> Path:
        """The scenario from which every case starts."""
        return self.folder / Path(self.said.base).expanduser()


def as_written(path: Path, overrides: tuple[str, ...] = ()) -> StudyText:
    """What a study's file says, valid in itself.

    Args:
        path: YAML file, or `-` for the standard input.
        overrides: `key=value` texts that replace values of the file, as in `seeds=[7,8]`.

    Raises:
        ScenarioError: everything that is wrong in itself, a line each: file:line:column (or the
            override), the field, the value received, what is allowed and the nearest valid name.
    """
    source = read(path, pipes=True)
    if "clients" in source.data and "base" not in source.data:
        where = source.origin(("clients",), key=True)
        raise ScenarioError(
            f"{where}: the file is a scenario, not a study; `neulig-fl run {source.name}` runs it, "
            "and a study names it as its `base`"
        )
    for text in overrides:
        source = with_text(source, text)
    try:
        said = StudyFile.model_validate(source.data)
    except ValidationError as error:
        if any(each["type"] == "nothing_varies" for each in error.errors()):
            what = "has neither cases nor vary, so there is nothing to compare; add one of them"
            report(source, [Problem((), what)])
        report(source, problems_of(error, json_schema(), source))
        raise
    report(source, _problems(said))
    return StudyText(said, source, folder_of(path))


def is_study(path: Path) -> bool:
    """Whether a file is a study by its keys; what cannot be read is none."""
    if not path.is_file():  # a pipe is read once
        return False
    try:
        return "base" in read(path).data
    except ScenarioError:
        return False


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a study, for editors.

    Example:
        >>> json_schema()["required"]
        ['name', 'base']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StudyFile.model_json_schema(mode="validation"),
        "title": "neulig-fl study",
    }


def _problems(said: StudyFile) -> Iterator[Problem]:
    """What is wrong between values that are right one by one."""
    cases, vary = said.cases or {}, said.vary or {}
    written: list[tuple[Steps, str]] = [
        (("cases", name, key), key) for name, each in cases.items() for key in each
    ]
    written += [(("common", key), key) for key in said.common]
    written += [(("vary", key), key) for key in vary]
    for steps, key in written:
        if key.split(".")[0] in OF_THE_STUDY:
            yield Problem(
                steps, "a study has its seeds itself; write `seeds:` beside `cases`", True
            )
    for varied in vary:
        for steps, key in written:
            if steps[0] != "vary" and f"{key}.".startswith(f"{varied}."):
                what = f"vary sets {varied} in every case, so this would have no effect; remove one"
                yield Problem(steps, what, True)
    count = len(cases or "1") * math.prod(len(values) for values in vary.values())
    if count > MOST_CASES:
        what = f"{count} cases with all points of the grid; allowed: at most {MOST_CASES}"
        yield Problem(("vary",) if vary else ("cases",), what)


def cases(study: StudyText, base: ScenarioText) -> Iterator[CaseText]:
    """The cases in order: each named one at every point of the grid.

    Args:
        study: as it was read.
        base: the text of its scenario.

    Raises:
        ScenarioError: an override leads nowhere, with its place in the study's file.
    """
    said = study.said
    named = said.cases or {"": {}}
    vary = said.vary or {}
    points = [*zip(_points(vary), _labels(vary), strict=True)]
    for name, overrides in named.items():
        for number, (point, label) in enumerate(points, start=1):
            whole = "-".join(part for part in (name, label) if part)
            if not is_slug(whole):
                whole = f"{name or 'point'}-{number}"[-MOST_NAME:].strip("-")
            steps: Steps = ("cases", name) if name else ("vary",)
            written: list[tuple[Steps, str, Any]] = [
                (("common", key), key, value) for key, value in said.common.items()
            ]
            written += [(("cases", name, key), key, value) for key, value in overrides.items()]
            written += [
                (("vary", key, vary[key].index(value)), key, value) for key, value in point.items()
            ]
            source, texts = base, []
            for place, key, value in written:
                origin = partial(_origin, study.source, place, whole)
                source = with_value(source, key, value, origin)
                texts.append(as_text(key, value))
            yield CaseText(whole, point, tuple(texts), source, steps)


def _origin(study: ScenarioText, place: Steps, case: str, below: Steps, key: bool) -> str:
    """Where a value of a case was written; the key of a varied one stands above its list."""
    steps = place[:2] if key and not below and place[0] == "vary" else (*place, *below)
    return f"{study.origin(steps, key=key)}: case {case}"


def _points(vary: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every point of the grid; one, without keys, where there is no grid."""
    for values in itertools.product(*vary.values()):
        yield dict(zip(vary, values, strict=True))


def _labels(vary: Mapping[str, list[Any]]) -> Iterator[str]:
    """A name for each point of the grid, in the order of `_points`.

    Example:
        >>> [*_labels({"queries.pool": [50, 100], "portland.beta": [0.01]})]
        ['pool-50-beta-0-01', 'pool-100-beta-0-01']
    """
    each = [_value_labels(key, values) for key, values in vary.items()]
    for parts in itertools.product(*each):
        yield "-".join(parts)


def _value_labels(key: str, values: list[Any]) -> list[str]:
    last = key.split(".")[-1].replace("_", "-")
    found = [f"{last}-{_word(value)}" for value in values]
    if all(map(is_slug, found)) and len(set(found)) == len(found):
        return found
    return [f"{last}-{number}" for number in range(1, len(values) + 1)]


def _word(value: Any) -> str:
    """A single value as a part of a name."""
    text = str(value).lower() if isinstance(value, str | int | float) else ""
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text).split())


def same_scenario(study: StudyText, hashes: Mapping[str, tuple[Steps, str]]) -> None:
    """Refuse a case that comes to the same scenario as one before it.

    Args:
        study: as it was read.
        hashes: of each case, by its name: where it is written, and its scenario's hash.

    Raises:
        ScenarioError: two cases are the same.
    """
    first: dict[str, str] = {}
    found = []
    for name, (steps, digest) in hashes.items():
        if digest in first:
            what = f"case {name} is the same scenario as case {first[digest]}; remove one of them"
            found.append(Problem(steps, what, steps[:1] == ("cases",)))
        first.setdefault(digest, name)
    report(study.source, found)


def in_case(study: StudyText, case: CaseText, error: ScenarioError) -> ScenarioError:
    """The error of a case's scenario, each line with the case and a place in the study's file."""
    line, column = study.source.locate(case.steps, key=case.steps[:1] == ("cases",))
    head = f"{study.source.name}:{line}:{column}: case {case.name}: "
    ours = f": case {case.name}: "
    lines = [each if ours in each else f"{head}{each}" for each in str(error).split("\n")]
    return ScenarioError("\n".join(lines))


def compared_with(study: StudyText, names: Sequence[str]) -> str:
    """The case that others are compared with.

    Args:
        study: as it was read.
        names: of the cases, with all points of the grid.

    Raises:
        ScenarioError: the study names one that is not there.
    """
    versus = study.said.versus or names[0]
    if versus not in names:
        what = f"no case is called so (got {quoted(versus)}); {nearest(versus, names)}"
        report(study.source, [Problem(("versus",), what)])
    return versus


def missing_base(study: StudyText) -> ScenarioError:
    """The error of a base that is not there."""
    where = study.source.origin(("base",))
    return ScenarioError(
        f"{where}: base: there is no file {study.base} (got {quoted(study.said.base)}); give the "
        "path of a scenario, from the study's folder"
    )
