"""A user's own folder of pictures: every way in which it can be odd or broken."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from neulig_fl.errors import DataError
from neulig_fl.scenario import TaskOptions
from neulig_fl.tasks import Task, imagefolder


def _source(root: Path) -> imagefolder.ImageFolder:
    return imagefolder.source(TaskOptions(source="imagefolder", root=str(root)))


def _all(source: imagefolder.ImageFolder, size: int = 8) -> np.ndarray:
    return source.pixels(np.arange(len(source.ids())), size)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three pictures."""
    return tiny.pictures(tmp_path / "folder", ("big_cat", "dog"), each=3)


def _colour(picture: np.ndarray) -> list[int]:
    """The mean colour of one (3, size, size) picture."""
    return [round(float(c)) for c in picture.mean(axis=(1, 2))]


def test_folders_are_classes_in_the_order_of_their_names(root: Path) -> None:
    """Without it labels would depend on the file system."""
    source = _source(root)
    assert source.class_names == ("big cat", "dog")
    assert source.labels().tolist() == [0, 0, 0, 1, 1, 1]
    pictures = _all(source, 16)
    assert pictures.shape == (6, 3, 16, 16)
    assert pictures.dtype == np.uint8
    assert source.templates[0].format("big cat") == "a photo of a big cat."
    assert source.pixels(np.array([], dtype=np.int64), 8).shape == (0, 3, 8, 8)


def test_hidden_folders_and_other_files_are_no_pictures(root: Path) -> None:
    """Without it a notes file or a cache folder would end the run."""
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("hello")
    (root / "dog" / "notes.md").write_text("hello")
    (root / "dog" / "deeper").mkdir()
    Image.new("RGB", (4, 4), "red").save(root / "dog" / "deeper" / "PICTURE.PNG")
    source = _source(root)
    assert source.class_names == ("big cat", "dog")
    assert len(source.ids()) == 7


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 200, 30), [10, 200, 30]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("LA", (77, 0), [255, 255, 255]),
        ("RGBA", (10, 200, 30, 255), [10, 200, 30]),
        ("RGBA", (10, 200, 30, 0), [255, 255, 255]),
        ("P", 0, [0, 0, 0]),
        ("CMYK", (0, 0, 0, 0), [255, 255, 255]),
        ("I;16", 65535 // 4, [64, 64, 64]),
        ("I", 40000, [156, 156, 156]),
    ],
)
def test_any_kind_of_picture_becomes_rgb(
    mode: str, colour: object, expected: list[int], tmp_path: Path
) -> None:
    """Without it a grey, transparent or 16-bit picture would end the run or come out black."""
    ending = ".tif" if mode in ("CMYK", "I") else ".png"
    for name, side in (("a", 5), ("b", 9)):
        (tmp_path / name).mkdir()
        Image.new(mode, (side, side), colour).save(tmp_path / name / f"x{ending}")  # type: ignore[arg-type]
    assert _colour(_all(_source(tmp_path))[1]) == pytest.approx(expected, abs=1)


def test_a_picture_keeps_its_proportions_and_loses_its_edges(tmp_path: Path) -> None:
    """Without it pictures that are not square would be squeezed, unlike CLIP's."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (0, 255, 0)
    wide[:, 20:] = (255, 0, 0)
    for name, picture in (("tall", wide.transpose(1, 0, 2)), ("wide", wide)):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "x.bmp")
    tall, found = _all(_source(tmp_path), 10)
    assert found[1, 5, 5] == tall[1, 5, 5] == 255
    assert _colour(found)[1] > 240
    assert np.array_equal(tall, found.transpose(0, 2, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 2)])
def test_pictures_of_any_size_fit(size: tuple[int, int], tmp_path: Path) -> None:
    """Without it one very thin picture would end the run."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", size, name.replace("a", "red").replace("b", "blue")).save(
            tmp_path / name / "x.png"
        )
    assert _all(_source(tmp_path), 8).shape == (2, 3, 8, 8)


# ---------------------------------------------------------------- broken folders


