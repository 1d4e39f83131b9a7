"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
