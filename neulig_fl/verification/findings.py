"""What verifying a run found: what failed, what was checked, and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neulig_fl.privacy.keys import fingerprint

OWN, SCENARIO = "--trust", "scenario.json"
"""Who says that a key must be a party's: whoever verifies; the scenario in the run's folder."""


@dataclass(frozen=True)
class Failure:
    """Something that does not hold.

    Args:
        file: where.
        index: of the entry or line, from 0; None when no single one is to blame.
        what: what is wrong, one line.
    """

    file: Path
    index: int | None
    what: str

    def __str__(self) -> str:
        where = "" if self.index is None else f", entry {self.index}"
        return f"{self.file}{where}: {self.what}"


@dataclass(frozen=True)
class Signer:
    """Whose key it is that a run rests on.

    Args:
        name: of the client; `server`.
        key: its public key's text.
        pinned: `OWN` or `SCENARIO`, where one of them knows the key, now or before a hand-over;
            None where it is only what the run says.
    """

    name: str
    key: str
    pinned: str | None

    @property
    def fingerprint(self) -> str:
        """The key for people to compare."""
        return fingerprint(self.key)


@dataclass(frozen=True)
class Checked(Signer):
    """One client of a run.

    Args:
        signed: entries of it in the receipts.
        own: entries of its own ledger; None where that is not here and was not looked at.
        closed: why the end of its ledger is not known; None where it is signed.
    """

    signed: int = 0
    own: int | None = None
    closed: str | None = None


@dataclass(frozen=True)
class Findings:
    """What verifying the folder of one seed, or of all seeds together, found.

    Args:
        folder: of the seed, or of the run.
        checked: what holds, one line each.
        unchecked: what was not checked, and why, one line each.
        failures: nothing when all holds; the first of each file.
        entries: receipts.
        head: hash of the last one.
        server: who signed the manifest; None where nobody did.
        clients: in the order of their names.
        error: what ended the run, one line; None when it ended well.
    """

    folder: Path
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    failures: tuple[Failure, ...]
    entries: int = 0
    head: str | None = None
    server: Signer | None = None
    clients: tuple[Checked, ...] = ()
    error: str | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


@dataclass(frozen=True)
class Pins:
    """Keys that a run's parties must have, by name; `server` is the server's.

    Args:
        own: that whoever verifies knows.
        scenario: that the scenario in the run's folder names.
    """

    own: Mapping[str, str]
    scenario: Mapping[str, str]

    def problem(self, name: str, lineage: tuple[str, ...]) -> str | None:
        """Why these keys are not the party's; None when they are, or nobody knows.

        Args:
            name: of the party.
            lineage: all keys that it had, the present one last.
        """
        for pins, whose in ((self.own, ""), (self.scenario, f", as {SCENARIO} has it")):
            pin = pins.get(name)
            if pin is not None and pin not in lineage:
                return f"its key is {lineage[-1]}, not the one that it must be, {pin}{whose}"
        return None

    def source(self, name: str) -> str | None:
        """Who knows a party's key."""
        if name in self.own:
            return OWN
        return SCENARIO if name in self.scenario else None
