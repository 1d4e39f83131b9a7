"""Verification of a run: its ledgers, its receipts and its report tell one story, and signed.

What is checked, for every seed of a run: the chain of the server's receipts and the head that the
report holds of it; every client's signature; that the receipts say what was signed; that the
report's releases and refusals are those of the receipts; and, where a client's own store is there,
as in a simulation, that its ledger holds the same entries and no others of this run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from neulig_fl import agreement, ledger, privacy, receipts
from neulig_fl.errors import BadReply, InputError, nearest
from neulig_fl.greeting import RUN
from neulig_fl.keys import PublicIdentity, fingerprint
from neulig_fl.ledger import Entry

REPORT_FILE = "report.json"
_SAID = ("client", "stage", "group", "queries", "kind", "protection", "rows", "bytes", "sha256")
_CLAIMED = ("epsilon", "delta", "adjacency")


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
class Checked:
    """One client of a run.

    Args:
        name: of the client.
        key: its public key's text.
        pinned: whether the run, or who verifies, knew the key before; else it was trusted as it was
            first seen.
        signed: entries of it in the receipts.
        own: entries of its own ledger; None where that is not here and was not looked at.
    """

    name: str
    key: str
    pinned: bool
    signed: int
    own: int | None

    @property
    def fingerprint(self) -> str:
        """The key for people to compare."""
        return fingerprint(self.key)


@dataclass(frozen=True)
class Findings:
    """What verifying one seed's folder found.

    Args:
        folder: of the seed.
        entries: receipts.
        head: hash of the last one.
        clients: in the order of their names.
        failures: nothing when all holds; the first of each file.
    """

    folder: Path
    entries: int
    head: str | None
    clients: tuple[Checked, ...]
    failures: tuple[Failure, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


def verify(run: Path, trust: Mapping[str, str] | None = None) -> list[Findings]:
    """Verify a run's folder, or that of one of its seeds.

    Args:
        run: the folder.
        trust: the public key that a client must have had, by its name.

    Returns:
        What was found, seed by seed.

    Raises:
        InputError: there is no run in the folder, or `trust` names no client of it, or no key.
    """
    pins = dict(trust or {})
    receipts.require_pins(pins)
    return [_Audit(folder, pins).findings() for folder in _seeds(run)]


def _seeds(run: Path) -> list[Path]:
    if (run / REPORT_FILE).is_file():
        return [run]
    found = [path.parent for path in run.glob(f"seed-*/{REPORT_FILE}")]
    if not found:
        raise InputError(
            f"{run}: holds neither {REPORT_FILE} nor seed-N/{REPORT_FILE}; give the folder of a "
            "run that ended well"
        )
    return sorted(found, key=lambda path: (len(path.name), path.name))


@dataclass
class _Audit:
    """One seed's folder under verification.

    Args:
        folder: of the seed.
        pins: keys that whoever verifies knows.
    """

    folder: Path
    pins: Mapping[str, str]
    run: object = None
    identities: dict[str, PublicIdentity] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    own: dict[str, int] = field(default_factory=dict)
    believed: dict[str, dict[str, object]] = field(default_factory=dict)

    def findings(self) -> Findings:
        """Everything, in the order in which it rests on one another."""
        failures = [*self._trust(), *self._chain()]
        if not failures:
            failures += self._signatures()
        sound = not failures  # what is broken itself says nothing about the rest
        if sound:
            failures += self._report()
        for name in sorted(self.identities):
            failures += self._own_ledger(name, sound)
        failures += self._strangers()
        return Findings(
            folder=self.folder,
            entries=len(self.entries),
            head=ledger.head(self.entries),
            clients=tuple(self._client(name) for name in sorted(self.identities)),
            failures=tuple(failures),
        )

    def _client(self, name: str) -> Checked:
        signed = len(receipts.signed_entries(self.entries, name))
        key, pinned = self.identities[name].key, name in self.pinned
        return Checked(name, key, pinned, signed, self.own.get(name))

    # ------------------------------------------------------------ keys

    def _trust(self) -> Iterator[Failure]:
        """The keys that the server believed, each provable by itself."""
        file = self.folder / receipts.TRUST_FILE
        said = _canonical_object(file)
        clients = said.get("clients") if said else None
        if not isinstance(clients, dict):
            yield Failure(file, None, "is not there, or not as a run writes it")
            return
        self.run = said.get(RUN) if said else None
        for name, record in clients.items():
            problem = self._take_key(name, record)
            if problem is not None:
                yield Failure(file, None, f"client {name!r}: {problem}")
                return
        for name in self.pins:
            if name not in self.identities:
                raise InputError(
                    f"no client is called {name!r} in {self.folder}; {nearest(name, clients)}"
                )

    def _take_key(self, name: str, record: object) -> str | None:
        if Path(name).name != name or "\0" in name:
            return "is no client's name"
        if not isinstance(record, dict) or not isinstance(record.get("pinned"), bool):
            return "is not described"
        rest = {k: v for k, v in record.items() if k not in ("pinned", "fingerprint")}
        try:
            found = PublicIdentity.read(rest)
        except BadReply as error:
            return str(error)
        if record.get("fingerprint") != fingerprint(found.key):
            return "its fingerprint is not its key's"
        self.identities[name] = found
        self.believed[name] = {"key": found.key, "pinned": record["pinned"]}
        pin = self.pins.get(name)
        if pin is not None and pin not in found.lineage:
            return f"its key is {found.key}, not the one that it must be, {pin}"
        if pin is not None or record["pinned"]:
            self.pinned.add(name)
        return None

    # ------------------------------------------------------------ the server's receipts

    def _chain(self) -> Iterator[Failure]:
        file = self.folder / receipts.FILE
        if not file.is_file():
            yield Failure(file, None, "is not there")
            return
        self.entries, found = ledger.parsed(file.read_bytes())
        found = found or ledger.fault(self.entries)
        if found is not None:
            yield Failure(file, found.index, found.what)
            return
        said = self._said.get("ledger")
        said = said if isinstance(said, dict) else {}
        wanted: dict[str, object] = {
            "entries": len(self.entries),
            "head": ledger.head(self.entries),
            "verified": True,
        }
        if "trust" in said:
            wanted |= {RUN: self.run, "trust": self.believed}
        problem = receipts.difference(said, wanted)
        if problem is not None:
            yield Failure(self._report_file, None, f"of the ledger it {problem}")

    def _signatures(self) -> Iterator[Failure]:
        """Every receipt is a refusal, or says what the client signed, in the client's order."""
        latest: dict[str, Entry] = {}
        for index, receipt in enumerate(self.entries):
            problem = self._receipt_problem(receipt, latest)
            if problem is not None:
                yield Failure(self.folder / receipts.FILE, index, problem)
                return

    def _receipt_problem(self, receipt: Entry, latest: dict[str, Entry]) -> str | None:
        name, entry = str(receipt.get("client")), receipt.get("entry")
        if "entry" not in receipt:
            refused = isinstance(receipt.get("reason"), str)
            return None if refused else "holds neither the client's signed entry nor a reason"
        if name not in self.identities:
            return f"is of client {name!r}, who never said hello"
        if not isinstance(entry, dict):
            return "holds no signed entry of the client"
        problem = ledger.signature_problem(entry, self.identities[name].key)
        problem = problem or receipts.entry_problem(entry)
        if problem is None:
            wanted = {RUN: self.run, **{k: receipt.get(k) for k in (*_SAID, *_CLAIMED)}}
            problem = receipts.difference({**dict.fromkeys(_CLAIMED), **entry}, wanted)
        problem = problem or receipts.out_of_order(entry, latest.get(name))
        latest[name] = entry
        return None if problem is None else f"the entry that client {name!r} signed {problem}"

    # ------------------------------------------------------------ the report

    @property
    def _report_file(self) -> Path:
        return self.folder / REPORT_FILE

    @cached_property
    def _said(self) -> dict[str, Any]:
        """The report; empty when it cannot be read, which then fails for what it does not say."""
        try:
            found = json.loads(self._report_file.read_bytes(), parse_constant=_no_number)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _report(self) -> Iterator[Failure]:
        """The report's releases and refusals are those of the receipts, in the same order."""
        stages = _objects(self._said.get("stages"))
        for kind, signed in (("releases", True), ("refusals", False)):
            kept = [(i, e) for i, e in enumerate(self.entries) if ("entry" in e) is signed]
            told = [
                {"stage": stage.get("name"), "group": stage.get("group"), **each}
                for stage in stages
                for each in _objects(stage.get(kind))
            ]
            problem = _compared(kind, told, kept)
            if problem is not None:
                yield Failure(self._report_file, None, problem)
                return
        wanted = privacy.account(self.entries, [str(stage.get("name")) for stage in stages])
        if ledger.canonical(self._said.get("privacy")) != ledger.canonical(wanted):
            what = "its epsilons are not those that the signed entries come to"
            yield Failure(self._report_file, None, what)

    # ------------------------------------------------------------ the clients' own ledgers

    def _own_ledger(self, name: str, sound: bool) -> Iterator[Failure]:
        """A client's own ledger: whole, its own, and the same as the receipts that are sound."""
        file = self.folder / "clients" / name / "ledger.jsonl"
        if not file.parent.is_dir():
            return
        own, found = ledger.parsed(file.read_bytes() if file.is_file() else b"")
        self.own[name] = len(own)
        found = found or ledger.fault(own)
        found = found or ledger.signature_fault(own, self.identities[name].lineage)
        found = found or agreement.anothers(name, own)
        if found is None and sound:
            found = agreement.disagreement(name, own, self.entries, self.run)
        if found is not None:
            yield Failure(file, found.index, found.what)

    def _strangers(self) -> Iterator[Failure]:
        """A store whose owner never said hello has no entry of this run."""
        for folder in sorted((self.folder / "clients").glob("*/")):
            file = folder / "ledger.jsonl"
            if folder.name in self.identities or not file.is_file():
                continue
            for index, entry in enumerate(ledger.parsed(file.read_bytes())[0]):
                if entry.get(RUN) == self.run:
                    yield Failure(file, index, "is of this run, and its owner never said hello")
                    break


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list in a report; what is none is missed by the comparison."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _compared(
    kind: str, told: Sequence[Mapping[str, Any]], kept: Sequence[tuple[int, Entry]]
) -> str | None:
    """Where a report's list departs from the receipts; None where it does not."""
    for number, (each, (index, entry)) in enumerate(zip(told, kept, strict=False)):
        beyond = [fact for fact in each if fact not in entry]
        problem = f"tells of {beyond[0]}, which was not signed" if beyond else None
        problem = problem or receipts.difference(dict(each), {fact: entry[fact] for fact in each})
        if problem is not None:
            return f"{kind} {number} {problem}, by entry {index} of the receipts"
    if len(told) != len(kept):
        return f"tells of {len(told)} {kind} where the receipts hold {len(kept)}"
    return None


def _canonical_object(file: Path) -> dict[str, Any] | None:
    """A file of one canonical line; None when it is not there or not that."""
    entries, found = ledger.parsed(file.read_bytes() if file.is_file() else b"")
    return entries[0] if found is None and len(entries) == 1 else None
