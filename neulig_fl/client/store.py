"""What one client keeps across messages, processes and runs: keys, releases, its ledger.

The folder belongs to the client; the server never reads it. A release is written to the disk and
entered in the ledger before its bytes are handed on, so a process killed in between can only have
charged too much, never too little.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from neulig_fl.core.files import replace_atomically, sweep
from neulig_fl.ledger import chain, expert_account, key_store
from neulig_fl.privacy.keys import Identity
from neulig_fl.records.kinds import Field

KEYS = "keys"
"""The folder of a client's keys, where they have none of their own."""

FACTS = ("stage", "client", "kind", "queries", "protection", "rows", "bytes", "sha256", "epsilon")
"""What every entry says, null where it does not apply."""

Wrap = Callable[[bytes], bytes]
"""Makes the bytes that leave of the bytes that are stored."""


@dataclass(frozen=True)
class Released:
    """A release as the store knows it.

    Args:
        payload: the bytes as they leave; of what `find` found, as they are stored.
        rows: rows of the record.
        entry: the ledger entry that charges it.
    """

    payload: bytes = field(repr=False)
    rows: int
    entry: chain.Entry


def _as_it_is(payload: bytes) -> bytes:
    return payload


class ClientStore:
    """One client's folder.

    Args:
        root: the folder; made when something is first kept.
        run: the id of the run that asks; None outside of one. Every new entry says it.
        keys: the folder of the client's keys; `keys` in `root` when not given.
    """

    def __init__(self, root: Path, run: str | None = None, keys: Path | None = None) -> None:
        self.root = root
        self.run = run
        self._keys = keys or root / KEYS
        self._held = 0
        self._read: list[chain.Entry] | None = None

    @property
    def ledger_file(self) -> Path:
        """The client's own ledger, one JSON object a line."""
        return self.root / "ledger.jsonl"

    @cached_property
    def identity(self) -> Identity:
        """The client's keys, made at first use.

        Raises:
            InputError: a key file cannot be used, or others can read it.
        """
        key_store.private_folder(self.root)
        return key_store.identity(self._keys)

    @cached_property
    def _secret(self) -> bytes:
        key_store.private_folder(self.root)
        return key_store.secret(self.root / KEYS / "store.key")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other process out of this folder for a while; may be nested.

        What is decided on the ledger and entered in it must happen under one lock, or two messages
        at once could both pass a limit that only one of them fits in.
        """
        with ExitStack() as stack:
            if not self._held:
                stack.enter_context(key_store.locked(self.root))
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1
                self._read = self._read if self._held else None

    def entries(self) -> list[chain.Entry]:
        """The client's own ledger, oldest entry first.

        Read and checked once for as long as nobody else can write to it.

        Raises:
            RunError: it is damaged.
        """
        if self._read is not None:
            return list(self._read)
        found = chain.read(self.ledger_file)
        self._read = found if self._held else None
        return list(found)

    def sweep(self) -> None:
        """Remove what killed processes left half-written here."""
        for name in ("", "releases", KEYS, "servers", "peers", "images"):
            sweep(self.root / name)

    def tag(self, *parts: str) -> str:
        """A name for something that the ledger must recognise and its readers must not.

        Entries travel to the server as receipts. An HMAC under a secret of this store is the same
        for the same parts, and says nothing about them to anybody without the secret.

        Args:
            parts: what identifies the thing, such as an expert's hash.
        """
        text = chain.canonical(parts)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]

    def fingerprint(
        self, kind: str, fields: Sequence[Field], treatment: Sequence[Any], record_hash: str
    ) -> str:
        """Identifies a record as it is stored, by what it is and not by what it is called.

        Stage, group, query set and fraction name a record in a request; two requests for the same
        one by other names are one request, or there would be noise for each name.

        Args:
            kind: of the record.
            fields: its arrays (`kinds.layout`).
            treatment: its protection, and what else that makes it of, such as how much noise.
            record_hash: identifies what its numbers follow from.
        """
        return self.tag("release", chain.canonical([kind, fields, treatment]), record_hash)

    def find(self, fingerprint: str) -> Released | None:
        """An earlier release of the same, charged already; None if its bytes are not whole.

        Its payload is the record as it was stored; `receipted` wraps it for the way.
        """
        for entry in self.entries():
            if entry["event"] == chain.RELEASE and entry.get("fingerprint") == fingerprint:
                path = self._payload_file(fingerprint)
                payload = path.read_bytes() if path.is_file() else b""
                if self._content(payload) == entry.get("content"):
                    return Released(payload, int(entry["rows"]), entry)
        return None

    def _content(self, payload: bytes) -> str:
        """Recognises a stored record; says nothing of it to anybody else."""
        return self.tag("content", hashlib.sha256(payload).hexdigest())

    def keep(
        self,
        fingerprint: str,
        payload: bytes,
        rows: int,
        fact: dict[str, Any],
        wrap: Wrap = _as_it_is,
    ) -> Released:
        """Write a record, then charge it; on return both are on the disk.

        Args:
            fingerprint: of what it holds.
            payload: the record's bytes, as they stay here.
            rows: rows of the record.
            fact: what else the entry says: client, request, time, epsilon.
            wrap: makes the bytes that leave.
        """
        with self.exclusive():
            replace_atomically(
                self._payload_file(fingerprint),
                lambda part: key_store.write_privately(part, payload),
            )
            said = {**fact, "fingerprint": fingerprint, "rows": rows}
            said["content"] = self._content(payload)
            sent = wrap(payload)
            if sent is not payload:
                self.keep_sent(sent)
            return Released(sent, rows, self._enter(chain.RELEASE, {**said, **_described(sent)}))

    def receipted(
        self, found: Released, fact: Mapping[str, Any], wrap: Wrap = _as_it_is
    ) -> Released:
        """A found release with an entry that says that it leaves now, as it was asked for.

        What was stored in another stage or run, under another name, or is wrapped in other bytes
        each time, is entered once more, as a `repeat` that charges nothing, so that the ledger
        holds all that ever left.

        Args:
            found: as it was stored.
            fact: what the entry says of this request: client, request, time.
            wrap: makes the bytes that leave.
        """
        entry, sent = found.entry, wrap(found.payload)
        said = {**fact, **_described(sent)}
        same = {**said, "run": self.run}
        same.pop("time", None)
        if same.items() <= entry.items():
            return found
        if sent is not found.payload:
            self.keep_sent(sent)
        again = {**entry, **said, "repeats": entry["index"]}
        return Released(sent, found.rows, self._enter(chain.REPEAT, again))

    def charge(self, payload: bytes, rows: int, fact: dict[str, Any]) -> Released:
        """Charge what leaves once and is not stored as a record, such as a masked vector.

        Args:
            payload: the bytes as they leave.
            rows: rows of the record.
            fact: what else the entry says: client, request, time.
        """
        said = {**fact, "rows": rows, **_described(payload)}
        return Released(payload, rows, self._enter(chain.RELEASE, said))

    def keep_sent(self, sent: bytes) -> None:
        """Keep the bytes that leave next, in place of any other; on return they are on the disk.

        A record is stored as it is; what is sealed or masked anew each time is not, and a server
        that is resumed may have to ask for it once more.
        """
        with self.exclusive():
            key_store.private_folder(self.root)
            replace_atomically(self._sent_file, lambda part: key_store.write_privately(part, sent))

    def sent(self, entry: Mapping[str, Any]) -> bytes | None:
        """The bytes that an entry charges; None where they are not kept any more."""
        stored = [self._sent_file]
        if isinstance(entry.get("fingerprint"), str):
            stored.insert(0, self._payload_file(entry["fingerprint"]))
        for file in stored:
            found = file.read_bytes() if file.is_file() else b""
            if hashlib.sha256(found).hexdigest() == entry.get("sha256"):
                return found
        return None

    def forget_sent(self) -> None:
        """Erase the bytes that left last: the server has them, or its run is over."""
        with self.exclusive():
            self._sent_file.unlink(missing_ok=True)

    @property
    def _sent_file(self) -> Path:
        return self.root / "sent.bin"

    def note_outcome(self, fact: dict[str, Any]) -> chain.Entry:
        """Enter who survived a secure sum."""
        return self._enter(chain.OUTCOME, fact)

    def keep_sum(self, content: bytes) -> None:
        """Keep the state of the one secure sum in progress, in place of any other.

        It holds secrets: only the owner can read it, and on return it is on the disk.
        """
        with self.exclusive():
            key_store.private_folder(self.root)
            replace_atomically(
                self._sum_file, lambda part: key_store.write_privately(part, content)
            )

    def kept_sum(self) -> bytes | None:
        """What `keep_sum` kept last; None when there is nothing."""
        return self._sum_file.read_bytes() if self._sum_file.is_file() else None

    def forget_sum(self) -> None:
        """Erase the state of a sum that is over: its shares are of use to thieves alone."""
        with self.exclusive():
            self._sum_file.unlink(missing_ok=True)

    @property
    def _sum_file(self) -> Path:
        return self.root / "sum.state"

    def note_refusal(self, fact: dict[str, Any], reason: str) -> chain.Entry:
        """Enter a refusal in the ledger."""
        return self._enter(chain.REFUSAL, {**fact, "reason": reason})

    def _enter(self, event: str, said: dict[str, Any]) -> chain.Entry:
        fact = {**dict.fromkeys(FACTS), **said, "event": event, "run": self.run}
        with self.exclusive():
            if event in expert_account.LEFT:
                fact["account"] = expert_account.account(self.entries(), fact)
            self._read = None
            return chain.append(self.ledger_file, fact, self.identity)

    def _payload_file(self, fingerprint: str) -> Path:
        return self.root / "releases" / f"{fingerprint}.bin"


def _described(payload: bytes) -> dict[str, Any]:
    return {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
