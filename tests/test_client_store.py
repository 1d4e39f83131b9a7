"""The client's own folder: what is charged, what is handed out again, what a crash leaves."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from neulig_fl import ledger
from neulig_fl.client_store import ClientStore
from neulig_fl.errors import RunError
from neulig_fl.records import Request

ASKED = Request("one", "A", "features", "pool")
FACT = {"client": "ada", "kind": "features"}


@pytest.fixture
def store(tmp_path: Path) -> ClientStore:
    """An empty store."""
    return ClientStore(tmp_path / "ada")


def test_a_release_is_handed_out_again_byte_for_byte(store: ClientStore) -> None:
    """Without it the same question would be answered, and charged, twice."""
    kept = store.keep("f1", b"payload", 2, FACT)
    again = ClientStore(store.root).find("f1")
    assert again == kept
    assert (again.payload, again.rows) == (b"payload", 2)
    assert store.find("f2") is None
    (entry,) = ledger.read(store.ledger_file)
    assert (entry["event"], entry["bytes"], entry["rows"], entry["client"]) == (
        "release",
        7,
        2,
        "ada",
    )


def test_a_new_store_is_empty_and_makes_no_folder(store: ClientStore) -> None:
    """Without it asking would leave traces on the disk."""
    assert store.find("f1") is None
    assert not store.root.exists()


@pytest.mark.parametrize("change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"paylaod")])
def test_lost_or_changed_bytes_are_not_handed_out(store: ClientStore, change: Any) -> None:
    """Without it a damaged file would be sent under another release's hash."""
    store.keep("f1", b"payload", 2, FACT)
    change(store.root / "releases" / "f1.bin")
    assert store.find("f1") is None


def test_refusals_and_releases_share_one_chain(store: ClientStore) -> None:
    """Without it a refusal could be removed without a trace."""
    store.note_refusal(FACT, "never features")
    store.keep("f1", b"x", 1, FACT)
    store.note_refusal(FACT, "only logits")
    entries = ledger.read(store.ledger_file)
    assert [e["event"] for e in entries] == ["refusal", "release", "refusal"]
    assert ledger.verify(entries)
    assert store.find("f1") is not None


def test_the_fingerprint_holds_all_but_the_stage(store: ClientStore) -> None:
    """Without it two different releases would be taken for one, or one charged per stage."""
    prints = {
        store.fingerprint(request, data)
        for request, data in [
            (ASKED, "expert"),
            (ASKED, "other expert"),
            (dataclasses.replace(ASKED, group="B"), "expert"),
            (dataclasses.replace(ASKED, kind="logits"), "expert"),
            (dataclasses.replace(ASKED, queries="evaluation"), "expert"),
            (dataclasses.replace(ASKED, fraction=0.5), "expert"),
            (dataclasses.replace(ASKED, protection="sealed"), "expert"),
        ]
    }
    assert len(prints) == 7
    assert store.fingerprint(dataclasses.replace(ASKED, stage="two"), "expert") in prints


def test_a_process_killed_before_the_charge_hands_nothing_on(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it bytes could leave that no ledger knows of."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            store.keep("f1", b"payload", 2, FACT)
    assert store.find("f1") is None
    assert store.keep("f1", b"payload", 2, FACT).entry["index"] == 0


def test_a_full_disk_leaves_no_half_file_and_no_charge(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it half a payload would lie where a whole one is expected."""

    def full(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match=r"cannot be written .disk full."):
            store.keep("f1", b"payload", 2, FACT)
    assert ledger.read(store.ledger_file) == []
    assert [p for p in store.root.rglob("*") if p.is_file()] == []
