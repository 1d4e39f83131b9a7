"""The manifest of a run: what the server leaves in the run's folder, by hash, signed with its key.

It holds the run's id, how the run ended, the SHA-256 of each file that a reader relies on, the head
of the server's receipts, and every client's closing. It is the last that is written before the
outcome, one line of canonical JSON, so any byte counts. The report is not in it: that is made
afterwards, by whoever started the run, of the outcome that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core.errors import BadReply
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.run_folders import ERROR_FILE
from neulig_fl.ledger import chain
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.keys import Identity, PublicIdentity, signed_by

FILE = "manifest.json"
FORMAT = 1

SCENARIO, OUTCOME, PORTLAND = "scenario.json", "outcome.json", "portland.safetensors"
PREDICTIONS = "predictions.safetensors"
RECEIPTS, TRUST = "receipts.jsonl", "trust.json"
"""The files that it names: of the run, what it found, Portland, what each row predicted for each
query, the receipts, the clients' keys."""

ERROR = ERROR_FILE
"""What ended a run, as the manifest says it too."""

_PURPOSE = "run manifest"
_KEYS = frozenset({"format", RUN, "error", "files", "receipts", "clients", "server", "signature"})


@dataclass(frozen=True)
class Manifest:
    """A manifest that its server signed.

    Args:
        run: the run's id.
        error: `type` and `message` of what ended the run; None when it ended well.
        files: SHA-256 (hex) of each file, by its name in the folder.
        receipts: how many `entries` there are, and the `head`.
        clients: the closing of each client that said hello, or the `reason` why there is none.
        server: its keys.
    """

    run: str
    error: Mapping[str, Any] | None
    files: Mapping[str, str]
    receipts: Mapping[str, Any]
    clients: Mapping[str, Mapping[str, Any]]
    server: PublicIdentity


def write(folder: Path, made: Manifest, identity: Identity) -> None:
    """Sign a manifest and write it into a run's folder.

    Args:
        folder: of the run.
        made: what it says.
        identity: the server's keys.

    Raises:
        RunError: the disk refuses.
    """
    said = {
        "format": FORMAT,
        RUN: made.run,
        "error": made.error,
        "files": dict(made.files),
        "receipts": dict(made.receipts),
        "clients": {name: dict(each) for name, each in made.clients.items()},
        "server": made.server.record(),
    }
    signature = identity.sign(_PURPOSE, chain.canonical(said).encode())
    text = chain.canonical({**said, "signature": signature})
    write_atomically(folder / FILE, f"{text}\n", PRIVATE)


def parsed(content: bytes) -> Manifest:
    """The manifest in a file's content, signed by the key that it names.

    Raises:
        BadReply: it is none, or not signed; the message is one line.
    """
    lines, fault = chain.parsed(content)
    if fault is not None or len(lines) != 1:
        raise BadReply("is not as a run writes it")
    said = lines[0]
    if said.get("format") != FORMAT:
        raise BadReply(
            f"is of format {str(said.get('format'))[:20]}; this neulig-fl reads {FORMAT}"
        )
    if set(said) != _KEYS or not _whole(said):
        raise BadReply("does not say what a manifest says")
    server = PublicIdentity.read(said["server"])
    message = chain.canonical({k: v for k, v in said.items() if k != "signature"}).encode()
    if not signed_by(server.key, _PURPOSE, message, said["signature"]):
        raise BadReply("is not signed by the key that it names")
    rest = {k: said[k] for k in (RUN, "error", "files", "receipts", "clients")}
    return Manifest(server=server, **rest)


def _whole(said: Mapping[str, Any]) -> bool:
    """Whether every part has its shape; what is in it is checked against the folder."""
    objects = all(isinstance(said[key], dict) for key in ("files", "receipts", "clients"))
    return (
        objects
        and isinstance(said[RUN], str)
        and (said["error"] is None or isinstance(said["error"], dict))
        and all(isinstance(each, dict) for each in said["clients"].values())
        and all(isinstance(each, str) for each in said["files"].values())
    )
