"""Ids that are kept: made once, and again when what they depend on has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from neulig_fl.data import image_ids
from neulig_fl.data.images import Unreadable

LONG_AGO = 1_000_000_000


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    """A folder with two files."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a", "b"):
        _write(folder / name, name)
    return folder


def _write(path: Path, text: str) -> None:
    """Write into the same inode, and set the time of change back."""
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))


class _Counted:
    """Makes an id of a file's text, and counts."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, path: Path) -> str:
        self.made.append(path.name)
        text = path.read_text()
        if text == "broken":
            raise Unreadable("files", path.name, "broken")
        return f"id of {text}"


def _files(root: Path) -> list[Path]:
    return [root / "b", root / "a"]


def _ids(root: Path, make: _Counted, files: list[Path] | None = None) -> list[str]:
    return image_ids.of_files(root, files or _files(root), make)[0]


def test_an_id_is_made_once(root: Path) -> None:
    """Without it every process would decode every image of a folder."""
    make = _Counted()
    first = _ids(root, make)
    assert first == _ids(root, make) == ["id of b", "id of a"]
    assert make.made == ["b", "a"]


def test_content_decides_and_neither_size_nor_time_nor_inode(root: Path) -> None:
    """Without it changed images would keep the id, the split and the expert of the old ones."""
    make = _Counted()
    _ids(root, make)
    before = (root / "a").stat()
    _write(root / "a", "c")
    _write(root / "new", "n")
    after = (root / "a").stat()
    for stamp in ("st_size", "st_mtime_ns", "st_ino"):
        assert getattr(before, stamp) == getattr(after, stamp)
    assert _ids(root, make, [*_files(root), root / "new"]) == ["id of b", "id of c", "id of n"]
    assert make.made == ["b", "a", "a", "new"]


def test_a_renamed_file_and_one_that_was_put_back_keep_their_ids(root: Path) -> None:
    """Without it a folder that was moved about would be decoded again and again."""
    make = _Counted()
    first = _ids(root, make)
    _write(root / "a", "c")
    _ids(root, make)
    _write(root / "moved", "a")
    (root / "a").unlink()
    assert _ids(root, make, [root / "b", root / "moved"]) == first
    assert make.made == ["b", "a", "a"]


def test_all_images_that_cannot_be_read_are_found_and_the_others_kept(root: Path) -> None:
    """Without it a user would mend one file, wait for all the others, and learn of the next."""
    make = _Counted()
    for name in ("x", "y"):
        _write(root / name, "broken")
    files = [root / "x", *_files(root), root / "y"]
    ids, failed = image_ids.of_files(root, files, make)
    assert ids == ["", "id of b", "id of a", ""]
    assert [each.where for each in failed] == ["x", "y"]
    image_ids.of_files(root, files, make)
    assert make.made == ["x", "b", "a", "y", "x", "y"], "what could not be read is not kept"


def test_progress_is_told_image_by_image(root: Path) -> None:
    """Without it a large folder would look like a program that hangs."""
    told: list[tuple[int, int]] = []
    image_ids.of_files(root, _files(root), _Counted(), lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


@pytest.mark.parametrize("harm", [_half, lambda p: p.write_text("[]"), Path.unlink])
def test_a_damaged_cache_is_made_again(
    harm: Callable[[Path], object], root: Path, own_cache: Path
) -> None:
    """Without it a killed process or a cleared cache would end all later runs."""
    make = _Counted()
    first = _ids(root, make)
    for kept in (own_cache / "ids").iterdir():
        harm(kept)
    assert _ids(root, make) == first
    assert len(make.made) == 4


def test_another_decoder_makes_its_own_ids(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it an image and its id could disagree after an update of Pillow."""
    make = _Counted()
    _ids(root, make)
    monkeypatch.setattr(image_ids.PIL, "__version__", "0.0")
    _ids(root, make)
    assert len(make.made) == 4


def test_a_missing_file_is_left_to_whoever_reads_it(root: Path) -> None:
    """Without it a list that names a missing image would end in a traceback without its name."""
    with pytest.raises(FileNotFoundError, match="gone"):
        _ids(root, _Counted(), [root / "gone"])


def test_ids_of_a_set_depend_on_its_files_and_on_which_are_asked_for(root: Path) -> None:
    """Without it two selections of a data set, or two versions of it, would share their ids."""
    made: list[str] = []

    def ids(what: str, files: list[Path]) -> list[str]:
        def make() -> list[str]:
            made.append(what)
            return [f"{what} {len(made)}"]

        return image_ids.of_set(what, root, files, make)

    assert ids("first ten", _files(root)) == ids("first ten", _files(root)) == ["first ten 1"]
    assert ids("all", _files(root)) == ["all 2"]
    _write(root / "a", "x")
    assert ids("all", _files(root)) == ["all 3"]
    assert [ids("in memory", []), ids("in memory", [])] == [["in memory 4"], ["in memory 5"]]
    gone = [root / "gone"]
    assert [ids("gone", gone), ids("gone", gone)] == [["gone 6"], ["gone 7"]]
