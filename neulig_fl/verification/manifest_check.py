"""Whether a run's folder is what the server's manifest says, and each client's closing its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import BadReply
from neulig_fl.core.files import sha256
from neulig_fl.ledger import chain, closing, manifest
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.ledger.manifest import Manifest
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.verification.findings import Failure

REQUIRED = (manifest.SCENARIO, manifest.RECEIPTS, manifest.TRUST)
FILES = (*REQUIRED, manifest.OUTCOME, manifest.PORTLAND, manifest.PREDICTIONS)
"""What a manifest can name; what of it is in the folder it must name."""


def read(folder: Path) -> tuple[Manifest | None, str | None]:
    """The manifest in a run's folder, or why there is none that holds by itself."""
    file = folder / manifest.FILE
    if not file.is_file():
        return None, "is not there: the server vouches for nothing in this folder"
    try:
        return manifest.parsed(regular_files.read(file)), None
    except BadReply as error:
        return None, str(error)


@dataclass(frozen=True)
class ManifestCheck:
    """A manifest held against the folder.

    Args:
        folder: of the seed.
        made: what the server signed.
        run: the run's id, by the record of the clients' keys.
        identities: the clients' keys.
        entries: the server's receipts.
        latest: the last signed entry that the receipts hold of each client.
    """

    folder: Path
    made: Manifest
    run: object
    identities: Mapping[str, PublicIdentity]
    entries: Sequence[Entry]
    latest: Mapping[str, Entry]

    def failures(self, sound: bool) -> Iterator[Failure]:
        """What does not hold; the first of each file.

        Args:
            sound: whether keys and receipts hold by themselves; else the files alone are looked at.
        """
        problem = self._told() if sound else None
        if problem is not None:
            yield Failure(self.folder / manifest.FILE, None, problem)
        for name in FILES:
            problem = self._file(name)
            if problem is not None:
                yield Failure(self.folder / name, None, problem)
        error = self.folder / manifest.ERROR
        if error.is_file() and not self._is_error(error):
            yield Failure(error, None, f"does not say what ended the run, by {manifest.FILE}")

    def _told(self) -> str | None:
        made = self.made
        if made.run != self.run:
            return (
                f"is of run {made.run[:40]!r}, and {manifest.TRUST} of run {str(self.run)[:40]!r}"
            )
        wanted = {"entries": len(self.entries), "head": chain.head(self.entries)}
        if dict(made.receipts) != wanted:
            return f"says other receipts than the {len(self.entries)} in {manifest.RECEIPTS}"
        strange = [name for name in made.files if name not in FILES]
        if strange:
            return f"names a file that no run has: {strange[0][:60]!r}"
        if sorted(made.clients) != sorted(self.identities):
            return f"does not name the clients that {manifest.TRUST} names"
        return next((p for name in made.clients if (p := self._closing(name))), None)

    def _closing(self, name: str) -> str | None:
        said = self.made.clients[name]
        if set(said) == {"reason"}:
            return None
        key, server = self.identities[name].key, self.made.server.key
        latest = self.latest.get(name)
        problem = closing.problem(said, name, self.run, server, key, latest)
        return None if problem is None else f"the closing of client {name!r} {problem}"

    def _file(self, name: str) -> str | None:
        file, digest = self.folder / name, self.made.files.get(name)
        ended_well = self.made.error is None
        if digest is None:
            needed = name in REQUIRED or (name == manifest.OUTCOME and ended_well)
            if not needed and not file.exists():
                return None
            return "is not among the files that the server signed"
        if not file.is_file():
            return "is not there; the server signed one"
        return None if sha256(file) == digest else "is not the file that the server signed"

    def _is_error(self, file: Path) -> bool:
        try:
            said = strict_json.parsed(regular_files.read(file))
        except ValueError:
            return False
        wanted = self.made.error or {}
        known = isinstance(said, dict) and bool(wanted)
        return known and all(said.get(key) == wanted[key] for key in wanted)

    def cut(self, name: str, own: Sequence[Entry]) -> Fault | None:
        """Where a client's own ledger is not what its closing says; None where it is, or none is.

        Args:
            name: of the client.
            own: its ledger; chain and signatures hold.
        """
        said = self.made.clients.get(name, {})
        if "entries" not in said or self._closing(name) is not None:
            return None
        count = int(said["entries"])
        if len(own) < count:
            what = f"is cut off: when the run ended, its ledger had {count} entries"
            return Fault(len(own), what)
        if count and own[count - 1]["hash"] != said["head"]:
            return Fault(count - 1, "is not the last entry that the ledger had when the run ended")
        return None


def ended(made: Manifest) -> str | None:
    """What ended a run, one line; None when it ended well."""
    if made.error is None:
        return None
    said: Mapping[str, Any] = made.error
    message = str(said.get("message") or "").split("\n")[0]
    return f"{str(said.get('type'))[:60]}: {message}" if message else str(said.get("type"))[:60]
