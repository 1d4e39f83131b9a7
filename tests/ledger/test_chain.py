"""The ledger: no byte can be changed, nobody else can write it, a killed process breaks nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core.errors import RunError
from neulig_fl.ledger import chain
from neulig_fl.privacy.keys import Identity

FACTS = st.dictionaries(
    st.sampled_from(
        ["kind", "client", "rows", "note", "hash", "index", "previous", "key", "signature"]
    ),
    st.one_of(
        st.text(max_size=5),
        st.integers(),
        st.none(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=4,
)


ADA, BOB = Identity.new(), Identity.new()


def _chain(facts: list[dict[str, Any]], signer: Identity | None = None) -> list[chain.Entry]:
    entries: list[chain.Entry] = []
    for fact in facts:
        entries.append(chain.extended(entries, fact, signer))
    return entries


def _found(content: bytes, *keys: str) -> chain.Fault | None:
    """All that can be wrong with a ledger file."""
    entries, found = chain.parsed(content)
    return found or chain.fault(entries) or chain.signature_fault(entries, keys)


@given(st.lists(FACTS, max_size=5))
def test_an_untouched_chain_holds_and_survives_json(facts: list[dict[str, Any]]) -> None:
    """Without it an honest ledger would be called forged."""
    entries = _chain(facts)
    assert chain.fault(entries) is None
    assert chain.verify(json.loads(json.dumps(entries)))
    assert chain.head(entries) == (entries[-1]["hash"] if entries else None)


@given(st.lists(FACTS, min_size=2, max_size=6), st.data())
def test_changing_dropping_or_reordering_is_found_where_it_is(
    facts: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Without it a client's past could be rewritten (law 9)."""
    entries = _chain(facts)
    at = data.draw(st.integers(0, len(entries) - 2))
    changed = [dict(e) for e in entries]
    changed[at]["bytes"] = "another"
    assert _index(changed) == at
    rehashed = [dict(e) for e in changed]
    rehashed[at]["hash"] = chain.entry_hash(rehashed[at])
    assert _index(rehashed) == at + 1
    assert _index(entries[:at] + entries[at + 1 :]) == at
    swapped = [*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]]
    assert _index(swapped) == at
    doubled = [*entries[: at + 1], *entries[at:]]
    assert _index(doubled) == at + 1


def _index(entries: list[chain.Entry]) -> int | None:
    found = chain.fault(entries)
    return found.index if found else None


@pytest.mark.parametrize(
    ("at", "index"),
    [(0, False), (1, True), (0, 0.0), (1, 1.0), (1, "1"), (1, None), (1, 2)],
    ids=repr,
)
def test_an_index_is_a_whole_number(at: int, index: object) -> None:
    """Without it an entry could be written in several ways, all with the right hashes."""
    entries = _chain([{"n": 0}, {"n": 1}])
    entries[at]["index"] = index
    entries[at]["hash"] = chain.entry_hash(entries[at])
    assert chain.fault(entries) == chain.Fault(at, f"says that it is entry {index!r}")
    del entries[at]["index"]
    entries[at]["hash"] = chain.entry_hash(entries[at])
    assert chain.fault(entries) == chain.Fault(at, "says that it is entry None")


def test_a_cut_at_the_end_changes_the_head() -> None:
    """Without it the report's head would not protect the newest entries."""
    entries = _chain([{"n": 1}, {"n": 2}])
    assert chain.verify(entries[:1])
    assert chain.head(entries[:1]) != chain.head(entries)


def test_entries_lie_in_the_file_one_a_line_and_chained(tmp_path: Path) -> None:
    """Without it a second process could not go on with the ledger."""
    file = tmp_path / "deep" / "er" / "ledger.jsonl"
    assert chain.read(file) == []
    written = [chain.append(file, {"n": n, "text": "ü\u2028\n"}) for n in range(3)]
    assert chain.read(file) == written
    assert chain.verify(chain.read(file))
    assert len(file.read_bytes().splitlines()) == 3


def test_a_ledger_is_its_owners_alone_and_synced_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a power cut could take the entry of a release, or others could read what left."""
    file, synced = tmp_path / "deep" / "ledger.jsonl", []
    honest = os.fsync

    def sync(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, file.read_bytes().count(b"\n")))
        honest(handle)

    monkeypatch.setattr(os, "fsync", sync)
    chain.append(file, {"n": 0})
    inodes = {path: path.stat().st_ino for path in (file, file.parent)}
    assert synced == [(inodes[file], 1), (inodes[file.parent], 1)]
    assert file.stat().st_mode & 0o777 == 0o600
    chain.append(file, {"n": 1})
    assert synced[2:] == [(inodes[file], 2)]


def test_half_a_line_of_a_killed_process_is_left_out_and_replaced(tmp_path: Path) -> None:
    """Without it one crash would make the ledger unreadable for good."""
    file = tmp_path / "ledger.jsonl"
    chain.append(file, {"n": 0})
    with file.open("ab") as torn:
        torn.write(b'{"n":1,"ha')
    assert [e["n"] for e in chain.read(file)] == [0]
    assert _found(file.read_bytes(), "") == chain.Fault(1, "is cut short: its line has no end")
    chain.append(file, {"n": 2})
    assert [e["n"] for e in chain.read(file)] == [0, 2]
    assert chain.verify(chain.read(file))


def test_a_value_that_json_has_no_word_for_is_not_entered(tmp_path: Path) -> None:
    """Without it the file could not be read by anything but Python."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        chain.append(tmp_path / "ledger.jsonl", {"fraction": float("nan")})
    assert chain.read(tmp_path / "ledger.jsonl") == []


