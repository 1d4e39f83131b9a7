"""The cache folder: whose it is, and that it never holds half a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import platformdirs
import pytest

from neulig_fl.core import cache_folder


def _images(value: int = 7) -> np.ndarray:
    return np.full((2, 4, 4, 3), value, np.uint8)


def test_the_folder_is_the_users_or_the_one_they_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a run would fill a disk that nobody meant."""
    monkeypatch.setenv("NEULIG_CACHE", str(tmp_path))
    assert cache_folder.cache_dir() == tmp_path
    monkeypatch.delenv("NEULIG_CACHE")
    assert cache_folder.cache_dir() == Path(platformdirs.user_cache_dir("neulig-fl"))


def test_images_are_made_once_and_cannot_be_written_to(own_cache: Path) -> None:
    """Without it every process would draw thousands of images, or change everybody's."""
    made: list[int] = []

    def build() -> np.ndarray:
        made.append(1)
        return _images()

    first = cache_folder.images("things", "1", build)
    again = cache_folder.images("things", "1", lambda: _images(9))
    assert np.array_equal(first, _images())
    assert np.array_equal(again, _images())
    assert made == [1]
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


def test_another_version_is_another_file(own_cache: Path) -> None:
    """Without it images that were drawn by older code would be used for ever."""
    cache_folder.images("things", "1", _images)
    assert cache_folder.images("things", "2", lambda: _images(9))[0, 0, 0, 0] == 9
    assert len(list((own_cache / "sources").glob("*.npy"))) == 2


def test_a_script_is_made_once_and_again_where_it_was_changed(own_cache: Path) -> None:
    """Without it every page would take seconds more, or run what somebody wrote into a file."""
    made: list[str] = []

    def build() -> str:
        made.append("let a = 'ü';")
        return made[-1]

    assert cache_folder.script("vega", "1", build) == cache_folder.script("vega", "1", build)
    assert made == ["let a = 'ü';"]
    (own_cache / "scripts" / "vega-1.js").write_text("steal()", encoding="utf-8")
    assert cache_folder.script("vega", "1", build) == made[0]
    assert cache_folder.script("vega", "2", lambda: "other") == "other"
    assert len(made) == 2


@pytest.mark.parametrize("place", ["", "scripts", "scripts/vega-1.js", "scripts/vega-1.sha256"])
def test_a_script_that_others_could_have_written_is_not_read(place: str, own_cache: Path) -> None:
    """Without it another user of the machine could have a page run what they like."""
    assert cache_folder.script("vega", "1", lambda: "mine") == "mine"
    assert cache_folder.script("vega", "1", lambda: "other") == "mine"
    (own_cache / place).chmod(0o777)
    assert cache_folder.script("vega", "1", lambda: "made anew") == "made anew"


def test_a_script_of_another_user_is_not_read(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a folder of everybody's could hold another's script."""
    assert cache_folder.script("vega", "1", lambda: "mine") == "mine"
    monkeypatch.setattr("neulig_fl.core.cache_folder.os.geteuid", lambda: 12345)
    assert cache_folder.script("vega", "1", lambda: "made anew") == "made anew"


def test_a_script_that_cannot_be_kept_is_made(own_cache: Path) -> None:
    """Without it a page could not be drawn where the cache cannot be written to."""
    own_cache.mkdir(exist_ok=True)
    (own_cache / "scripts").write_text("a file")
    assert cache_folder.script("vega", "1", lambda: "made") == "made"


@pytest.mark.parametrize("content", [b"", b"torn", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_made_again(content: bytes, own_cache: Path) -> None:
    """Without it one torn file would end every later run."""
    file = own_cache / "sources" / "things-1.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert np.array_equal(cache_folder.images("things", "1", _images), _images())


def test_images_that_were_changed_on_the_disk_are_made_again(own_cache: Path) -> None:
    """Without it a flipped bit would change an expert and nobody would know why."""
    cache_folder.images("things", "1", _images)
    file = own_cache / "sources" / "things-1.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    cache_folder._images.cache_clear()
    assert np.array_equal(cache_folder.images("things", "1", _images), _images())
