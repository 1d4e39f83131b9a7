"""The ledger: an append-only chain of releases and refusals, signed by the client whose it is.

Every entry holds the hash of the one before it, so changing, dropping or reordering an entry breaks
the chain from there on, and its owner's signature over its own hash, so nobody else can write one.
What neither detects is a cut at the end: the server's receipts do, and the report holds the head of
those. Lines are canonical JSON: there is one way to write an entry, so any byte counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from neulig_fl.core.errors import RunError
from neulig_fl.core.files import sync_folder
from neulig_fl.core.strict_json import parsed as parsed_json

Entry = dict[str, Any]
START = "0" * 64
PURPOSE = "ledger entry"

RELEASE, REPEAT, REFUSAL, OUTCOME = "release", "repeat", "refusal", "outcome"
"""Events. A `repeat` sends an earlier release once more, in another stage or run; it is not charged
again. An `outcome` says who survived a secure sum, as the client confirmed it; no bytes leave with
it, and the server has no receipt of it."""

MOST_REFUSALS = 1_000
"""Refused requests of one run that a client enters; then it answers nothing of that run."""

SILENT = f"{MOST_REFUSALS:,} requests of this run were refused; nothing of it is answered any more"

_BLOCK = 65_536
_UNHASHED = frozenset({"hash", "signature"})


class Signer(Protocol):
    """Who signs entries: `neulig_fl.privacy.keys.Identity`."""

    @property
    def key(self) -> str:
        """The public key's text."""
        ...

    def sign(self, purpose: str, message: bytes) -> str:
        """The signature over a message."""
        ...


@dataclass(frozen=True)
class Fault:
    """The first thing that is wrong in a ledger.

    Args:
        index: of the entry, from 0; None when no single entry is to blame.
        what: what is wrong, one line.
    """

    index: int | None
    what: str


def canonical(value: object) -> str:
    """The one way in which a value is written.

    Raises:
        ValueError: it is not JSON-serialisable.

    Example:
        >>> canonical({"b": 1.0, "a": None})
        '{"a":null,"b":1.0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def entry_hash(entry: Entry) -> str:
    """SHA-256 (hex) of an entry without its own hash and signature."""
    body = {k: v for k, v in entry.items() if k not in _UNHASHED}
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def extended(entries: Sequence[Entry], fact: Entry, signer: Signer | None = None) -> Entry:
    """The next entry of a chain.

    Args:
        entries: those before it.
        fact: what it says.
        signer: whose ledger it is; None for one that only a chain protects, as the server's.

    Example:
        >>> first = extended([], {"kind": "logits"})
        >>> verify([first, extended([first], {"kind": "features"})])
        True
    """
    previous = entries[-1]["hash"] if entries else START
    entry = {**fact, "index": len(entries), "previous": previous}
    for name in (*_UNHASHED, "key"):
        entry.pop(name, None)
    if signer is None:
        return {**entry, "hash": entry_hash(entry)}
    entry["key"] = signer.key
    digest = entry_hash(entry)
    return {**entry, "hash": digest, "signature": signer.sign(PURPOSE, digest.encode())}


def fault(entries: Sequence[Entry], checked: int = 0) -> Fault | None:
    """What first breaks the chain; None when it holds. Says nothing of who wrote it.

    Args:
        entries: all of it.
        checked: how many at its start are known to hold.
    """
    previous = entries[checked - 1]["hash"] if checked else START
    for index, entry in enumerate(entries[checked:], start=checked):
        if type(entry.get("index")) is not int or entry["index"] != index:
            return Fault(index, f"says that it is entry {shown(entry.get('index'))}")
        if entry.get("previous") != previous:
            return Fault(index, "does not follow from the entry before it")
        if entry.get("hash") != entry_hash(entry):
            return Fault(index, "was changed: its hash is not that of what it says")
        previous = entry["hash"]
    return None


def verify(entries: Sequence[Entry]) -> bool:
    """Whether the chain holds; `signature_fault` says whether its owner wrote it."""
    return fault(entries) is None


def signature_problem(entry: Entry, key: str) -> str | None:
    """What is wrong with one entry by itself; None when this key signed what it says.

    Args:
        entry: anything that JSON can hold.
        key: the text of the public key that must have signed it.
    """
    from neulig_fl.privacy.keys import signed_by  # slow to import

    try:
        digest = entry_hash(entry)
    except (ValueError, RecursionError):
        return "is not JSON-serialisable"
    if entry.get("hash") != digest:
        return "was changed: its hash is not that of what it says"
    if entry.get("key") != key:
        return f"is signed with another key, {shown(entry.get('key'))}, not {key}"
    if not signed_by(key, PURPOSE, digest.encode(), entry.get("signature")):
        return "has a signature that is not its owner's"
    return None


def signature_fault(entries: Sequence[Entry], keys: Sequence[str]) -> Fault | None:
    """The first entry that its owner did not sign; None when all are the owner's.

    Args:
        entries: of one client.
        keys: all keys that it had, oldest first (`keys.PublicIdentity.lineage`). Once a later one
            has signed, an earlier one counts no more.
    """
    left = list(keys)
    for index, entry in enumerate(entries):
        while len(left) > 1 and entry.get("key") != left[0] and entry.get("key") in left:
            left.pop(0)
        problem = signature_problem(entry, left[0])
        if problem is not None:
            return Fault(index, problem)
    return None


def shown(value: object) -> str:
    """A value of an entry in an error: short, and on one line."""
    return f"{value!r}"[:60]


def head(entries: Sequence[Entry]) -> str | None:
    """Hash that the last entry has; None without an entry, or where it has none."""
    found = entries[-1].get("hash") if entries else None
    return found if isinstance(found, str) else None


@dataclass(frozen=True)
class _Checked:
    """A ledger file of which every line was checked in this process.

    Args:
        version: by which the file is told to be the same: `_version`.
        size: bytes of its whole lines.
        digest: SHA-256 of these; goes on from there.
        entries: in them.
    """

    version: tuple[int, ...]
    size: int
    digest: Any
    entries: tuple[Entry, ...]


_checked: dict[Path, _Checked] = {}
_MOST_CHECKED = 64
"""Ledgers that a process remembers; in a simulation it can have many clients."""


def read(path: Path) -> list[Entry]:
    """The entries of a ledger file of one's own; a torn last line is left out.

    What this process has checked is not checked again: nothing is read of a file that is the same,
    by its inode, size and times of change, and of one that has grown only the new lines are, if
    those before are byte for byte what they were. Of any other file nothing is taken as known.

    Raises:
        RunError: a line is no entry, or the chain does not hold: what was charged is not known any
            more.
    """
    try:
        with path.open("rb") as file:
            version, before = _version(file.fileno()), _checked.get(path)
            if before is not None and before.version == version:
                return list(before.entries)
            content = file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    whole = memoryview(whole_lines(content))
    known = before if before is not None and _continues(whole, before) else None
    size, earlier = (known.size, known.entries) if known else (0, ())
    later, found = parsed(bytes(whole[size:]))
    entries = [*earlier, *later]
    if found is not None and found.index is not None:
        found = Fault(len(earlier) + found.index, found.what)
    found = found or fault(entries, checked=len(earlier))
    if found is not None:
        raise RunError(
            f"ledger {path}: entry {found.index} {found.what}; put back a copy of the whole "
            "store, if it is the latest: without its ledger a client does not know what it "
            "released, and so releases nothing",
            public_reason="its ledger is damaged",
        )
    _remember(path, version, whole[size:], known, tuple(entries))
    return entries


def _version(handle: int) -> tuple[int, ...]:
    """What changes with a file; whoever may write to it can set all of these but the last."""
    found = os.fstat(handle)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _continues(whole: memoryview, before: _Checked) -> bool:
    """Whether a file's lines begin with those that were checked."""
    digest = hashlib.sha256(whole[: before.size]).digest()
    return len(whole) >= before.size and digest == before.digest.digest()