# ---------------------------------------------------------------- signed


@given(st.lists(FACTS, min_size=1, max_size=4))
def test_a_signed_chain_holds_and_is_its_owners(facts: list[dict[str, Any]]) -> None:
    """Without it an honest client's ledger would be called forged, or anybody's be taken."""
    entries = json.loads(json.dumps(_chain(facts, ADA)))
    assert chain.verify(entries)
    assert chain.signature_fault(entries, [ADA.key]) is None
    found = chain.signature_fault(entries, [BOB.key])
    assert found is not None
    assert found.index == 0
    assert f"is signed with another key, '{ADA.key}'" in found.what


def test_a_chain_that_its_owner_did_not_sign_is_found() -> None:
    """Without it whoever can recompute hashes could rewrite a client's past."""
    entries = _chain([{"n": n} for n in range(4)], ADA)
    forged = _chain([{"n": 0}, {"n": 7}, {"n": 2}, {"n": 3}], BOB)
    renamed = [{**e, "key": ADA.key} for e in forged]
    for each in renamed:
        each["hash"] = chain.entry_hash(each)
    mixed = [*entries[:1], renamed[1]]
    assert chain.signature_problem(renamed[1], ADA.key) == (
        "has a signature that is not its owner's"
    )
    assert chain.signature_fault(mixed, [ADA.key]) == chain.Fault(
        1, "has a signature that is not its owner's"
    )
    unsigned = [{k: v for k, v in e.items() if k != "signature"} for e in entries]
    assert chain.verify(unsigned)
    assert chain.fault(unsigned) is None
    assert chain.signature_fault(unsigned, [ADA.key]) is not None


def test_after_a_rotation_the_old_key_signs_no_more() -> None:
    """Without it a stolen old key could write entries for ever."""
    entries = _chain([{"n": 0}, {"n": 1}], ADA)
    entries.append(chain.extended(entries, {"n": 2}, BOB))
    assert chain.signature_fault(entries, [ADA.key, BOB.key]) is None
    assert chain.signature_fault(entries, [BOB.key, ADA.key]) is not None
    alone = chain.signature_fault(entries, [ADA.key])
    assert alone is not None
    assert alone.index == 2
    entries.append(chain.extended(entries, {"n": 3}, ADA))
    found = chain.signature_fault(entries, [ADA.key, BOB.key])
    assert found is not None
    assert found.index == 3


def test_every_byte_counts(tmp_path: Path) -> None:
    """Without it an entry could be changed where nobody looks (law 9)."""
    file = tmp_path / "ledger.jsonl"
    for n in range(3):
        chain.append(file, {"client": "ada", "n": n, "share": 0.5, "none": None, "t": "ü"}, ADA)
    content = file.read_bytes()
    assert _found(content, ADA.key) is None
    for at in range(len(content)):
        for byte in {content[at] ^ 1, content[at] ^ 32, 0x20, 0x30}:
            changed = content[:at] + bytes([byte]) + content[at + 1 :]
            assert changed == content or _found(changed, ADA.key) is not None, (at, byte)
        assert _found(content[:at] + content[at + 1 :], ADA.key) is not None, at
        assert _found(content[:at] + b" " + content[at:], ADA.key) is not None, at


@pytest.mark.parametrize(
    "line",
    [
        b'{"n": 1}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b'{"a":1.50}', b'{"a":NaN}', b"[]", b"1",
        b"", b"{", b'{"a":"\\u00FC"}', b'{"a":"\xfc"}', b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_there_is_one_way_to_write_an_entry(line: bytes) -> None:
    """Without it two different files could have the same hashes."""
    entries, found = chain.parsed(b'{"a":1}\n' + line + b"\n")
    assert entries == [{"a": 1}]
    assert found == chain.Fault(1, "is no entry as a ledger writes one")


def test_a_damaged_ledger_of_ones_own_is_no_empty_one(tmp_path: Path) -> None:
    """Without it a client with a damaged ledger would release all over again."""
    file = tmp_path / "ledger.jsonl"
    for n in range(3):
        chain.append(file, {"n": n}, ADA)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[2])
    with pytest.raises(RunError, match=r"ledger\.jsonl: entry 1 says that it is entry 2") as caught:
        chain.append(file, {"n": 3}, ADA)
    assert caught.value.public_reason == "its ledger is damaged"
    assert file.read_bytes() == lines[0] + lines[2]


def test_a_full_disk_is_told_and_leaves_the_ledger_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a release could leave whose entry is not on the disk."""
    file = tmp_path / "ledger.jsonl"
    chain.append(file, {"n": 0}, ADA)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot be written .No space left on device") as caught:
            chain.append(file, {"n": 1}, ADA)
    assert caught.value.public_reason == "it cannot write to its disk"
    assert chain.verify(chain.read(file))
