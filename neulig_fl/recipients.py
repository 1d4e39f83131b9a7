"""The server as a client knows it: the keys that it said in this run, held to those that are known.

The server says its keys with `hello`; a client keeps them for each run for good, because the next
message may reach another process, and another run may begin in between. A key that the scenario or
the node pins must be the server's, now or before a hand-over; without a pin the key is trusted as
it was first said in the run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from neulig_fl import strict_json
from neulig_fl.errors import BadReply
from neulig_fl.files import PRIVATE, write_atomically
from neulig_fl.greeting import RUN
from neulig_fl.key_files import private_folder
from neulig_fl.keys import PublicIdentity

FOLDER = "servers"


@dataclass(frozen=True)
class Recipient:
    """Who gets a client's records.

    Args:
        identity: the server's keys; None where it said none in this run.
        pins: keys that must be its own, each in this order: the scenario's, the node's.
    """

    identity: PublicIdentity | None = None
    pins: tuple[str, ...] = ()

    @property
    def agreement(self) -> str | None:
        """The text of the X25519 key that records are sealed to."""
        return None if self.identity is None else self.identity.agreement

    def problem(self) -> str | None:
        """Why this server gets nothing; None when its keys are those that are pinned, if any."""
        for pin in self.pins:
            if self.identity is None:
                return "the server's key is pinned, and it said none in this run"
            if pin not in self.identity.lineage:
                said = self.identity.key
                return f"the server's key is {said}, which is not the pinned one"
        return None


def remember(root: Path, run: str, record: object) -> None:
    """Keep what the server says of its keys, for one run; the first word counts.

    Args:
        root: the client's folder.
        run: the run's id.
        record: `PublicIdentity.record`.

    Raises:
        BadReply: it is none, its signatures are wrong, or the server said another key before.
    """
    found = PublicIdentity.read(record)
    before = recall(root, run)
    if before is not None and before != found:
        problem = "the server said other keys before in this run"
        raise BadReply(problem, public_reason=problem)
    if before is None:
        said = {RUN: run, "identity": found.record()}
        private_folder(root / FOLDER)
        write_atomically(_file(root, run), json.dumps(said, sort_keys=True) + "\n", PRIVATE)


def recall(root: Path, run: str | None) -> PublicIdentity | None:
    """The server's keys in a run; None when it said none.

    Raises:
        BadReply: the file is damaged: another key must not take its place.
    """
    if not run:
        return None
    try:
        said = strict_json.parsed(_file(root, run).read_bytes())
        found = PublicIdentity.read(said["identity"]) if said[RUN] == run else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, BadReply) as error:
        raise _damaged() from error
    if found is None:
        raise _damaged()
    return found


def _file(root: Path, run: str) -> Path:
    return root / FOLDER / f"{run}.json"


def _damaged() -> BadReply:
    problem = "what it kept of the server's keys in this run is damaged"
    return BadReply(problem, public_reason=problem)
