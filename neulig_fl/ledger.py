"""The ledger: an append-only chain of releases and refusals.

Every entry holds the hash of the one before it, so changing, dropping or reordering an entry breaks
the chain from there on. What the chain alone does not detect is a cut at the end; the report holds
the head for that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
START = "0" * 64


def entry_hash(entry: Entry) -> str:
    """SHA-256 (hex) of an entry without its own hash."""
    body = {k: v for k, v in entry.items() if k != "hash"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def extended(entries: Sequence[Entry], fact: Entry) -> Entry:
    """The next entry of a chain.

    Example:
        >>> first = extended([], {"kind": "logits"})
        >>> verify([first, extended([first], {"kind": "features"})])
        True
    """
    previous = entries[-1]["hash"] if entries else START
    entry = {**fact, "index": len(entries), "previous": previous}
    return {**entry, "hash": entry_hash(entry)}


def first_fault(entries: Sequence[Entry]) -> int | None:
    """Index of the first entry that breaks the chain; None when it holds."""
    previous = START
    for index, entry in enumerate(entries):
        whole = entry.get("index") == index and entry.get("previous") == previous
        if not whole or entry.get("hash") != entry_hash(entry):
            return index
        previous = entry["hash"]
    return None


def verify(entries: Sequence[Entry]) -> bool:
    """Whether the chain holds."""
    return first_fault(entries) is None


def head(entries: Sequence[Entry]) -> str | None:
    """Hash of the last entry."""
    return str(entries[-1]["hash"]) if entries else None


def read(path: Path) -> list[Entry]:
    """The entries of a ledger file, one JSON object a line; a torn last line is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            entries.append(json.loads(line))
    return entries


def append(path: Path, fact: Entry) -> Entry:
    """Add an entry to a ledger file; on return it is on the disk."""
    entry = extended(read(path), fact)
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, sort_keys=True, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def _drop_torn_line(path: Path) -> None:
    """A killed process can leave half a line; it was never acknowledged, so it goes."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
