"""Reading files that others may have made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neulig_fl.core import regular_files
from neulig_fl.core.errors import InputError


def test_a_regular_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    """Without it no run could be verified where its files lie on another disk."""
    (tmp_path / "a").write_bytes(b"some bytes")
    (tmp_path / "b").symlink_to("a")
    assert {regular_files.read(tmp_path / name) for name in "ab"} == {b"some bytes"}


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
def test_what_is_no_regular_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    """Attack: whoever reads the folder waits for ever, or until the memory is full."""
    file = tmp_path / "report.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link to a device":
        file.symlink_to("/dev/zero")
    else:
        file = Path("/dev/zero")
    with pytest.raises(InputError, match=r"is a pipe or a device, and only regular files are read"):
        regular_files.read(file)


def test_a_file_has_a_size_that_is_read(tmp_path: Path) -> None:
    """Attack: a file with a hole in it, which takes no room on the disk, fills the memory."""
    file = tmp_path / "report.json"
    with file.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(InputError, match=r"has 1099511627776 bytes, and at most 1073741824 are"):
        regular_files.read(file)
    file.write_bytes(b"1234")
    assert regular_files.read(file, 4) == b"1234"
    with pytest.raises(InputError, match="has 4 bytes, and at most 3 are read"):
        regular_files.read(file, 3)


def test_what_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    """Without it a missing file, or a folder in its place, could not be told from a pipe."""
    with pytest.raises(FileNotFoundError):
        regular_files.read(tmp_path / "none")
    (tmp_path / "report").mkdir()
    with pytest.raises(IsADirectoryError, match="report"):
        regular_files.read(tmp_path / "report")
