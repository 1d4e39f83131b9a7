"""The audit of one seed of a run: every check, and the first thing that each finds wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from neulig_fl.config.scenario import Scenario, load_resolved
from neulig_fl.config.values import SERVER, SLUG_WORDS, is_slug
from neulig_fl.core import regular_files
from neulig_fl.core.errors import BadReply, InputError, plain
from neulig_fl.core.files import sha256
from neulig_fl.core.run_folders import GIVEN_FILE, SCENARIO_FILE
from neulig_fl.ledger import chain, expert_account, manifest, receipts
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.handshake import RUN
from neulig_fl.ledger.manifest import Manifest
from neulig_fl.privacy.keys import PublicIdentity, fingerprint
from neulig_fl.records import entry_check, policy_layers
from neulig_fl.verification import (
    given_scenario,
    leverage_check,
    manifest_check,
    receipts_check,
    reconciliation,
    recount,
    report_check,
)
from neulig_fl.verification.findings import SCENARIO, Failure, Pins
from neulig_fl.verification.leverage_check import LeverageCheck
from neulig_fl.verification.manifest_check import ManifestCheck
from neulig_fl.verification.report_check import REPORT_FILE, ReportCheck


@dataclass
class Audit:
    """One seed's folder under verification.

    Args:
        folder: of the seed.
        trust: keys that whoever verifies knows.
        stores: the folder of the clients' stores; `clients` in the seed's folder if None.
    """

    folder: Path
    trust: Mapping[str, str]
    stores: Path | None = None
    run: object = None
    scenario: Scenario | None = None
    made: Manifest | None = None
    identities: dict[str, PublicIdentity] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    own: dict[str, list[Entry]] = field(default_factory=dict)
    survivors: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    other_version: str | None = None
    doubts: list[str] = field(default_factory=list)
    counted: LeverageCheck = field(default_factory=LeverageCheck)
    believed: dict[str, dict[str, object]] = field(default_factory=dict)
    sound: bool = False
    recounted: bool = False
    _unsaid: str | None = None

    def failures(self) -> list[Failure]:
        """Everything, in the order in which it rests on one another; the first of each file."""
        found = [*self._opened()]
        known = [*self._trust()]
        basis = [*known, *self._chain()]
        if not basis:
            basis += [*self._told_of_ledger(), *self._signatures()]
        self.sound = sound = not basis  # what is broken itself says nothing about the rest
        found += basis
        if sound:
            found += self._report()
        for name in sorted(self.identities):
            found += self._own_ledger(name, sound)
        if not known:
            found += self._strangers()
        if sound:
            found += [*self._noise(), *self._leverage()]
        if sound and self.made is not None:  # what nobody signed vouches for no report
            found += [*self._composed(), *self._given()]
        found += self._manifest(sound)
        first: dict[Path, Failure] = {}
        for each in found:
            first.setdefault(each.file, each)
        return [*first.values()]

    @property
    def pins(self) -> Pins:
        """Who must have which key."""
        return Pins(self.trust, {} if self.scenario is None else self.scenario.trust)

    @property
    def error(self) -> str | None:
        """What ended the run, by the manifest; None when it ended well, or nobody says."""
        return None if self.made is None else manifest_check.ended(self.made)

    # ------------------------------------------------------------ what the rest rests on

    def _opened(self) -> Iterator[Failure]:
        """The manifest and the scenario, as far as they hold by themselves."""
        self.made, self._unsaid = manifest_check.read(self.folder)
        file = self.folder / manifest.SCENARIO
        try:
            self.scenario = load_resolved(file)
        except InputError:
            what = "is not a scenario as a run writes it" if file.is_file() else "is not there"
            yield Failure(file, None, what)

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
                yield Failure(file, None, f"client {plain(repr(name), 80)}: {problem}")
                return

    def _take_key(self, name: str, record: object) -> str | None:
        if not is_slug(name):  # it names a folder
            return f"is no client's name; allowed: {SLUG_WORDS}"
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
        problem = self.pins.problem(name, found.lineage)
        if problem is None and record["pinned"] != (name in self.pins.scenario):
            problem = (
                f"{SCENARIO} {'pins' if name in self.pins.scenario else 'does not pin'} its key"
            )
        return problem

    # ------------------------------------------------------------ the server's receipts

    def _chain(self) -> Iterator[Failure]:
        file = self.folder / receipts.FILE
        if not file.is_file():
            yield Failure(file, None, "is not there")
            return
        self.entries, found = chain.parsed(regular_files.read(file))
        found = found or chain.fault(self.entries)
        if found is not None:
            yield Failure(file, found.index, found.what)
            return

    def _told_of_ledger(self) -> Iterator[Failure]:
        """What the report says of the receipts and of the keys."""
        if self.error is not None:
            return  # the run has no report
        said = self._said.get("ledger")
        said = said if isinstance(said, dict) else {}
        wanted: dict[str, object] = {
            "entries": len(self.entries),
            "head": chain.head(self.entries),
            "verified": True,
        }
        if "trust" in said:
            wanted |= {RUN: self.run, "trust": self.believed}
        problem = receipts.difference(said, wanted)
        if problem is not None:
            yield Failure(self._report_file, None, f"of the ledger it {problem}")

    def _signatures(self) -> Iterator[Failure]:
        """Every receipt is a refusal, or says what the client signed, in the client's order."""
        fault = receipts_check.fault(self.entries, self.identities, self.run)
        if fault is not None:
            yield Failure(self.folder / receipts.FILE, fault.index, fault.what)

    def _noise(self) -> Iterator[Failure]:
        """The protection and the noise of every entry are those that its stage asks for."""
        for index, receipt in enumerate(self.entries):
            if self.scenario is not None and isinstance(receipt.get("entry"), dict):
                problem = entry_check.problem(self.scenario, receipt["entry"])
                if problem is not None:
                    what = f"the entry that client {receipt.get('client')!r} signed {problem}"
                    yield Failure(self.folder / receipts.FILE, index, what)

    def _leverage(self) -> Iterator[Failure]:
        """Every leverage, counted a second time from the receipts."""
        if not any("sums" in (each.get("entry") or {}) for each in self.entries):
            return
        self.counted = leverage_check.check(self.entries, self.survivors, self._limits())
        for fault in self.counted.faults[:1]:
            yield Failure(self.folder / receipts.FILE, fault.index, fault.what)

    def _limits(self) -> dict[str, float]:
        """Each client's `max_leverage`, as far as the scenario has its policies."""
        found, unread = policy_layers.max_leverages(self.scenario.clients if self.scenario else ())
        self.unread += unread
        return found

    # ------------------------------------------------------------ the report

    @property
    def _report_file(self) -> Path:
        return self.folder / REPORT_FILE

    @cached_property
    def _said(self) -> dict[str, Any]:
        """The report; empty when it cannot be read, which then fails for what it does not say."""
        return report_check.loaded(self._report_file)

    def _report(self) -> Iterator[Failure]:
        """The report's releases and refusals are those of the receipts, in the same order."""
        if self.error is not None:
            if self._report_file.exists():
                what = f"is of a run that failed, says {manifest.FILE}: it has no report"
                yield Failure(self._report_file, None, what)
            return
        problem = receipts_check.told_otherwise(self._said, self.entries)
        if problem is not None:
            yield Failure(self._report_file, None, problem)

    def _composed(self) -> Iterator[Failure]:
        """The report follows from what the server signed, and its page from it."""
        if self.error is not None:
            return
        outcome = report_check.loaded(self.folder / manifest.OUTCOME)
        scenario: dict[str, Any] = {}
        if self.scenario is not None:
            scenario |= {"name": self.scenario.name, "seed": self.scenario.seed}
        with contextlib.suppress(InputError):  # `_given` tells
            given = self._as_given
            scenario |= {} if given is None else {"hash": given.hash}
        check = ReportCheck(self.folder, self._said, outcome, scenario, self._clients, self.run)
        self.other_version = check.other_version
        problems = [*check.failures()]
        yield from problems or self._recounted()

    def _recounted(self) -> Iterator[Failure]:
        """The report's accuracies are those of the predictions that the server signed."""
        file = self.folder / manifest.PREDICTIONS
        if self.made is None or self.made.files.get(file.name) is None or not file.is_file():
            return  # of an earlier version, or missing, which the manifest's check tells
        if sha256(file) != self.made.files[file.name]:
            return
        problem = recount.problem(file, self._said)
        self.recounted = problem is None
        if problem is not None:
            yield Failure(file, None, problem)

    @cached_property
    def _as_given(self) -> Scenario | None:
        """The scenario as it was given; None where it is not here."""
        place = given_scenario.given(self.folder)
        return None if place is None else given_scenario.read(place)

    def _given(self) -> Iterator[Failure]:
        """The scenario as it was given is the one that was run."""
        place = given_scenario.given(self.folder)
        if place is None or self.scenario is None:
            return
        file = place / GIVEN_FILE
        try:
            given = self._as_given
        except InputError as error:
            yield Failure(file, None, f"is not valid: {error}")
            return
        problem = None if given is None else given_scenario.difference(given, self.scenario)
        if problem is not None:
            yield Failure(file, None, f"is not what {manifest.SCENARIO} says: there {problem}")
        yield from self._again(place, self.scenario)
        if place != self.folder and self.folder.name != f"seed-{self.scenario.seed}":
            what = f"is of seed {self.scenario.seed}, in the folder of another"
            yield Failure(self.folder / manifest.SCENARIO, None, what)

    def _again(self, place: Path, ran: Scenario) -> Iterator[Failure]:
        """What would be run again is what was run."""
        file = place / SCENARIO_FILE
        try:
            problem = given_scenario.again(place, ran) if file.is_file() else None
        except InputError as error:
            yield Failure(file, None, f"is not valid: {error}")
            return
        if problem is not None:
            yield Failure(file, None, f"is not what {manifest.SCENARIO} says: there {problem}")

    # ------------------------------------------------------------ the manifest

    def _manifest(self, sound: bool) -> Iterator[Failure]:
        """The folder is what the server signed, and the server who it must be."""
        file, made = self.folder / manifest.FILE, self.made
        if made is None:
            yield Failure(file, None, str(self._unsaid))
            return
        problem = self.pins.problem(SERVER, made.server.lineage)
        if problem is not None:
            yield Failure(file, None, f"the server: {problem}")
        yield from self._held(made).failures(sound)

    def _held(self, made: Manifest) -> ManifestCheck:
        latest = {
            str(e.get("client")): e["entry"]
            for e in self.entries
            if isinstance(e.get("entry"), dict)
        }
        known = (self.run, self.identities, self.entries, latest)
        return ManifestCheck(self.folder, made, *known)

    # ------------------------------------------------------------ the clients' own ledgers

    @property
    def _clients(self) -> Path:
        return self.stores or self.folder / "clients"

    def _own_ledger(self, name: str, sound: bool) -> Iterator[Failure]:
        """A client's own ledger: whole, its own, and the same as the receipts that are sound."""
        file = self._clients / name / "ledger.jsonl"
        if not file.parent.is_dir():
            return
        content = regular_files.read(file) if file.is_file() else b""
        lines = chain.whole_lines(content)
        if len(lines) < len(content):
            self.torn.append(name)
        own, found = chain.parsed(lines)
        self.own[name] = own
        found = found or chain.fault(own)
        found = found or chain.signature_fault(own, self.identities[name].lineage)
        found = found or reconciliation.anothers(name, own, self.run)
        found = found or reconciliation.impossible(own) or expert_account.fault(own)
        if found is None and sound:
            noted = [*self.entries, *self._not_closed(name)]
            found = reconciliation.disagreement(name, own, noted, self.run)
            if found is None and self.scenario is not None:
                found = entry_check.fault(self.scenario, own, self.run)
            if found is None and self.made is not None:
                found = self._held(self.made).cut(name, own)
            if found is None:
                doubts = reconciliation.doubtful(name, own, noted, self.run)
                self.doubts += [f"{name} entered {each}" for each in doubts]
        if found is not None:
            yield Failure(file, found.index, found.what)
        else:
            self.survivors[name] = _outcomes(own)

    def _not_closed(self, name: str) -> list[Entry]:
        """Why there is no closing, as a receipt tells it: the client notes a refusal."""
        said = self.made.clients.get(name, {}) if self.made else {}
        if "reason" not in said:
            return []
        asked = dict.fromkeys(("stage", "kind", "queries"))
        return [{**asked, "client": name, "reason": said["reason"]}]

    def _strangers(self) -> Iterator[Failure]:
        """A store whose owner never said hello has no entry of this run."""
        for folder in sorted(self._clients.glob("*/")):
            file = folder / "ledger.jsonl"
            if folder.name in self.identities or not file.is_file():
                continue
            for index, entry in enumerate(chain.parsed(regular_files.read(file))[0]):
                if entry.get(RUN) == self.run:
                    yield Failure(file, index, "is of this run, and its owner never said hello")
                    break


def _outcomes(own: Sequence[Entry]) -> dict[str, list[str]]:
    """Who survived the sums that a client confirmed, by round."""
    said = ((each.get("round"), each.get("survivors")) for each in own)
    return {str(number): names for number, names in said if isinstance(names, list)}


def _canonical_object(file: Path) -> dict[str, Any] | None:
    """A file of one canonical line; None when it is not there or not that."""
    entries, found = chain.parsed(regular_files.read(file) if file.is_file() else b"")
    return entries[0] if found is None and len(entries) == 1 else None