def _make(root: Path, how: str) -> None:
    if how == "missing":
        shutil.rmtree(root)
    elif how == "a file":
        shutil.rmtree(root)
        root.write_text("x")
    elif how == "one class":
        shutil.rmtree(root / "dog")
    elif how == "no class":
        shutil.rmtree(root)
        root.mkdir()
    elif how == "empty class":
        shutil.rmtree(root / "dog")
        (root / "dog").mkdir()
    elif how == "class of texts":
        (root / "zoo").mkdir()
        (root / "zoo" / "x.txt").write_text("x")
    elif how == "in two classes":
        shutil.copy(root / "dog" / "1.bmp", root / "big_cat" / "copy.bmp")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "no such folder; `root` must hold one folder per class"),
        ("a file", "no such folder"),
        ("one class", r"1 class folder\(s\); a task needs 2 or more"),
        ("no class", r"0 class folder\(s\)"),
        ("empty class", "class folder 'dog' holds no image .*add some or remove the folder"),
        ("class of texts", "class folder 'zoo' holds no image"),
        (
            "in two classes",
            "dog.1.bmp and big_cat.copy.bmp are the same image in two classes; keep one",
        ),
    ],
)
def test_a_broken_folder_is_one_clear_error(how: str, message: str, root: Path) -> None:
    """Without it the user would get a traceback, or labels that mean nothing."""
    _make(root, how)
    with pytest.raises(DataError, match=f"^imagefolder {root}: .*{message}") as caught:
        _source(root).ids()
    assert caught.value.exit_code == 2
    assert caught.value.public_reason
    assert str(root) not in caught.value.public_reason


def test_the_same_picture_twice_in_one_class_is_no_error_and_stays_on_one_side(root: Path) -> None:
    """Without it a duplicate would be trained on and evaluated on."""
    shutil.copy(root / "dog" / "1.bmp", root / "dog" / "copy.bmp")
    source = _source(root)
    ids = list(source.ids())
    twins = [i for i, key in enumerate(ids) if ids.count(key) == 2]
    assert len(twins) == 2
    for seed in range(20):
        task = Task("own", source, seed)
        sides = [split for split in ("train-A", "train-B", "pool", "evaluation")
                 if set(twins) & set(task.indices(split).tolist())]  # fmt: skip
        assert len(sides) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"BM"],
    ids=["empty", "text", "cut", "short"],
)
def test_an_unreadable_picture_is_named(content: bytes, root: Path) -> None:
    """Without it the user would search thousands of files for the broken one."""
    (root / "dog" / "broken.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"dog.broken\.png cannot be read .*; replace or remove"
    ) as caught:
        _all(_source(root))
    assert caught.value.public_reason == "one of its images cannot be read"


def _encoded(ending: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, ending)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "PPM"]),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    kept=st.floats(0.2, 1),
)
def test_no_damage_ends_in_anything_but_a_picture_or_that_error(
    root: Path, ending: str, damage: list[tuple[float, int]], kept: float
) -> None:
    """Without it some broken file would crash the client without saying which file it was."""
    content = bytearray(_encoded(ending))
    for place, value in damage:
        # The first bytes hold the side lengths; damaged, they could ask for gigabytes.
        content[30 + int(place * (len(content) - 30))] = value
    (root / "dog" / "1.bmp").write_bytes(bytes(content[: max(1, int(kept * len(content)))]))
    try:
        shape = _all(_source(root)).shape
    except DataError as error:
        shape, message = (6, 3, 8, 8), str(error)
    else:
        message = "1.bmp was read"
    assert shape == (6, 3, 8, 8)
    assert "1.bmp" in message


def test_a_damaged_png_whose_chunks_make_no_sense_is_named(root: Path) -> None:
    """Without it PIL's SyntaxError would reach the user as a crash."""
    content = bytearray(_encoded("PNG"))
    at = content.index(b"IDAT")
    broken = content[: at - 4] + b"\x00\x00\x00\x00\x01\x02\x03\x04" + content[at + 4 :]
    (root / "dog" / "1.bmp").write_bytes(bytes(broken))
    with pytest.raises(DataError, match=r"dog.1\.bmp cannot be read"):
        _all(_source(root))
