"""`neulig-fl verify`: what of a run holds, what was not checked, and what does not hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neulig_fl.cli.options import AsJson
from neulig_fl.cli.streams import echo, echo_json

if TYPE_CHECKING:
    from rich.console import Console

    from neulig_fl.verification.findings import Findings, Signer

_NARROWEST = 20
"""Columns that lines are not folded below."""


def verify(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="The folder of a run, or of one seed of it."),
    ],
    trust: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=KEY|FILE",
            help="Pin the public key of a client or of `server`, such as north=ed25519:...; or a "
            "YAML file of NAME: KEY, such as your copy of the scenario with its `trust`. Can be "
            "repeated.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    stores: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the clients' stores, if the run used `--stores FOLDER`.",
            show_default="those in the run's folder",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a run: all hash chains and signatures, and that the report matches what was signed.

    Each client signs a ledger entry for every release; the server keeps the entry as a receipt, and
    at the end signs a manifest of the run: scenario, outcome, Portland, receipts and the last entry
    of each client's ledger. All of these, the clients' own ledgers where available, and the report
    must agree. A key that is pinned neither in the scenario nor by --trust proves only that one
    party signed all of it. What was not checked is listed. The exit code is 1 if any check fails;
    the first failure of each file is reported.

    [bold]Examples[/]
      neulig-fl verify runs/quickstart/20250101-120000
      neulig-fl verify results --trust north=ed25519:0TmC...
      neulig-fl verify results --trust my-copy.yaml
    """
    from neulig_fl.cli.exits import FAILED, say_error
    from neulig_fl.core.consoles import PlainConsole
    from neulig_fl.core.errors import InputError, RunError
    from neulig_fl.report.figures import plain
    from neulig_fl.verification.whole_run import verify as verified

    if stores is not None and not stores.is_dir():
        raise InputError(f"--stores {stores}: no such folder; give the one that `run --stores` had")
    found = verified(run, _pins(trust), stores)
    if as_json:
        echo_json(_record(found), indent=2)
    else:
        for each in found:
            show(each, PlainConsole())
    for failure in (failure for each in found for failure in each.failures):
        say_error(RunError(plain(str(failure))))
    if not all(each.holds for each in found):
        raise typer.Exit(FAILED)


def _pins(given: list[str]) -> dict[str, str]:
    """`NAME=KEY` options and files of such keys as a mapping; a name holds no `=`."""
    from neulig_fl.core.errors import InputError

    pins: dict[str, str] = {}
    for each in given:
        for name, key in (_of_file(each) if _is_file(each) else _of_option(each)).items():
            if pins.get(name, key) != key:
                raise InputError(f"--trust {each}: another key was given for {name!r}; give one")
            pins[name] = key
    return pins


def _is_file(text: str) -> bool:
    from neulig_fl.config.schema import exists

    return exists(Path(text), "file")


def _of_option(text: str) -> dict[str, str]:
    from neulig_fl.core.errors import InputError

    name, separator, key = text.partition("=")
    if not (name and separator and key):
        raise InputError(
            f"--trust {text}: write it as NAME=KEY, such as north=ed25519:..., or name a YAML file "
            "of keys"
        )
    return {name: key}


def _of_file(text: str) -> dict[str, str]:
    """The keys of a file: its `trust`, as a scenario has it, or all that it says."""
    from neulig_fl.config.yaml_source import read
    from neulig_fl.core.errors import InputError

    source = read(Path(text))
    inside = "trust" in source.data
    said: object = source.data["trust"] if inside else source.data
    for name, key in said.items() if isinstance(said, Mapping) else ():
        if not isinstance(key, str):
            place = source.origin(("trust", name) if inside else (name,))
            what = f"{place}: {str(key)[:60]!r} is no key; write NAME: ed25519:..."
            raise InputError(what if inside else _no_trust(source.name, str(name), place))
    if not isinstance(said, Mapping) or not said:
        raise InputError(f"--trust {text}: names no key; write NAME: ed25519:..., one a line")
    return {str(name): str(key) for name, key in said.items()}


def _no_trust(file: str, name: str, place: str) -> str:
    """What is wrong with a file that is neither one of keys nor a scenario that pins any."""
    return (
        f"{file}: has no mapping `trust`, and is no file of keys alone ({name[:60]!r} at {place} "
        "has another value); add `trust: {NAME: ed25519:...}`, or name a file that has "
        "NAME: ed25519:... on each line and nothing else"
    )


def show(found: Findings, console: Console) -> None:
    """Print what was found of one folder; on a terminal folded to its width, with the indent."""
    from neulig_fl.report.figures import plain

    for indent, line in _lines(found):
        first, next_ = " " * indent, " " * (indent + 2)
        whole = [f"{first}{plain(line)}"]
        if console.is_terminal:
            width = max(console.width, _NARROWEST)
            whole = textwrap.wrap(plain(line), width, initial_indent=first, subsequent_indent=next_)
        for part in whole:
            echo(part)


def _lines(found: Findings) -> Iterator[tuple[int, str]]:
    """Indent and text of each line; names come from files, so they are made plain later."""
    yield 0, f"{'OK' if found.holds else 'FAILED'}: {found.folder}"
    if found.error is not None:
        yield 2, f"the run failed, and has no report: {found.error}"
    for title, lines in (("checked", found.checked), ("not checked", found.unchecked)):
        if lines:
            yield 2, f"{title}:"
        yield from ((4, f"- {line}") for line in lines)


def _record(found: list[Findings]) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "verified": all(each.holds for each in found),
        "runs": [
            {
                "folder": str(each.folder),
                "entries": each.entries,
                "head": each.head,
                "error": each.error,
                "server": None if each.server is None else _signer(each.server),
                "clients": [_signer(client) for client in each.clients],
                "checked": list(each.checked),
                "unchecked": list(each.unchecked),
                "failures": [
                    {"file": str(f.file), "index": f.index, "what": f.what} for f in each.failures
                ],
            }
            for each in found
        ],
    }


def _signer(signer: Signer) -> dict[str, Any]:
    return {**asdict(signer), "fingerprint": signer.fingerprint}
