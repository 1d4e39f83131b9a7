"""Attacks with image files: what an image can start, take or hold up when it is read."""

from __future__ import annotations

import ast
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image, ImageFile

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.core.resizing import Resize
from neulig_fl.data import image_copies, image_files, image_ids, images
from neulig_fl.data.sources import _huggingface_columns, imagefolder

CODE = Path(imagefolder.__file__).parents[2]
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 16 16
%%EndComments
0 0 16 16 rectfill
showpage
%%EOF
"""


def _chunk(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def _png(width: int, height: int, *before: bytes) -> bytes:
    """A grey PNG of any promised size; its pixels are zeros, as many as fit in few bytes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min((width + 1) * height, 2**20)))
    chunks = [_chunk(b"IHDR", head), *before, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def root(tmp_path: Path, own_cache: Path) -> Path:
    """An image folder of two classes with two images each."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(2):
            colour = (40 * number, 90 if name == "cat" else 10, 0)
            Image.new("RGB", (8, 8), colour).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def _ids(root: Path) -> object:
    options = TaskOptions.model_validate({"source": "imagefolder", "root": str(root)})
    return imagefolder.source(options).ids()


# ---------------------------------------------------------------- other programs

READERS: dict[str, Callable[[Path], object]] = {
    "an image folder, or a published set": images.opened,
    "bytes of a Hugging Face data set": lambda path: _huggingface_columns.image(
        {"bytes": path.read_bytes(), "path": None}, None
    ),
    "a path in a Hugging Face data set": lambda path: _huggingface_columns.image(
        {"bytes": None, "path": str(path)}, "RGB"
    ),
    "several frames": images.has_frames,
    "copies in other sizes": lambda path: image_copies.copies([path, path], [path, path]),
}


@pytest.mark.parametrize("reader", READERS)
def test_an_image_starts_no_other_program(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it whoever supplies an image runs PostScript of his own in Ghostscript."""
    started, program = tmp_path / "started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {started}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # looked for anew
    path = tmp_path / "x.gif"
    path.write_bytes(EPS)
    try:
        READERS[reader](path)
    except OSError as error:
        assert image_files.why(error) == "no image of a format that is read here"  # noqa: PT017
    assert not started.exists()


def test_an_image_of_a_forbidden_format_is_named(root: Path) -> None:
    """Without it the user would search thousands of files for the one that is no image."""
    (root / "dog" / "evil.png").write_bytes(EPS)
    with pytest.raises(DataError, match=r"dog/evil\.png cannot be read \(no image of a format"):
        _ids(root)


def test_images_are_opened_in_one_place_alone() -> None:
    """Without it the next reader of images would let Pillow try every format again."""
    found = {
        path.relative_to(CODE).as_posix()
        for path in CODE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _opens_images(node)
    }
    assert found == {"data/image_files.py"}


def _opens_images(node: ast.AST) -> bool:
    """`Image.open`, a name that stands for it, or another library's way to it."""
    if isinstance(node, ast.Attribute):
        return node.attr == "open" and "Image" in ast.unparse(node.value)
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("PIL"):
        return any(name.name == "open" for name in node.names)
    return isinstance(node, ast.Name | ast.alias) and "default_loader" in ast.unparse(node)


@pytest.mark.parametrize("code", ["from PIL import Image\nImage.open(x)", "from PIL.Image import open",
                                  "import PIL\nPIL.Image.open(x)", "from torchvision.datasets.folder import default_loader"])  # fmt: skip
def test_a_planted_reader_of_images_is_found(code: str) -> None:
    """Without it the test above could pass because it sees nothing."""
    assert any(map(_opens_images, ast.walk(ast.parse(code))))


def test_only_named_formats_are_read() -> None:
    """Without it a new Pillow would bring new formats with it, and what they start."""
    assert {"PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM"} <= set(image_files.formats())
    assert set(image_files.formats()) <= set(image_files.FORMATS)
    assert not {"EPS", "WMF", "PSD", "ICO", "FITS"} & set(image_files.FORMATS)


# ---------------------------------------------------------------- memory and time


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (200_000, 1, "200,000 x 1 pixels; a side is at most 200 times the other"),
        (1, 201, "1 x 201 pixels; a side is at most 200 times the other"),
        (10_000, 10_000, "10,000 x 10,000 pixels; at most 89,478,485 in all are read"),
        (20_000, 20_000, "more pixels than are read, which is at most 89,478,485"),
    ],
)
def test_a_header_that_promises_too_much_is_refused_before_decoding(
    width: int, height: int, words: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a file of 661 bytes takes gigabytes, and the client is killed."""
    (root / "cat" / "bomb.png").write_bytes(_png(width, height))
    decoded, real = [], ImageFile.ImageFile.load

    def load(image: ImageFile.ImageFile) -> object:
        decoded.append(image.size)
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(DataError, match=r"bomb\.png cannot be read") as caught:
        _ids(root)
    assert f"cat/bomb.png cannot be read ({words}); replace or remove it" in str(caught.value)
    assert caught.value.public_reason == "one of its images cannot be read"
    assert set(decoded) == {(8, 8)}


@pytest.mark.parametrize("size", [(8, 1600), (1600, 8), (1601, 8), (8, 8)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_long_image_is_cut_before_it_is_scaled(
    size: tuple[int, int], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it an image within the limits becomes a thousand times its size on the way."""
    made = []
    real = Image.Image.resize

    def resize(image: Image.Image, to: tuple[int, int], *more: object, **named: object) -> object:
        made.append(to[0] * to[1])
        return real(image, to, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", resize)
    found = images.square(Image.new("RGB", size), Resize(64, mode))
    assert found.size == (64, 64)
    assert max(made) <= max(9 * 64 * 64, size[0] * size[1] * 4)


def test_a_file_of_too_many_bytes_is_neither_hashed_nor_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a sparse file of terabytes, which costs its owner nothing, holds the client up."""
    with (root / "dog" / "large.png").open("wb") as file:
        file.truncate(image_files.MOST_BYTES + 1)
    hashed, real = [], image_ids.disk.sha256

    def sha256(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(image_ids.disk, "sha256", sha256)
    with pytest.raises(
        DataError, match=r"large.png .*\(268,435,457 bytes; at most 268,435,456 are"
    ):
        _ids(root)
    assert hashed == ["0.png", "1.png"] * 2


def test_a_pipe_in_place_of_an_image_holds_nobody_up(tmp_path: Path) -> None:
    """Without it a path in somebody's data set that names a pipe stops the client for ever."""
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(OSError, match="it is no regular file"):
        _huggingface_columns.image({"bytes": None, "path": str(tmp_path / "x.png")}, None)
    assert image_ids.of_files(tmp_path, [], lambda path: "") == ([], [])


def test_an_image_of_the_network_is_not_fetched_by_its_row() -> None:
    """Without it whoever made a data set learns who reads it, and can send other images to each."""
    with pytest.raises(OSError, match="it is not stored on this machine"):
        _huggingface_columns.image({"bytes": None, "path": "https://a.test/x.png"}, None)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("size", [2**10, 2**23])
def test_an_image_with_large_text_is_fine_or_a_clear_refusal(
    kind: bytes, size: int, root: Path
) -> None:
    """Without it a photograph with long metadata, or a bomb in them, ends in Pillow's own words."""
    words = b"k\0" + (zlib.compress(b"a" * size) if kind == b"zTXt" else b"a" * size)
    if kind == b"zTXt":
        words = b"k\0\0" + zlib.compress(b"a" * size)
    if kind == b"iTXt":
        words = b"k\0\1\0\0\0" + zlib.compress(b"a" * size)
    (root / "cat" / "text.png").write_bytes(_png(9, 9, _chunk(kind, words)))
    try:
        assert len(list(_ids(root))) == 5  # type: ignore[call-overload]
    except DataError as error:
        assert kind != b"tEXt"
        assert size == 2**23
        assert "cat/text.png cannot be read (its text chunks are too large; save it" in str(error)  # noqa: PT017


def test_remarks_on_images_that_were_not_decoded_need_no_whole_image(root: Path) -> None:
    """Without it a damaged file beyond `per_class` ends the run with a traceback."""
    (root / "cat" / "9.gif").write_bytes(b"GIF89a")
    options = {"source": "imagefolder", "root": str(root), "per_class": 2}
    source = imagefolder.source(TaskOptions.model_validate(options))
    assert any("read 4 .png, 1 .gif" in words for words in source.remarks())
