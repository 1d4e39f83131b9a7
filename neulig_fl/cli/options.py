"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioFile = Annotated[
    Path,
    typer.Argument(metavar="SCENARIO", help="The scenario's YAML file; `-`: the standard input."),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value of the file, such as experts.epochs=2 or clients.0.task=digits; "
        "may be given several times.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
