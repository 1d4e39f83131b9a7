"""Tests of atomic writing: the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from neulig_fl.core.errors import RunError
from neulig_fl.core.files import PRIVATE, write_atomically


def test_write(tmp_path: Path) -> None:
    """Without it text could be written in the machine's own encoding."""
    path = write_atomically(tmp_path / "a" / "b.md", "\N{GREEK SMALL LETTER BETA}")
    assert path.read_bytes() == b"\xce\xb2"
    assert write_atomically(path, b"\x00\x01").read_bytes() == b"\x00\x01"
    assert [p.name for p in path.parent.iterdir()] == ["b.md"]


def test_permissions(tmp_path: Path) -> None:
    """Without it an example that `init` copies could be its owner's alone, or a report everybody's."""
    plain = tmp_path / "plain"
    plain.write_text("x")
    path = write_atomically(tmp_path / "scenario.yaml", "x")
    assert path.stat().st_mode == plain.stat().st_mode
    path = write_atomically(tmp_path / "report.json", "x", PRIVATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a full disk would destroy the report that was there, or leave a stray file."""
    path = write_atomically(tmp_path / "report.json", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunError, match=r"report\.json: cannot be written \(No space left.*free space"
    ):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_in_the_way(tmp_path: Path) -> None:
    """Without it a path that cannot be written would end in a traceback."""
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"choose another folder \(--out for results"):
        write_atomically(tmp_path / "run" / "report.json", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
