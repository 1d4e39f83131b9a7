"""The ledger: every change but a cut at the end breaks the chain; a killed process does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl import ledger

FACTS = st.dictionaries(
    st.sampled_from(["kind", "client", "rows", "note", "hash", "index", "previous"]),
    st.one_of(
        st.text(max_size=5),
        st.integers(),
        st.none(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=4,
)


def _chain(facts: list[dict[str, Any]]) -> list[ledger.Entry]:
    entries: list[ledger.Entry] = []
    for fact in facts:
        entries.append(ledger.extended(entries, fact))
    return entries


@given(st.lists(FACTS, max_size=5))
def test_an_untouched_chain_holds_and_survives_json(facts: list[dict[str, Any]]) -> None:
    """Without it an honest ledger would be called forged."""
    entries = _chain(facts)
    assert ledger.first_fault(entries) is None
    assert ledger.verify(json.loads(json.dumps(entries)))
    assert ledger.head(entries) == (entries[-1]["hash"] if entries else None)


@given(st.lists(FACTS, min_size=2, max_size=6), st.data())
def test_changing_dropping_or_reordering_is_found_where_it_is(
    facts: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Without it a client's past could be rewritten (law 9)."""
    entries = _chain(facts)
    at = data.draw(st.integers(0, len(entries) - 2))
    changed = [dict(e) for e in entries]
    changed[at]["bytes"] = "another"
    assert ledger.first_fault(changed) == at
    rehashed = [dict(e) for e in changed]
    rehashed[at]["hash"] = ledger.entry_hash(rehashed[at])
    assert ledger.first_fault(rehashed) == at + 1
    assert ledger.first_fault(entries[:at] + entries[at + 1 :]) == at
    swapped = [*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]]
    assert ledger.first_fault(swapped) == at
    doubled = [*entries[: at + 1], *entries[at:]]
    assert ledger.first_fault(doubled) == at + 1


def test_a_cut_at_the_end_changes_the_head() -> None:
    """Without it the report's head would not protect the newest entries."""
    entries = _chain([{"n": 1}, {"n": 2}])
    assert ledger.verify(entries[:1])
    assert ledger.head(entries[:1]) != ledger.head(entries)


def test_entries_lie_in_the_file_one_a_line_and_chained(tmp_path: Path) -> None:
    """Without it a second process could not go on with the ledger."""
    file = tmp_path / "deep" / "ledger.jsonl"
    assert ledger.read(file) == []
    written = [ledger.append(file, {"n": n, "text": "ü\u2028\n"}) for n in range(3)]
    assert ledger.read(file) == written
    assert ledger.verify(ledger.read(file))
    assert len(file.read_bytes().splitlines()) == 3


def test_half_a_line_of_a_killed_process_is_left_out_and_replaced(tmp_path: Path) -> None:
    """Without it one crash would make the ledger unreadable for good."""
    file = tmp_path / "ledger.jsonl"
    ledger.append(file, {"n": 0})
    with file.open("ab") as torn:
        torn.write(b'{"n": 1, "ha')
    assert [e["n"] for e in ledger.read(file)] == [0]
    ledger.append(file, {"n": 2})
    assert [e["n"] for e in ledger.read(file)] == [0, 2]
    assert ledger.verify(ledger.read(file))


def test_a_value_that_json_has_no_word_for_is_not_entered(tmp_path: Path) -> None:
    """Without it the file could not be read by anything but Python."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.append(tmp_path / "ledger.jsonl", {"fraction": float("nan")})
    assert ledger.read(tmp_path / "ledger.jsonl") == []
