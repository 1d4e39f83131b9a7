"""The client's own folder: what is charged, what is handed out again, what a crash leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from neulig_fl.client.store import ClientStore
from neulig_fl.core.errors import RunError
from neulig_fl.ledger import chain

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
    (entry,) = chain.read(store.ledger_file)
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
    entries = chain.read(store.ledger_file)
    assert [e["event"] for e in entries] == ["refusal", "release", "refusal"]
    assert chain.verify(entries)
    assert store.find("f1") is not None


def test_the_fingerprint_holds_all_that_a_record_is_made_of(store: ClientStore) -> None:
    """Without it two different releases would be taken for one, and one sent as the other."""
    fields, plain = [("features", "<f4", (3, 2))], ["none", {}]
    prints = {
        store.fingerprint(kind, shapes, treatment, numbers)
        for kind, shapes, treatment, numbers in [
            ("features", fields, plain, "numbers"),
            ("features", fields, plain, "others"),
            ("logits", fields, plain, "numbers"),
            ("features", [("features", "<f4", (2, 2))], plain, "numbers"),
            ("features", fields, ["sealed", {}], "numbers"),
            ("features", fields, ["gaussian", {"clip": 1.0}], "numbers"),
            ("features", fields, ["gaussian", {"clip": 2.0}], "numbers"),
        ]
    }
    assert len(prints) == 7
    assert store.fingerprint("features", fields, plain, "numbers") in prints


def test_a_process_killed_before_the_charge_hands_nothing_on(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it bytes could leave that no ledger knows of."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chain, "append", killed)
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
    assert chain.read(store.ledger_file) == []
    assert [p for p in store.root.rglob("*") if p.is_file()] == [store.root / "lock"]


# ---------------------------------------------------------------- signed, and by one at a time


def test_every_entry_says_the_run_and_all_that_the_ledger_promises(tmp_path: Path) -> None:
    """Without it an auditor would have to guess what an entry leaves out."""
    store = ClientStore(tmp_path / "ada", "ab" * 16)
    store.note_refusal(FACT, "never features")
    store.keep("f1", b"x", 1, {**FACT, "epsilon": 2.0})
    refusal, release = store.entries()
    wanted = {
        "stage", "client", "kind", "queries", "protection", "rows", "bytes", "sha256", "epsilon",
        "run", "event", "index", "previous", "hash", "key", "signature",
    }  # fmt: skip
    assert wanted <= refusal.keys() & release.keys()
    assert (refusal["bytes"], release["bytes"], release["epsilon"]) == (None, 1, 2.0)
    assert {refusal["run"], release["run"]} == {"ab" * 16}
    assert chain.signature_fault(store.entries(), [store.identity.key]) is None


def test_a_tag_is_the_stores_own(tmp_path: Path) -> None:
    """Without it whoever reads an entry could try out which expert it is about."""
    one, other = ClientStore(tmp_path / "one"), ClientStore(tmp_path / "other")
    assert one.tag("expert", "e1") == ClientStore(one.root).tag("expert", "e1")
    tags = {
        one.tag("expert", "e1"),
        one.tag("expert", "e2"),
        one.tag("experte1"),
        other.tag("expert", "e1"),
    }
    assert len(tags) == 4
    prints = {each.fingerprint("features", [], [], "expert") for each in (one, other)}
    assert len(prints) == 2


def test_a_repeat_is_entered_and_is_no_new_charge(store: ClientStore) -> None:
    """Without it bytes would leave in another run without an entry of that run."""
    kept = ClientStore(store.root, "aa" * 16).keep("f1", b"payload", 2, {**FACT, "stage": "one"})
    later = ClientStore(store.root, "bb" * 16)
    asked = {**FACT, "stage": "two", "queries": "evaluation"}
    again = later.receipted(later.find("f1"), asked)  # type: ignore[arg-type]
    assert again.payload == kept.payload
    assert again.entry == later.entries()[1]
    facts = ("event", "run", "stage", "queries", "repeats", "sha256", "bytes", "rows", "kind")
    assert [again.entry[f] for f in facts] == [
        "repeat", "bb" * 16, "two", "evaluation", 0, kept.entry["sha256"], 7, 2, "features"
    ]  # fmt: skip
    assert later.receipted(again, {**asked, "time": 7.0}) == again
    assert later.find("f1") == kept
    assert len(later.entries()) == 2


def test_a_repeat_says_the_bytes_that_leave_now(store: ClientStore) -> None:
    """Without it a record that is sealed anew for another run would not fit its receipt."""
    kept = store.keep("f1", b"sealed once", 2, FACT)
    resealed = dataclasses.replace(kept, payload=b"sealed twice")
    entry = ClientStore(store.root, "bb" * 16).receipted(resealed, FACT).entry
    digest = hashlib.sha256(b"sealed twice").hexdigest()
    assert (entry["bytes"], entry["sha256"]) == (12, digest)


def _many(root: Path, name: str) -> None:
    for number in range(10):
        ClientStore(root).keep(f"{name}{number}", b"x", 1, FACT)
        ClientStore(root).note_refusal(FACT, "no")


def test_processes_at_once_write_one_chain_with_one_key(store: ClientStore) -> None:
    """Without it two messages at once would fork the ledger, or sign with two keys."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_many, args=(store.root, name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    entries = store.entries()
    assert len(entries) == 60
    assert chain.signature_fault(entries, [store.identity.key]) is None


def test_what_is_held_exclusively_is_not_shared(store: ClientStore) -> None:
    """Without it two requests could both pass a limit that only one of them fits in."""
    order = []

    def other() -> None:
        ClientStore(store.root).note_refusal(FACT, "no")
        order.append("other")

    with store.exclusive():
        thread = threading.Thread(target=other)
        thread.start()
        with store.exclusive():
            store.note_refusal(FACT, "no")
        thread.join(0.2)
        assert thread.is_alive()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def _killed_after_the_charge(root: Path) -> None:
    store = ClientStore(root)
    honest = chain.append

    def append(*arguments: Any) -> chain.Entry:
        honest(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    chain.append = append
    store.keep("f1", b"payload", 2, FACT)


def test_a_process_killed_after_the_charge_has_paid_and_the_next_one_answers(
    store: ClientStore,
) -> None:
    """Without it a crash would lock the store for good, or the answer be charged twice."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=_killed_after_the_charge, args=(store.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(store.entries()) == 1
    found = store.find("f1")
    assert found is not None
    assert found.payload == b"payload"
    store.note_refusal(FACT, "no")
    assert chain.verify(store.entries())


def test_nothing_secret_is_shown(store: ClientStore) -> None:
    """Without it a log line could hold what the gate kept in."""
    kept = store.keep("f1", b"the payload itself", 2, FACT)
    assert "payload itself" not in repr(kept)
    files = [p for p in (store.root / "keys").iterdir() if p.name != "lock"]
    told = repr(store.identity) + repr(store) + json.dumps(store.entries())
    for file in files:
        assert file.read_bytes().hex() not in told
    assert {f.name for f in files} == {"signing.pem", "agreement.pem", "store.key"}
