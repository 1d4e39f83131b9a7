"""The server's receipts: what it received and was refused, each with the client's signed entry.

The server cannot write a client's entry and a client cannot deny its own, so who gave what to whom
can be shown afterwards. Keys are pinned by the scenario, or trusted when they are first seen; the
record of them says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neulig_fl.config.values import SERVER
from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.ledger import chain, entry_form, expert_account, handshake, manifest
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.keys import SIGNING, PublicIdentity, fingerprint, public_bytes

FILE, TRUST_FILE = manifest.RECEIPTS, manifest.TRUST
_LARGEST_ENTRY = 65_536


def require_pins(pins: Mapping[str, str]) -> None:
    """Refuse a pin that is no key.

    Args:
        pins: the text of an Ed25519 public key for each client that is pinned.

    Raises:
        InputError: it is none.
    """
    for client, key in pins.items():
        if public_bytes(key, SIGNING) is None:
            whose = "the server" if client == SERVER else f"client {client!r}"
            raise InputError(
                f"the key pinned for {whose} is {str(key)[:80]!r}; allowed: {SIGNING}: "
                "and 43 characters of base64url, as the client's hello and `trust.json` say it"
            )


@dataclass
class Receipts:
    """The server's own ledger of one run, and the keys that it believes.

    Args:
        pins: the key that each client must have, or have handed over; others are trusted as they
            are first seen.
        run: the run's id.

    Raises:
        InputError: a pin is no key.
    """

    pins: Mapping[str, str] = field(default_factory=dict)
    run: str = field(default_factory=handshake.new_run)
    entries: list[Entry] = field(default_factory=list)
    known: dict[str, PublicIdentity] = field(default_factory=dict)
    _latest: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_pins(self.pins)

    def meet(self, client: str, body: Mapping[str, Any]) -> None:
        """Learn a client's keys from its client hello.

        Raises:
            BadReply: the client hello is not its own, or its key is not the one that is pinned.
        """
        found = handshake.checked(body, client, self.run)
        pin = self.pins.get(client)
        if pin is not None and pin not in found.lineage:
            raise BadReply(
                f"its key is {found.key} and not the pinned one, {pin}, nor was it handed over "
                "from that; ask its owner, then pin the new key"
            )
        self.known[client] = found

    def check(
        self, client: str, request: Mapping[str, Any], facts: Mapping[str, Any], entry: object
    ) -> Entry:
        """Believe a client's signed entry, or not.

        Args:
            client: who was asked.
            request: what for, field by field.
            facts: `rows`, `bytes` and `sha256` of what came.
            entry: as it came.

        Returns:
            The entry.

        Raises:
            BadReply: it is not signed by the client, says something else than what was asked and
                what came, or does not follow the client's last one.
        """
        if client not in self.known:
            raise BadReply("it never said hello, so its key is not known")
        if not isinstance(entry, dict):
            raise BadReply("it sent no signed entry of its ledger")
        problem = _unsigned(entry, self.known[client].key) or entry_problem(entry)
        if problem is None:
            wanted = {"client": client, RUN: self.run, **request, **facts}
            problem = difference(entry, wanted)
        if problem is None:
            problem = out_of_order(entry, self._latest.get(client))
        if problem is None:
            earlier = [each for _, each in signed_entries(self.entries, client)]
            problem = expert_account.problem(entry, earlier)
        if problem is not None:
            raise BadReply(f"its signed entry {problem}")
        self._latest[client] = entry
        return entry

    def latest(self, client: str) -> Entry | None:
        """A client's latest signed entry that was believed; None when there is none."""
        return self._latest.get(client)

    def last(self) -> dict[str, Entry]:
        """Each client's latest signed entry that was believed."""
        return dict(self._latest)

    def take(self, entries: Sequence[Entry], latest: Mapping[str, Entry]) -> None:
        """Take over receipts that this server wrote before it was resumed.

        Args:
            entries: those that follow.
            latest: what `last` gave after them.

        Raises:
            InputError: they do not follow.
        """
        if chain.fault([*self.entries, *entries], checked=len(self.entries)) is not None:
            raise InputError("the receipts that were kept do not follow from those before them")
        self.entries += entries
        self._latest.update(latest)

    def add(self, fact: Entry, client: str | None = None) -> None:
        """Note what was received, with the client's latest entry, or what was refused.

        Args:
            fact: what the server says of it.
            client: whose signed entry goes with it; None for a refusal, which has none.
        """
        signed = {} if client is None else {"entry": self._latest[client]}
        self.entries.append(chain.extended(self.entries, {**fact, **signed}))

    def trust(self) -> dict[str, dict[str, Any]]:
        """The keys that were believed, and whether they were pinned; a client's name each."""
        return {
            name: {
                **found.record(),
                "fingerprint": fingerprint(found.key),
                "pinned": name in self.pins,
            }
            for name, found in self.known.items()
        }

    def told(self) -> dict[str, Any]:
        """What the report says of the run's id and of the keys that were believed."""
        trust = {
            name: {k: said[k] for k in ("key", "pinned")} for name, said in self.trust().items()
        }
        return {RUN: self.run, "trust": trust}

    def verified(self) -> bool:
        """Whether the chain, and every client's signature in it, still hold."""
        return chain.verify(self.entries) and all(
            not chain.signature_problem(each["entry"], self.known[each["client"]].key)
            for each in self.entries
            if "entry" in each
        )

    def write(self, folder: Path) -> None:
        """Write the receipts and the keys that they were checked with."""
        write_atomically(folder / FILE, chain.text(self.entries), PRIVATE)
        trust = {RUN: self.run, "clients": self.trust()}
        write_atomically(folder / TRUST_FILE, chain.canonical(trust) + "\n", PRIVATE)


