"""The server as a client knows it: the runs that it began, and the keys that it must have.

A client keeps the opening of each run for good, because the next message may reach another process,
and another run may begin in between; beside it the number of the last request that it answered,
and what that was, so that a server which is resumed can ask it once more. A
key that the scenario or the node pins must be the server's, now or before a hand-over. Without a
pin of the node's own, the server of a client's first run is its server for the life of its store.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neulig_fl.core import strict_json
from neulig_fl.core.errors import BadReply
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger.handshake import is_run
from neulig_fl.ledger.key_store import private_folder
from neulig_fl.ledger.opening import Opening
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.records.signed_requests import NUMBERS, Signed

FOLDER = "servers"
_FIRST = "first.json"


@dataclass(frozen=True)
class Recipient:
    """Who gets a client's records.

    Args:
        identity: the server's keys; None where no run began.
        pins: keys that must be its own, each in this order: the scenario's, the node's.
        kept: the oldest key of the server of the store's first run; None where the node has a pin
            of its own, or there was no run.
    """

    identity: PublicIdentity | None = None
    pins: tuple[str, ...] = ()
    kept: str | None = None

    @property
    def agreement(self) -> str | None:
        """The text of the X25519 key that records are sealed to."""
        return None if self.identity is None else self.identity.agreement

    def problem(self) -> str | None:
        """Why this server gets nothing; None when its keys are those that are known, if any."""
        if self.identity is None:
            return "no server has begun this run here"
        for pin in self.pins:
            if pin not in self.identity.lineage:
                return f"the server's key is {self.identity.key}, which is not the pinned one"
        if self.kept is not None and self.kept != self.identity.lineage[0]:
            return (
                f"the server's key is {self.identity.key}, and in earlier runs it was another; "
                "keep it (server-keys), or pin the new one in the node config (server)"
            )
        return None


@dataclass(frozen=True)
class Servers:
    """What a client keeps of the servers that it met.

    Args:
        root: the client's folder.
    """

    root: Path

    @property
    def _folder(self) -> Path:
        return self.root / FOLDER

    def runs(self) -> int:
        """How many runs began here."""
        return sum(1 for _ in self._folder.glob("*.run")) if self._folder.is_dir() else 0

    def first(self) -> str | None:
        """The oldest key of the first run's server; None before any.

        Raises:
            BadReply: the file is damaged: another key must not take its place.
        """
        said = self._read(self._folder / _FIRST)
        if said is None:
            return None
        if not isinstance(said.get("key"), str):
            raise _damaged()
        return str(said["key"])

    def forget(self) -> None:
        """Let another server begin the next run, as only the owner of the store may."""
        (self._folder / _FIRST).unlink(missing_ok=True)

    def begin(self, said: dict[str, Any]) -> None:
        """Keep the opening of a run; the first word counts, until the server says that it goes on.

        Args:
            said: as it travels, read before.

        Raises:
            BadReply: a run of this id began otherwise, or a file is damaged.
        """
        opening = Opening.read(said)
        before = self.recall(opening.run)
        if before is not None and before != opening and not opening.continues(before):
            raise BadReply.public("a run of this id began with another statement")
        private_folder(self._folder)
        if self.first() is None:
            key = {"key": opening.server.lineage[0]}
            write_atomically(self._folder / _FIRST, json.dumps(key), PRIVATE)
        if before != opening:
            write_atomically(self._file(opening.run), json.dumps(said, sort_keys=True), PRIVATE)

    def recall(self, run: str | None) -> Opening | None:
        """The opening of a run; None when it did not begin here.

        Raises:
            BadReply: the file is damaged: another opening must not take its place.
        """
        said = self._read(self._file(run)) if run and is_run(run) else None
        if said is None:
            return None
        try:
            found = Opening.read(said)
        except BadReply as error:
            raise _damaged() from error
        if found.run != run:
            raise _damaged()
        return found

    def count(
        self, request: Signed, asked: str = "", entries: int = 0, closing: bool = False
    ) -> int | None:
        """Note that a request is answered now, so that it is not answered twice.

        Args:
            request: signed, of a run that began here. Whoever calls holds the store's lock: what is
                read must not change before it is written.
            asked: the digest of what is asked (`signed_requests.digest`).
            entries: how many the client's ledger has.
            closing: whether the end of the ledger is asked for, after which nothing else is.

        Returns:
            How many entries the ledger had when the same was asked before, of a process that died:
            the client's own, or the server's, which was resumed. None where it is asked once.

        Raises:
            BadReply: it was answered already, or a later one was begun; or the run is over here; or
                the file is damaged.
        """
        before = self._last(request.run)
        begun = {"number": request.number, "signature": request.signature, "done": False}
        told: dict[str, Any] = {"asked": asked, "entries": entries, "closed": closing}
        if before is None:
            self._note(request.run, {**begun, **told})
            return None
        handed_on = all(before.get(key) == value for key, value in begun.items())
        if not handed_on and request.number <= before["number"]:
            raise BadReply.public("the request was answered before, or a later one was")
        if before.get("closed") and not closing:
            raise BadReply.public("the run is over: its server asked for the end of the ledger")
        resumed = request.resumed > int(before["number"]) // NUMBERS
        again = handed_on or (resumed and before.get("asked") == asked)
        since = int(before.get("entries", entries)) if again else None
        if since is not None:
            told["entries"] = since
        self._note(request.run, {**begun, **told})
        return since

    def answered(self, request: Signed) -> None:
        """Note that a request is answered, whatever came of it, unless a later one was begun.

        Args:
            request: counted before. As for `count`, whoever calls holds the store's lock.
        """
        before = self._last(request.run)
        if before is not None and before["signature"] == request.signature:
            self._note(request.run, {**before, "done": True})

    def _last(self, run: str) -> dict[str, Any] | None:
        said = self._read(self._folder / f"{run}.last")
        if said is not None and type(said.get("number")) is not int:
            raise _damaged()
        return said

    def _note(self, run: str, said: dict[str, Any]) -> None:
        write_atomically(self._folder / f"{run}.last", json.dumps(said), PRIVATE)

    def _file(self, run: str) -> Path:
        return self._folder / f"{run}.run"

    def _read(self, file: Path) -> dict[str, Any] | None:
        try:
            said = strict_json.parsed(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _damaged() from error
        if not isinstance(said, dict):
            raise _damaged()
        return said


def _damaged() -> BadReply:
    return BadReply.public("what it kept of the server's runs is damaged")
