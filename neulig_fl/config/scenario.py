"""The scenario: read from YAML, checked value by value, handed on as frozen models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neulig_fl.config.overrides import with_text
from neulig_fl.config.policy_rules import Budgets, Policy
from neulig_fl.config.problems import problems_of, report
from neulig_fl.config.schema import (
    MICRO_MODELS,
    PRETRAINED_WORDS,
    Client,
    Experts,
    Model,
    PortlandOptions,
    Queries,
    Resources,
    Scenario,
    Timeouts,
)
from neulig_fl.config.stages import Share, Stage
from neulig_fl.config.tasks import OPEN_SOURCES, TaskOptions
from neulig_fl.config.values import QUERY_SETS
from neulig_fl.config.yaml_source import ScenarioText, is_standard_input, read
from neulig_fl.core import regular_files
from neulig_fl.core.errors import ScenarioError
from neulig_fl.core.files import PRIVATE, write_atomically

__all__ = [
    "MICRO_MODELS",
    "OPEN_SOURCES",
    "PRETRAINED_WORDS",
    "QUERY_SETS",
    "Budgets",
    "Client",
    "Experts",
    "Model",
    "OpenedScenario",
    "Policy",
    "PortlandOptions",
    "Queries",
    "Resources",
    "Scenario",
    "Share",
    "Stage",
    "TaskOptions",
    "Timeouts",
    "as_written",
    "dump",
    "dumped",
    "folder_of",
    "json_schema",
    "load_resolved",
    "validated",
]


@dataclass(frozen=True)
class OpenedScenario:
    """A scenario whose file was read: everything that is done with it starts from here.

    The file is not read again, because a pipe has nothing more to give and a file may change.

    Attributes:
        scenario: valid in itself, with its paths as they were written.
        source: what the file said, and where each value stands in it.
        folder: where its relative paths start, absolute.
        overrides: what replaced values of the file, as it was typed.
    """

    scenario: Scenario
    source: ScenarioText
    folder: Path
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name, as messages give it."""
        return self.source.name

    @property
    def text(self) -> str:
        """What the file said."""
        return self.source.text

    @property
    def resolved(self) -> Scenario:
        """The scenario with absolute paths."""
        return self.scenario.resolved(self.folder)

    def require_text(self) -> None:
        """The apps read the scenario as JSON, which holds text and no other bytes.

        Raises:
            ScenarioError: its folder has a name that is no text.
        """
        try:
            self.resolved.model_dump_json()
        except ValueError as error:
            raise ScenarioError(
                f"{self.name}: its relative paths start from {self.folder}, a name that is not "
                "UTF-8; rename the folder, or give absolute paths"
            ) from error


def as_written(
    path: Path | str,
    overrides: Sequence[str] = (),
    schema: Callable[[], dict[str, Any]] | None = None,
) -> OpenedScenario:
    """What a scenario's file says, valid in itself; nothing that it names is looked for.

    Args:
        path: YAML file, or `-` for the standard input. Relative paths in it start from
            `folder_of` it.
        overrides: `key.sub=value` texts that replace values of the file, as in
            `clients.0.task=digits`; the value is YAML.
        schema: makes the JSON Schema from which messages say what is allowed; `json_schema` unless
            given, which knows nothing of what the files of variants add.

    Raises:
        ScenarioError: everything that is wrong in itself, a line each: file:line:column (or the
            override), the field, the value received, what is allowed and the nearest valid name.
    """
    path = Path(path)
    source = read(path, pipes=True)
    if "base" in source.data and not {"clients", "stages"} & set(source.data):
        where = source.origin(("base",), key=True)
        raise ScenarioError(
            f"{where}: the file is a study, not a scenario; `neulig-fl study {source.name} --plan` "
            "checks it, and without --plan it is run"
        )
    for text in overrides:
        source = with_text(source, text)
    return validated(source, folder_of(path), overrides, schema)


def validated(
    source: ScenarioText,
    folder: Path,
    overrides: Sequence[str] = (),
    schema: Callable[[], dict[str, Any]] | None = None,
) -> OpenedScenario:
    """A scenario whose text was read, and in which values were replaced, valid in itself.

    Args:
        source: what it says, overrides included.
        folder: where its relative paths start.
        overrides: the overrides as `key.sub=value`.
        schema: as for `as_written`.

    Raises:
        ScenarioError: as for `as_written`.
    """
    try:
        scenario = Scenario.model_validate(source.data)
    except ValidationError as error:
        report(source, problems_of(error, (schema or json_schema)(), source))
        raise
    return OpenedScenario(scenario, source, folder, tuple(overrides))


def folder_of(path: Path) -> Path:
    """Find the folder in which the relative paths of a scenario start, absolute.

    It is the one in which the user named the file: of a link the folder where the link stands. What
    comes through a pipe or the standard input stands nowhere; there it is the current folder.

    Raises:
        ScenarioError: the current folder is needed and there is none any more.
    """
    try:
        return (path.parent if path.is_file() and not _is_stream(path) else Path.cwd()).resolve()
    except OSError as error:
        raise ScenarioError(
            f"{path}: the current folder cannot be used ({error.strerror}); change to another one"
        ) from error


def _is_stream(path: Path) -> bool:
    """Whether the path names an open stream, which may be a file that stands elsewhere."""
    streams = (Path("/dev/stdin"), Path("/dev/fd"), Path("/proc"))
    return is_standard_input(path) or any(path.is_relative_to(stream) for stream in streams)


def dump(scenario: Scenario, path: Path) -> None:
    """Write a scenario as JSON, for the apps."""
    write_atomically(path, dumped(scenario), PRIVATE)


def dumped(scenario: Scenario) -> str:
    """The text of `scenario.json`, also after it was read again."""
    return scenario.model_dump_json(indent=2) + "\n"


def load_resolved(path: Path) -> Scenario:
    """Read what `dump` wrote.

    Raises:
        ScenarioError: the file is not there or is not what `dump` writes.
    """
    try:
        return Scenario.model_validate_json(regular_files.read(path))
    except (OSError, ValidationError) as error:
        raise ScenarioError(f"{path}: not a scenario as neulig-fl writes it: {error}") from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario, for editors.

    Example:
        >>> json_schema()["required"]
        ['name', 'clients', 'stages']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scenario.model_json_schema(mode="validation"),
        "title": "neulig-fl scenario",
    }
