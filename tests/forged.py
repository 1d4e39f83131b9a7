"""What a forger does who knows the format: signs a run anew, and tells the same lie everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neulig_fl.core.files import sha256
from neulig_fl.ledger import chain, manifest
from neulig_fl.privacy.keys import Identity
from neulig_fl.report import markdown

Edit = Callable[[Any], object]


def chained(entries: Sequence[chain.Entry], signer: Identity | None = None) -> bytes:
    """Entries with a chain of their own, as the content of a file."""
    made: list[chain.Entry] = []
    for entry in entries:
        made.append(chain.extended(made, entry, signer))
    return chain.text(made).encode()


def entries(file: Path) -> list[chain.Entry]:
    """The entries of a ledger's file."""
    return chain.parsed(file.read_bytes())[0]


def told(run: Path, edit: Edit) -> None:
    """Change outcome and report alike, and make the report's page anew."""
    for name in (manifest.OUTCOME, "report.json"):
        said = json.loads((run / name).read_text())
        edit(said)
        (run / name).write_text(json.dumps(said))
    (run / "report.md").write_text(markdown.render(said))


def receipts(run: Path, kept: Sequence[chain.Entry], edit: Edit = lambda said: None) -> None:
    """Put other receipts in the place of a run's, and have outcome and report say what fits."""
    content = chained(kept)
    (run / manifest.RECEIPTS).write_bytes(content)
    made = chain.parsed(content)[0]

    def fitting(said: Any) -> None:
        said["ledger"] |= {"entries": len(made), "head": chain.head(made)}
        edit(said)

    told(run, fitting)


def signed(run: Path, server: Identity, **changes: Any) -> None:
    """Sign the folder as it now is with a server's key.

    Args:
        run: the folder; its manifest holds by itself.
        server: whose key.
        changes: what the manifest says otherwise.
    """
    made = manifest.parsed((run / manifest.FILE).read_bytes())
    kept = entries(run / manifest.RECEIPTS)
    head = {"entries": len(kept), "head": chain.head(kept)}
    files = {name: sha256(run / name) for name in made.files if (run / name).is_file()}
    said = {"files": files, "receipts": head, "server": server.public, **changes}
    manifest.write(run, replace(made, **said), server)
