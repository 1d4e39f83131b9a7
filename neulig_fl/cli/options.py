"""Options that several commands share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


ScenarioFile = Annotated[
    Path,
    typer.Argument(metavar="SCENARIO", help="Scenario file (YAML); `-` reads standard input."),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the file, such as experts.epochs=2 or clients.0.task=digits. "
        "Can be repeated.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
LogJson = Annotated[
    bool,
    typer.Option(
        "--log-json", help="Show progress as JSON on the standard error, one event a line."
    ),
]
LogLevelOption = Annotated[
    LogLevel | None,
    typer.Option(
        help="What the log in the run's folder (flower.log) holds, of this and all that is worse.",
        show_default="NEULIG_LOG_LEVEL, or info",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def log_at(level: LogLevel | None) -> None:
    """Have this process and all that it starts log so much; nothing changes where None is given."""
    if level is not None:
        from neulig_fl.runtime.engines import LOG_LEVEL

        os.environ[LOG_LEVEL] = level.value
