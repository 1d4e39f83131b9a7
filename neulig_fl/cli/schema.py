"""`neulig-fl schema`: JSON Schemas, for editors and for those who read reports."""

from __future__ import annotations

from typing import Annotated

import typer

from neulig_fl.cli.streams import echo_json
from neulig_fl.core.errors import InputError


def schema(
    report: Annotated[
        bool, typer.Option("--report", help="Print the schema of report.json instead.")
    ] = False,
    study: Annotated[
        bool, typer.Option("--study", help="Print the schema of a study's YAML instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of scenarios, of report.json, or of studies.

    The schema of report.json has those of summary.json and study.json among its definitions.

    Editors use it to complete and validate scenarios; VS Code's YAML extension, for example, reads
    the comment below if it is the first line of the scenario.

    [bold]Example[/]
      neulig-fl schema > scenario.schema.json
      [dim]# yaml-language-server: $schema=scenario.schema.json[/]
    """
    if report and study:
        raise InputError("--report and --study: each prints one schema; give one of them")
    if report:
        from neulig_fl.report import contract

        found = contract.schema()
    elif study:
        from neulig_fl.config import studies

        found = studies.json_schema()
    else:
        from neulig_fl.study.scenario_schema import json_schema

        found = json_schema()
    echo_json(found, indent=2)
