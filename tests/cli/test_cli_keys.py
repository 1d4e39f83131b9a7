"""`neulig-fl keys`: what partners pin, and a server that they pinned."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from command_line import Line

from neulig_fl.core.errors import ClientRefused
from neulig_fl.ledger import key_store
from neulig_fl.study import runs

SEALED = [{"name": "one", "share": [{"kind": "offset-sum", "protection": "sealed"}]}]


def test_it_prints_the_same_public_key_every_time(line: Line, tmp_path: Path) -> None:
    """Without it a key that was pinned would not be the one that signs."""
    first, second = (line("keys", tmp_path / "keys") for _ in range(2))
    assert first.code == 0, first.err
    assert first.out == second.out
    key, fingerprint = first.out.splitlines()
    assert key == key_store.identity(tmp_path / "keys").key
    assert fingerprint.startswith("fingerprint ")
    assert "PRIVATE" not in first.out + first.err


def test_a_rotated_key_is_another_and_keeps_the_old_pin(line: Line, tmp_path: Path) -> None:
    """Without it partners would have to pin anew at once, or an old key would go on to sign."""
    before = line("keys", tmp_path).out.splitlines()[0]
    after = line("keys", tmp_path, "--rotate").out.splitlines()[0]
    assert after != before
    assert key_store.identity(tmp_path).public.lineage == (before, after)


def test_a_store_is_no_folder_of_keys(line: Line, tmp_path: Path) -> None:
    """Without it a user who names the store would pin a key that was made just now."""
    key = line("keys", tmp_path / "ada" / "keys").out
    found = line("keys", tmp_path / "ada")
    assert found.code == 2
    assert f"its keys lie in {tmp_path / 'ada' / 'keys'}" in found.err.replace("\n", "")
    assert line("keys", tmp_path / "ada" / "keys").out == key


def test_keys_that_others_can_read_are_an_error(line: Line, tmp_path: Path) -> None:
    """Without it a key that has leaked would be told as one to pin."""
    line("keys", tmp_path)
    (tmp_path / "signing.pem").chmod(0o644)
    found = line("keys", tmp_path)
    assert found.code == 2
    assert "signing.pem" in found.err


def test_a_run_with_the_pinned_servers_keys_is_answered(
    line: Line, data: Path, tmp_path: Path
) -> None:
    """Without it a pin of the server could never be kept to, because its keys are new each run."""
    key = line("keys", tmp_path / "server").out.splitlines()[0]
    path = tiny.write(tmp_path, data, stages=SEALED, trust={"server": key})
    report = runs.run(path, "local", tmp_path / "out", server_keys=tmp_path / "server")
    assert len(tiny.releases(report)) == 3
    with pytest.raises(ClientRefused, match="which is not the pinned one"):
        runs.run(path, "local", tmp_path / "other")
