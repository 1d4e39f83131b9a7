"""Walking a folder of images: everything is taken, or left out with a reason, or an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neulig_fl.core.errors import DataError
from neulig_fl.data import image_walk, images
from neulig_fl.data.image_walk import Walk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One class folder with two images."""
    for name in ("a.png", "b.png"):
        _image(tmp_path / "root" / "rust" / name)
    return tmp_path / "root"


def _image(path: Path, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "red").save(path, kind)


def _taken(walk: Walk) -> list[str]:
    return [walk.name(path) for path in walk.images(walk.root / "rust")]


BASE = ["rust/a.png", "rust/b.png"]


def test_every_format_that_is_read_here_is_taken_in_any_case(root: Path) -> None:
    """Without it images would be missing because of their ending alone."""
    for ending in images.readable_endings():
        (root / "rust" / f"x{ending.upper()}").touch()
        (root / "rust" / f"y{ending}").touch()
    walk = Walk(root)
    assert len(_taken(walk)) == 2 + 2 * len(images.readable_endings())
    assert {".jfif", ".jpe", ".jpg", ".tiff", ".pgm"} <= images.readable_endings()
    assert walk.left_out.counts == {}


def test_what_pillow_reads_only_if_built_so_is_read_only_then(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it an image would be taken that this machine cannot read, or left out in silence."""
    (root / "rust" / "x.avif").touch()
    images.readable_endings.cache_clear()
    monkeypatch.setattr(images.features, "check", lambda codec: False)
    walk = Walk(root)
    assert _taken(walk) == BASE
    assert walk.left_out.counts == {image_walk.OTHER_FORMAT: 1}
    images.readable_endings.cache_clear()


def _nas(folder: Path) -> None:
    for size in ("M", "SM"):
        _image(folder / "@eaDir" / "a.png" / f"SYNOPHOTO_THUMB_{size}.jpg", "JPEG")


@pytest.mark.parametrize(
    ("make", "reason", "example", "count"),
    [
        (_nas, image_walk.BY_SYSTEM, "rust/@eaDir", 2),
        (lambda f: _image(f / "__MACOSX" / "._a.png"), image_walk.BY_SYSTEM, "rust/__MACOSX", 1),
        (lambda f: _image(f / "$RECYCLE.BIN" / "a.png"), image_walk.BY_SYSTEM, "rust/$RECYCLE.BIN", 1),
        (lambda f: _image(f / "#recycle" / "a.png"), image_walk.BY_SYSTEM, "rust/#recycle", 1),
        (lambda f: _image(f / "lost+found" / "a.png"), image_walk.BY_SYSTEM, "rust/lost+found", 1),
        (lambda f: _image(f / "._a.png"), image_walk.HIDDEN, "rust/._a.png", 1),
        (lambda f: _image(f / ".@__thumb" / "a.png"), image_walk.HIDDEN, "rust/.@__thumb", 1),
        (lambda f: _image(f / ".thumbnails" / "a.png"), image_walk.HIDDEN, "rust/.thumbnails", 1),
        (lambda f: _image(f / ".AppleDouble" / "a.png"), image_walk.HIDDEN, "rust/.AppleDouble", 1),
        (lambda f: _image(f / ".ipynb_checkpoints" / "a.png"), image_walk.HIDDEN, "rust/.ipynb_checkpoints", 1),
        (lambda f: (f / "IMG.HEIC").touch(), image_walk.OTHER_FORMAT, "rust/IMG.HEIC", 1),
        (lambda f: (f / "IMG.dng").touch(), image_walk.OTHER_FORMAT, "rust/IMG.dng", 1),
        (lambda f: (f / "notes.txt").touch(), image_walk.NO_IMAGE, "rust/notes.txt", 1),
        (lambda f: _image(f / "download"), image_walk.NO_ENDING, "rust/download", 1),
        (lambda f: os.mkfifo(f / "pipe.png"), image_walk.NO_FILE, "rust/pipe.png", 1),
        (lambda f: (f / "loop").symlink_to(".."), image_walk.LOOP, "rust/loop", 1),
    ],
)  # fmt: skip
def test_what_is_left_out_is_counted_by_reason(
    make: Callable[[Path], Any], reason: str, example: str, count: int, root: Path
) -> None:
    """Without it a NAS's thumbnails would be images, or images be missing without a word."""
    make(root / "rust")
    walk = Walk(root)
    assert _taken(walk) == BASE
    walk.require_reached()
    assert walk.left_out.sentences() == [f"{count} {reason} ({example})"]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", ".git"])
def test_files_that_systems_write_are_not_worth_a_word(name: str, root: Path) -> None:
    """Without it every folder of a Mac would have a list of what is left out."""
    (root / "rust" / name).touch()
    walk = Walk(root)
    assert _taken(walk) == BASE
    assert walk.left_out.counts == {}


def test_links_are_followed_and_said(root: Path, tmp_path: Path) -> None:
    """Without it images in a linked folder would be missing, or nobody would know of the link."""
    _image(tmp_path / "away" / "c.png")
    _image(tmp_path / "away" / "deep" / "d.png")
    (root / "rust" / "more").symlink_to(tmp_path / "away")
    (root / "rust" / "z.png").symlink_to(tmp_path / "away" / "c.png")
    (root / "rust" / "twice").symlink_to(tmp_path / "away" / "deep")
    _image(root / "rust" / "sub" / "e.png")
    walk = Walk(root)
    more = ["rust/more/c.png", "rust/more/deep/d.png", "rust/sub/e.png", "rust/z.png"]
    assert _taken(walk) == BASE + more
    assert walk.taken.counts == {image_walk.LINKED: 3, image_walk.NESTED: 1}
    assert walk.left_out.sentences() == [f"1 {image_walk.TWICE} (rust/twice)"]


def test_a_class_folder_that_is_a_link_is_walked(root: Path, tmp_path: Path) -> None:
    """Without it a class that lies on another disk would be empty."""
    (root / "rust").rename(tmp_path / "away")
    (root / "rust").symlink_to(tmp_path / "away")
    (tmp_path / "away" / "loop").symlink_to(root)
    walk = Walk(root)
    assert _taken(walk) == BASE
    assert walk.left_out.counts == {image_walk.LOOP: 1}


def _dangling(folder: Path) -> None:
    (folder / "z.png").symlink_to("/gone/z.png")


def _unmounted(folder: Path) -> None:
    (folder / "more").symlink_to("/gone/rust")


def _itself(folder: Path) -> None:
    (folder / "z.png").symlink_to("z.png")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_dangling, r"rust/z.png \(a link to nothing\)"),
        (_unmounted, r"rust/more \(a link to nothing\)"),
        (_itself, r"rust/z.png \(Too many levels of symbolic links\)"),
    ],
)
def test_what_cannot_be_reached_is_an_error_unless_excluded(
    harm: Callable[[Path], None], words: str, root: Path
) -> None:
    """Without it an expert would be trained on what is left of a folder that lost its disk."""
    harm(root / "rust")
    walk = Walk(root)
    _taken(walk)
    with pytest.raises(DataError, match=f"1 files or folders cannot be reached: {words}; mend"):
        walk.require_reached()
    walk = Walk(root, ("z.png", "more"))
    assert _taken(walk) == BASE
    walk.require_reached()


