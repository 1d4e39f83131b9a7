"""The closing: how far a client's ledger goes when a run ends, signed by it for that run alone.

A cut at the end of a ledger breaks no chain. So at the end of a run the server asks each client how
many entries its ledger has and what the hash of the last one is; its manifest holds the answers.
Both travel in every signed entry as well. The client also says which key it knows as the server's,
so that whoever trusts the key of one client knows whose run it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from neulig_fl.ledger import chain
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.keys import Identity, signed_by

_PURPOSE = "closing"
_KEYS = frozenset({"client", RUN, "server", "entries", "head", "signature"})
_HASH = re.compile(r"[0-9a-f]{64}")
_MOST_ENTRIES = 2**53


def closing(
    identity: Identity, client: str, run: str, server: str, entries: Sequence[Entry]
) -> dict[str, Any]:
    """What a client says of its ledger at a run's end.

    Args:
        identity: its keys.
        client: its name in the scenario.
        run: the run's id.
        server: the text of the Ed25519 key that the server said in this run.
        entries: its ledger, entries of other runs included.

    Example:
        >>> own = Identity.new()
        >>> said = closing(own, "ada", "ab" * 16, own.key, [])
        >>> said["entries"], problem(said, "ada", "ab" * 16, own.key, own.key)
        (0, None)
    """
    said = {
        "client": client,
        RUN: run,
        "server": server,
        "entries": len(entries),
        "head": chain.head(entries),
    }
    return {**said, "signature": identity.sign(_PURPOSE, chain.canonical(said).encode())}


def problem(
    said: object, client: str, run: object, server: str, key: str, latest: Entry | None = None
) -> str | None:
    """What is wrong with a closing; None when the client made it for this run and this server.

    Args:
        said: anything that JSON can hold.
        client: who was asked.
        run: the run's id.
        server: the text of the server's key.
        key: the text of the client's key.
        latest: the client's latest signed entry that is known, which its ledger must hold.
    """
    if not isinstance(said, dict) or set(said) != _KEYS:
        return "is none"
    count, head = said["entries"], said["head"]
    if type(count) is not int or not 0 <= count <= _MOST_ENTRIES:
        return "does not say how many entries the ledger has"
    if (count == 0) != (head is None) or not (head is None or _is_hash(head)):
        return "does not say the hash of the ledger's last entry"
    for name, wanted in (("client", client), (RUN, run), ("server", server)):
        if said[name] != wanted:
            return f"says {name} {str(said[name])[:60]!r} where {str(wanted)[:60]!r} is right"
    message = chain.canonical({k: v for k, v in said.items() if k != "signature"}).encode()
    if not signed_by(key, _PURPOSE, message, said["signature"]):
        return "is not signed by its key"
    return None if latest is None else _short_of(latest, count, head)


def _short_of(latest: Entry, count: int, head: object) -> str | None:
    """Whether an entry that the client signed before is beyond the end that it says."""
    index = int(latest["index"])
    if index >= count:
        return f"says that its ledger has {count} entries, and it signed entry {index}"
    if index == count - 1 and head != latest["hash"]:
        return f"says another last entry than the one that it signed as entry {index}"
    return None


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None