def _unsigned(entry: Entry, key: str) -> str | None:
    try:
        size = len(chain.canonical(entry))
    except (ValueError, RecursionError):
        return "is not JSON-serialisable"
    if size > _LARGEST_ENTRY:
        return f"is {size} characters long; at most {_LARGEST_ENTRY} are read"
    return chain.signature_problem(entry, key)


def entry_problem(entry: Entry) -> str | None:
    """What is wrong with a release as an entry says it, whatever was asked; None when nothing is.

    The server asks it before it believes an entry, and `verify` afterwards.
    """
    if entry.get("event") not in expert_account.LEFT:
        return f"is of a {str(entry.get('event'))[:40]!r}, not of a release"
    return entry_form.problem(entry)


def difference(entry: Entry, wanted: Mapping[str, Any]) -> str | None:
    """The first fact in which an entry is not what it must be; None when it says all of them.

    Numbers must be of the same kind too: 1, 1.0 and true are three things in a signed text.
    """
    for name, value in wanted.items():
        if name not in entry or chain.canonical(entry[name]) != chain.canonical(value):
            said = str(entry.get(name))[:60]
            return f"says {name} {said!r} where {str(value)[:60]!r} is right"
    return None


def out_of_order(entry: Entry, latest: Entry | None) -> str | None:
    """Why an entry cannot follow a client's latest one; None when it can.

    Between the two the client may have entered what this server does not receive, such as a
    refusal or another run's release; two in a row must be linked.
    """
    index, before = entry["index"], -1 if latest is None else latest["index"]
    if latest is not None and index <= before:
        return f"has the index {index}, and the one before it {before}: its ledger was forked"
    start = chain.START if latest is None else latest["hash"]
    linked = index != before + 1 or entry.get("previous") == start
    return None if linked else "does not follow from the one before it: its ledger was changed"


def signed_entries(receipts: Sequence[Entry], client: str) -> list[tuple[int, Entry]]:
    """The signed entries of one client in a server's receipts, each with its receipt's index."""
    return [
        (index, each["entry"])
        for index, each in enumerate(receipts)
        if each.get("client") == client and isinstance(each.get("entry"), dict)
    ]
