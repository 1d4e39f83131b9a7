"""The command line `neulig-fl`: one file a command, each of which loads what it needs when it runs.

Nothing heavy is imported here, so that `--help`, and a typo in a scenario, answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from inspect import cleandoc
from typing import Annotated

import typer

from neulig_fl.cli import (
    bench,
    check,
    compare,
    exits,
    init,
    keys,
    lists,
    methods,
    plan,
    pretrain,
    report,
    run,
    runs,
    schema,
    show,
    study,
    verify,
)
from neulig_fl.cli.inspect import inspect
from neulig_fl.cli.open import open_page

HELP = """\
Study model merging and ensembling between federated clients, and what each client releases for it.

A [bold]scenario[/] (YAML) specifies the clients, their experts and what each stage shares.
A [bold]run[/] trains the experts under Flower, executes the stages and writes a report: the
accuracy of the merged model and of the ensemble, the gap between them, and every release of every
client.

[bold]First steps[/]
  neulig-fl init scenarios                    [dim]# copy the example scenarios[/]
  neulig-fl check scenarios/quickstart.yaml   [dim]# validate a scenario[/]
  neulig-fl plan scenarios/quickstart.yaml    [dim]# list what each client would release[/]
  neulig-fl run scenarios/quickstart.yaml     [dim]# run it and print the report[/]

Exit codes: 0 success, 1 the run failed, 2 invalid input, 130 interrupted.
"""

app = typer.Typer(
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _filled(text: str) -> str:
    r"""A docstring with each paragraph on one line, for the terminal to fill; indented lines stay.

    Example:
        >>> _filled("Say\nit.\n\nHere:\n  a\n  b")
        'Say it.\n\nHere:\n  a\n  b'
    """
    lines: list[str] = []
    for line in cleandoc(text).splitlines():
        if lines and lines[-1][:1].strip() and line[:1].strip():
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


for _command in (
    init.init,
    run.run,
    check.check,
    plan.plan,
    study.study,
    report.report,
    compare.compare,
    runs.runs,
    open_page,
    verify.verify,
    keys.keys,
    schema.schema,
    lists.tasks,
    lists.models,
    methods.methods,
    inspect,
    show.show,
    pretrain.pretrain,
    bench.bench,
):
    app.command(_command.__name__.removesuffix("_page"), help=_filled(_command.__doc__ or ""))(
        _command
    )


def _version(wanted: bool) -> None:
    if wanted:
        from neulig_fl.core import versions

        typer.echo(f"neulig-fl {versions.own()}")
        raise typer.Exit


@app.callback(invoke_without_command=True, help=_filled(HELP))
def _main(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 (its callback does the work)
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[  # noqa: ARG001 (`exits` looks for it, anywhere on the line)
        bool,
        typer.Option("--debug", help="Show the traceback of an error; accepted by every command."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and leave with its exit code.

    Args:
        arguments: without the program's name; by default those of this process.

    Raises:
        SystemExit: always; 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(exits.run(typer.main.get_command(app), list(given)))
