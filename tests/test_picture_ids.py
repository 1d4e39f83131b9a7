"""Ids that are kept: made once, and again when what they depend on has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neulig_fl import picture_ids

HOUR = 3600


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    """A folder with two files, an hour old."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a", "b"):
        _write(folder / name, name)
    return folder


def _write(path: Path, text: str, age: float = HOUR) -> None:
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


class _Counted:
    """Makes an id of a file's text, and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, path: Path) -> str:
        self.made.append(path.name)
        return f"id of {path.read_text()}"


def _files(root: Path) -> list[Path]:
    return [root / "b", root / "a"]


def test_an_id_is_made_once(root: Path) -> None:
    """Without it every process would decode every picture of a folder."""
    make = _Counted()
    first = picture_ids.of_files(root, _files(root), make)
    assert first == picture_ids.of_files(root, _files(root), make) == ["id of b", "id of a"]
    assert make.made == ["b", "a"]


def test_a_changed_or_new_file_gets_an_id_of_its_own(root: Path) -> None:
    """Without it a replaced picture would keep the split of the old one."""
    make = _Counted()
    picture_ids.of_files(root, _files(root), make)
    _write(root / "a", "c", age=HOUR - 60)
    _write(root / "new", "n")
    found = picture_ids.of_files(root, [*_files(root), root / "new"], make)
    assert found == ["id of b", "id of c", "id of n"]
    assert make.made == ["b", "a", "a", "new"]


def test_ids_of_files_that_changed_just_now_are_not_kept(root: Path) -> None:
    """Without it a file that is written twice within the clock's tick would keep a wrong id."""
    make = _Counted()
    _write(root / "a", "x", age=0)
    picture_ids.of_files(root, _files(root), make)
    stamp = (root / "a").stat()
    (root / "a").write_text("y")
    os.utime(root / "a", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert picture_ids.of_files(root, _files(root), make) == ["id of b", "id of y"]
    assert make.made == ["b", "a", "a"]


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


@pytest.mark.parametrize("harm", [_half, lambda p: p.write_text("[]"), Path.unlink])
def test_a_damaged_cache_is_made_again(
    harm: Callable[[Path], object], root: Path, own_cache: Path
) -> None:
    """Without it a killed process or a cleared cache would end all later runs."""
    make = _Counted()
    first = picture_ids.of_files(root, _files(root), make)
    for kept in (own_cache / "ids").iterdir():
        harm(kept)
    assert picture_ids.of_files(root, _files(root), make) == first
    assert len(make.made) == 4


def test_another_decoder_makes_its_own_ids(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a picture and its id could disagree after an update of Pillow."""
    make = _Counted()
    picture_ids.of_files(root, _files(root), make)
    monkeypatch.setattr(picture_ids.PIL, "__version__", "0.0")
    picture_ids.of_files(root, _files(root), make)
    assert len(make.made) == 4


def test_a_missing_file_is_left_to_whoever_reads_it(root: Path) -> None:
    """Without it a list that names a missing picture would end in a traceback without its name."""
    with pytest.raises(FileNotFoundError, match="gone"):
        picture_ids.of_files(root, [root / "gone"], _Counted())


def test_ids_of_a_set_depend_on_its_files_and_on_which_are_asked_for(root: Path) -> None:
    """Without it two selections of a data set, or two versions of it, would share their ids."""
    made: list[str] = []

    def ids(what: str, files: list[Path]) -> list[str]:
        def make() -> list[str]:
            made.append(what)
            return [f"{what} {len(made)}"]

        return picture_ids.of_set(what, root, files, make)

    assert ids("first ten", _files(root)) == ids("first ten", _files(root)) == ["first ten 1"]
    assert ids("all", _files(root)) == ["all 2"]
    _write(root / "a", "other", age=HOUR)
    assert ids("all", _files(root)) == ["all 3"]
    assert [ids("in memory", []), ids("in memory", [])] == [["in memory 4"], ["in memory 5"]]
    _write(root / "a", "again", age=0)
    assert [ids("all", _files(root)), ids("all", _files(root))] == [["all 6"], ["all 7"]]
