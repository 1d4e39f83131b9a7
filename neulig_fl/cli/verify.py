"""`neulig-fl verify`: whether a run's ledgers, receipts and report tell one story, and signed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulig_fl.cli.options import AsJson

if TYPE_CHECKING:
    from neulig_fl.verification import Checked, Findings


def verify(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="The folder of a run, or of one seed of it."),
    ],
    trust: Annotated[
        list[str],
        typer.Option(
            metavar="CLIENT=KEY",
            help="The public key that a client must have had, such as north=ed25519:...; may be "
            "given several times.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    as_json: AsJson = False,
) -> None:
    """Verify a run: every chain, every signature, and that the report says what was signed.

    Each client signs an entry of its ledger for whatever it releases; the server keeps it as a
    receipt. The receipts, the clients' own ledgers where they are here, and the report's releases,
    refusals, bytes and hashes must agree. The exit code is 1 if anything does not, and each file's
    first entry that fails is named. Accuracies are not computed again: they are the server's word.

    [bold]Examples[/]
      neulig-fl verify runs/quickstart/20250101-120000
      neulig-fl verify results --trust north=ed25519:0TmC...
    """
    from neulig_fl.cli.exits import FAILED, say_error
    from neulig_fl.errors import RunError
    from neulig_fl.report.figures import plain
    from neulig_fl.verification import verify as verified

    found = verified(run, _pins(trust))
    if as_json:
        typer.echo(json.dumps(_record(found), indent=2))
    else:
        for line in (line for each in found for line in _lines(each)):
            typer.echo(line)
    for failure in (failure for each in found for failure in each.failures):
        say_error(RunError(plain(str(failure))))
    if not all(each.holds for each in found):
        raise typer.Exit(FAILED)


def _pins(given: list[str]) -> dict[str, str]:
    """`CLIENT=KEY` options as a mapping; a client's name holds no `=`."""
    from neulig_fl.errors import InputError

    pins: dict[str, str] = {}
    for each in given:
        name, separator, key = each.partition("=")
        if not (name and separator and key):
            raise InputError(f"--trust {each}: write it as CLIENT=KEY, such as north=ed25519:...")
        if pins.get(name, key) != key:
            raise InputError(f"--trust {each}: another key was given for {name!r}; give one")
        pins[name] = key
    return pins


def _lines(found: Findings) -> Iterator[str]:
    """What is said of one seed; names come from files, so what moves a cursor is taken out."""
    from neulig_fl.report.figures import plain

    head = f", head {found.head[:16]}" if found.head else ""
    state = "OK" if found.holds else "FAILED"
    yield plain(f"{state}: {found.folder}: {found.entries} receipts{head}")
    for client in found.clients:
        yield f"  {plain(f'{client.name}: {_about(client)}')}"


def _about(client: Checked) -> str:
    known = "pinned" if client.pinned else "trusted on first use"
    own = f"its own ledger of {client.own} entries was looked at"
    if client.own is None:
        own = "its own ledger is not here and was not looked at"
    return (
        f"key {client.key} (fingerprint {client.fingerprint}), {known}; {client.signed} receipts "
        f"signed; {own}"
    )


def _record(found: list[Findings]) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "verified": all(each.holds for each in found),
        "runs": [
            {
                "folder": str(each.folder),
                "entries": each.entries,
                "head": each.head,
                "clients": [
                    {**asdict(client), "fingerprint": client.fingerprint} for client in each.clients
                ],
                "failures": [
                    {"file": str(f.file), "index": f.index, "what": f.what} for f in each.failures
                ],
            }
            for each in found
        ],
    }
