"""Files that say by themselves whether they are whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.core import kept_files
from neulig_fl.core.errors import InputError


@given(payload=st.binary(max_size=200), at=st.integers(0, 400), bit=st.integers(0, 7))
def test_any_changed_bit_and_any_cut_is_found(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, at: int, bit: int
) -> None:
    """Without it a run would go on from bytes that it never wrote."""
    file = tmp_path_factory.mktemp("kept") / "a"
    digest = kept_files.write(file, {"says": "x\n"}, payload)
    assert (kept_files.digest(file), file.stat().st_mode & 0o777) == (digest, 0o600)
    said, found = kept_files.read(file, digest)
    assert (said, bytes(found)) == ({"says": "x\n"}, payload)
    whole = bytearray(file.read_bytes())
    at %= len(whole)
    file.write_bytes(whole[:at])
    with pytest.raises(InputError, match="was cut or changed"):
        kept_files.read(file)
    whole[at] ^= 1 << bit
    file.write_bytes(whole)
    with pytest.raises(InputError, match="was cut or changed"):
        kept_files.read(file)


def test_another_whole_file_is_not_the_one(tmp_path: Path) -> None:
    """Without it one stage's file could stand in the place of another's."""
    digest = kept_files.write(tmp_path / "a", {"stage": 1})
    kept_files.write(tmp_path / "a", {"stage": 2})
    with pytest.raises(InputError, match="was cut or changed"):
        kept_files.read(tmp_path / "a", digest)
    with pytest.raises(InputError, match="cannot be read"):
        kept_files.read(tmp_path / "b")


def test_a_long_first_line_is_read(tmp_path: Path) -> None:
    """Without it a stage with many rows could not be resumed."""
    said = {"rows": ["x" * 99] * 2000}
    kept_files.write(tmp_path / "a", said, b"\n\n")
    assert kept_files.read(tmp_path / "a")[0] == said
    assert bytes(kept_files.read(tmp_path / "a")[1]) == b"\n\n"


@pytest.mark.parametrize("line", [b"", b"not JSON\n", b"[1]\n", b"{}", b"x" * 9000])
def test_a_file_under_its_hash_that_no_run_wrote_is_one_error(line: bytes, tmp_path: Path) -> None:
    """Without it such a file would be read for ever, or end a run with a traceback."""
    kept_files.write(tmp_path / "a", {})
    first = (tmp_path / "a").read_bytes().split(b"\n")[0]
    digest = hashlib.sha256(line).hexdigest().encode()
    (tmp_path / "a").write_bytes(b"\n".join([first, digest, line]))
    if line == b"{}":
        assert kept_files.read(tmp_path / "a")[0] == {}
        return
    with pytest.raises(InputError, match="is not as a run writes it"):
        kept_files.read(tmp_path / "a")