def _remember(
    path: Path,
    version: tuple[int, ...],
    later: bytes | memoryview,
    known: _Checked | None,
    entries: tuple[Entry, ...],
) -> None:
    """Keep what was checked: what was known of the file, and the lines after that."""
    digest = known.digest.copy() if known else hashlib.sha256()
    digest.update(later)
    _checked.pop(path, None)
    size = len(later) + (known.size if known else 0)
    _checked[path] = _Checked(version, size, digest, entries)
    while len(_checked) > _MOST_CHECKED:
        _checked.pop(next(iter(_checked)), None)


def whole_lines(content: bytes) -> bytes:
    r"""What of a ledger file's content ends with the end of a line.

    A process that is killed can leave half a line. Its entry was never acknowledged, so nothing
    left under it: `append` takes it away, and who reads the file leaves it out. An entry that was
    acknowledged the next one, the server's receipts or its owner's closing hold as well.

    Example:
        >>> whole_lines(b'{"a":1}\n{"a"')
        b'{"a":1}\n'
    """
    return content[: content.rfind(b"\n") + 1]


def parsed(content: bytes) -> tuple[list[Entry], Fault | None]:
    """The entries of a ledger file's content, up to the first line that is no entry.

    Returns:
        The entries, and the first line that is not canonical JSON of an object, if there is one.
    """
    entries: list[Entry] = []
    lines = content.split(b"\n")
    for index, line in enumerate(lines[:-1]):
        entry = _entry(line)
        if entry is None:
            return entries, Fault(index, "is no entry as a ledger writes one")
        entries.append(entry)
    if lines[-1]:
        return entries, Fault(len(entries), "is cut short: its line has no end")
    return entries, None


def _entry(line: bytes) -> Entry | None:
    try:
        entry = parsed_json(line)
        written = canonical(entry).encode()
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and written == line else None


def text(entries: Sequence[Entry]) -> str:
    """A whole ledger file."""
    return "".join(f"{canonical(entry)}\n" for entry in entries)


def append(path: Path, fact: Entry, signer: Signer | None = None) -> Entry:
    """Add an entry to a ledger file; on return it is on the disk.

    Two processes that append at once would fork the chain: the caller holds a lock, as
    `client.store` does.

    Raises:
        RunError: the ledger is damaged, cannot be written, or could not be read with that entry.
    """
    entries = read(path)
    entry, known = extended(entries, fact, signer), _checked.pop(path, None)
    line = canonical(entry).encode() + b"\n"
    if _entry(line[:-1]) is None:
        problem = "what it would enter could not be read again"
        raise RunError(f"ledger {path}: {problem}", public_reason=problem)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        end, version = _write_last(path, line)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror or error}); free space there, then run "
            "again",
            public_reason="it cannot write to its disk",
        ) from error
    if known is not None and (known.size, len(known.entries)) == (end, len(entries)):
        _remember(path, version, line, known, (*entries, entry))
    return entry


def _write_last(path: Path, line: bytes) -> tuple[int, tuple[int, ...]]:
    """Write a line after the last whole one, and sync it.

    A killed process can leave half a line; it was never acknowledged, so it goes.

    Returns:
        Where the line begins, and the file's version with it.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        end = _end_of_lines(file)
        file.truncate(end)
        file.seek(end)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
        version = _version(file.fileno())
    if not end:
        sync_folder(path.parent)
    return end, version


def _end_of_lines(file: IO[bytes]) -> int:
    """Where the last whole line ends; only so much is read from the end as that takes."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