def test_a_folder_without_permission_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the images in it would be missing without a word."""
    _image(root / "rust" / "more" / "c.png")
    scan = os.scandir

    def locked(folder: Path) -> Iterator[Any]:
        if Path(folder).name == "more":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(image_walk.os, "scandir", locked)  # root may read whatever is locked
    walk = Walk(root)
    assert _taken(walk) == BASE
    with pytest.raises(DataError, match=r"rust/more/ \(Permission denied\)"):
        walk.require_reached()


@pytest.mark.parametrize(
    "pattern", ["web", "web/", "rust/web/*", "rust/web", "c.*", "[c-d].png", "*/c.png"]
)
def test_a_pattern_excludes_by_name_or_by_path(pattern: str, root: Path) -> None:
    """Without it `exclude` would leave out too little, or everything."""
    _image(root / "rust" / "web" / "c.png")
    walk = Walk(root, (pattern,))
    assert _taken(walk) == BASE
    assert walk.left_out.counts == {image_walk.EXCLUDED: 1}


def test_a_name_that_is_no_text_can_be_said(root: Path) -> None:
    """Without it one file name of an old system would end every message in a UnicodeEncodeError."""
    odd = os.fsdecode(b"\xff\xfe.png")
    _image(root / "rust" / odd)
    walk = Walk(root)
    assert len(_taken(walk)) == 3
    assert any("\\udcff" in name for name in map(walk.name, walk.images(root / "rust")))
    "".join(_taken(Walk(root))).encode()
