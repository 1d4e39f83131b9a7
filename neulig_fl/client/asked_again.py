"""What a client answers when a server that was resumed asks the same once more.

A process can end between a client's entry and the server's note of the answer. The next one asks
again, and gets what came of it the first time: the bytes as they left, with the entry that charged
them, or the refusal that was entered. Nothing is made, charged or entered a second time.
"""

from __future__ import annotations

from typing import Any

from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import ClientRefused
from neulig_fl.ledger import chain
from neulig_fl.ledger.expert_account import LEFT

GONE = "what left at this request is not kept here any more"


def reply(store: ClientStore, since: int | None) -> tuple[dict[str, Any], bytes] | None:
    """The earlier reply to a request that is asked again; None where it is to be answered.

    Args:
        store: of the client, in the run that asks. Whoever calls holds its lock.
        since: entries that its ledger had when the same was asked before; None where it was not.

    Raises:
        ClientRefused: it was refused then; or what left cannot be given again.
    """
    if since is None:
        return None
    for entry in store.entries()[since:]:
        if entry.get("run") != store.run:
            continue
        if entry["event"] == chain.REFUSAL:
            raise ClientRefused.public(str(entry["reason"]))
        if entry["event"] in LEFT:
            return _told(entry), _sent(store, entry)
    return None


def _told(entry: chain.Entry) -> dict[str, Any]:
    """What a reply says of the bytes that it brings.

    The entry is shown: it names the expert by tags that say nothing without the store's key.
    """
    return {"rows": entry["rows"], "sha256": entry["sha256"], "entry": entry}


def _sent(store: ClientStore, entry: chain.Entry) -> bytes:
    found = store.sent(entry)
    if found is None:
        raise ClientRefused.public(GONE)
    return found
