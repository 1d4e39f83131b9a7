"""What one client keeps across messages, processes and runs: its releases and its ledger.

The folder belongs to the client; the server never reads it. A release is written to the disk and
entered in the ledger before its bytes are handed on, so a process killed in between can only have
charged too much, never too little.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neulig_fl import ledger
from neulig_fl.files import write_atomically
from neulig_fl.records import Request


@dataclass(frozen=True)
class Released:
    """A release as the store knows it.

    Args:
        payload: the bytes as they leave.
        rows: rows of the record.
        entry: the ledger entry that charges it.
    """

    payload: bytes
    rows: int
    entry: ledger.Entry


class ClientStore:
    """One client's folder.

    Args:
        root: the folder; made when something is first kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def ledger_file(self) -> Path:
        """The client's own ledger, one JSON object a line."""
        return self.root / "ledger.jsonl"

    def fingerprint(self, request: Request, data_hash: str) -> str:
        """Identifies what a release holds: the stage that asks does not matter.

        Args:
            request: what is asked for.
            data_hash: identifies the expert and the queries.
        """
        asked = {k: v for k, v in asdict(request).items() if k != "stage"}
        text = json.dumps([asked, data_hash], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def find(self, fingerprint: str) -> Released | None:
        """An earlier release of the same, charged already; None if its bytes are not whole."""
        for entry in ledger.read(self.ledger_file):
            if entry.get("fingerprint") == fingerprint:
                path = self._payload_file(fingerprint)
                payload = path.read_bytes() if path.is_file() else b""
                if hashlib.sha256(payload).hexdigest() == entry["sha256"]:
                    return Released(payload, int(entry["rows"]), entry)
        return None

    def keep(self, fingerprint: str, payload: bytes, rows: int, fact: dict[str, Any]) -> Released:
        """Write a release's bytes, then charge it; on return both are on the disk."""
        write_atomically(self._payload_file(fingerprint), payload)
        entry = ledger.append(
            self.ledger_file,
            {
                **fact,
                "event": "release",
                "fingerprint": fingerprint,
                "rows": rows,
                "bytes": len(payload),
                "sha256": hashlib.sha256(payload).hexdigest(),
            },
        )
        return Released(payload, rows, entry)

    def note_refusal(self, fact: dict[str, Any], reason: str) -> ledger.Entry:
        """Enter a refusal in the ledger."""
        return ledger.append(self.ledger_file, {**fact, "event": "refusal", "reason": reason})

    def _payload_file(self, fingerprint: str) -> Path:
        return self.root / "releases" / f"{fingerprint}.bin"
