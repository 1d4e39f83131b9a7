"""A user's own folder of images: every way in which it can be odd or broken."""

from __future__ import annotations

import io
import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.data import image_source
from neulig_fl.data.sources import Task, imagefolder
from neulig_fl.study.checking import load


def _source(root: Path, **options: Any) -> imagefolder.ImageFolder:
    return imagefolder.source(TaskOptions(source="imagefolder", root=str(root), **options))


def _all(source: imagefolder.ImageFolder, size: int = 8) -> np.ndarray:
    return source.pixels(np.arange(len(source.ids())), size)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three images."""
    return tiny.images(tmp_path / "folder", ("big_cat", "dog"), each=3)


def _colour(image: np.ndarray) -> list[int]:
    """The mean colour of one (3, size, size) image."""
    return [round(float(c)) for c in image.mean(axis=(1, 2))]


def test_folders_are_classes_in_the_order_of_their_names(root: Path) -> None:
    """Without it labels would depend on the file system."""
    source = _source(root)
    assert source.class_names == ("big cat", "dog")
    assert source.labels().tolist() == [0, 0, 0, 1, 1, 1]
    images = _all(source, 16)
    assert images.shape == (6, 3, 16, 16)
    assert images.dtype == np.uint8
    assert source.templates[0].format("big cat") == "a photo of a big cat."
    assert source.pixels(np.array([], dtype=np.int64), 8).shape == (0, 3, 8, 8)


def test_hidden_folders_and_other_files_are_no_images(root: Path) -> None:
    """Without it a notes file or a cache folder would end the run."""
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("hello")
    (root / "dog" / "notes.md").write_text("hello")
    (root / "dog" / "deeper").mkdir()
    Image.new("RGB", (4, 4), "red").save(root / "dog" / "deeper" / "PICTURE.PNG")
    (root / "dog" / ".thumbnails").mkdir()
    Image.new("RGB", (4, 4), "lime").save(root / "dog" / ".thumbnails" / "x.png")
    (root / "dog" / "._1.bmp").write_bytes(b"what some systems write beside a file")
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
def test_any_kind_of_image_becomes_rgb(
    mode: str, colour: object, expected: list[int], tmp_path: Path
) -> None:
    """Without it a grey, transparent or 16-bit image would end the run or come out black."""
    ending = ".tif" if mode in ("CMYK", "I") else ".png"
    for name, side in (("a", 5), ("b", 9)):
        (tmp_path / name).mkdir()
        Image.new(mode, (side, side), colour).save(tmp_path / name / f"x{ending}")  # type: ignore[arg-type]
    assert _colour(_all(_source(tmp_path))[1]) == pytest.approx(expected, abs=1)


def test_an_image_keeps_its_proportions_and_loses_its_edges(tmp_path: Path) -> None:
    """Without it images that are not square would be squeezed, unlike CLIP's."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (0, 255, 0)
    wide[:, 20:] = (255, 0, 0)
    for name, image in (("tall", wide.transpose(1, 0, 2)), ("wide", wide)):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "x.bmp")
    tall, found = _all(_source(tmp_path), 10)
    assert found[1, 5, 5] == tall[1, 5, 5] == 255
    assert _colour(found)[1] > 240
    assert np.array_equal(tall, found.transpose(0, 2, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 2)])
def test_images_of_any_size_fit(size: tuple[int, int], tmp_path: Path) -> None:
    """Without it one very thin image would end the run."""
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
    elif how == "in two formats":
        Image.open(root / "dog" / "1.bmp").save(root / "big_cat" / "copy.png")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "no such folder; `root` must hold one folder per class"),
        ("a file", "no such folder"),
        ("one class", r"1 class folder\(s\); a task needs 2 or more"),
        ("no class", r"0 class folder\(s\)"),
        ("empty class", "class folder 'dog' holds no image .*add some, or leave it out"),
        ("class of texts", "class folder 'zoo' holds no image"),
        (
            "in two classes",
            "dog.1.bmp and big_cat.copy.bmp are the same image in two classes; keep one",
        ),
        ("in two formats", "dog.1.bmp and big_cat.copy.png are the same image in two classes"),
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


def test_the_same_image_twice_in_one_class_is_no_error_and_stays_on_one_side(root: Path) -> None:
    """Without it a duplicate would be trained on and evaluated on."""
    shutil.copy(root / "dog" / "1.bmp", root / "dog" / "copy.bmp")
    Image.open(root / "dog" / "1.bmp").save(root / "dog" / "copy.png")
    source = _source(root)
    origins = list(source.origins())
    twins = [i for i, key in enumerate(origins) if origins.count(key) == 3]
    first = origins[twins[0]]
    assert [source.ids()[i] for i in twins] == [first, f"{first}#2", f"{first}#3"]
    assert len(twins) == 3
    for seed in range(20):
        task = Task("own", source, seed)
        sides = [split for split in ("train-A", "train-B", "pool", "evaluation")
                 if set(twins) & set(task.indices(split).tolist())]  # fmt: skip
        assert len(sides) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"BM"],
    ids=["empty", "text", "cut", "short"],
)
def test_an_unreadable_image_is_named(content: bytes, root: Path) -> None:
    """Without it the user would search thousands of files for the broken one."""
    (root / "dog" / "broken.png").write_bytes(content)
    with pytest.raises(
        DataError, match=r"dog.broken\.png cannot be read .*; replace or remove"
    ) as caught:
        _source(root).ids()
    assert caught.value.public_reason == "one of its images cannot be read"


def test_all_unreadable_images_are_found_at_once_each_with_its_reason(root: Path) -> None:
    """Without it a user would mend one, wait for thousands of others, and learn of the next."""
    (root / "dog" / "a.png").write_bytes(b"")
    for name in ("b", "c", "d", "e"):
        (root / "dog" / f"{name}.png").write_bytes(b"<html>not found</html>")
    found = (
        r"5 images cannot be read: dog/a.png \(the file is empty\), dog/b.png \(no image of a "
        r"format that is read here\), dog/c.png \(.*\) and 2 more; replace or remove them$"
    )
    with pytest.raises(DataError, match=found):
        _source(root).ids()


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
def test_no_damage_ends_in_anything_but_an_image_or_that_error(
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


def test_a_truncated_image_is_named(root: Path) -> None:
    """Without it half of a photograph would be trained on, or its name be searched for."""
    content = _encoded("JPEG")
    (root / "dog" / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"dog/cut\.jpg cannot be read \(.*[Tt]runcated"):
        _source(root).ids()


# ---------------------------------------------------------------- published splits


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """`train/` and `test/` with the same two classes."""
    for seed, part in enumerate(("train", "test")):
        tiny.images(tmp_path / "published" / part, ("cat", "dog"), each=6 - 3 * seed, seed=seed)
    return tmp_path / "published"


def test_the_test_part_is_what_is_evaluated_on(published: Path) -> None:
    """Without it figures could not be compared with others on the same published split."""
    tiny.images(published / "val", ("cat", "dog"), each=2, seed=5)
    source = _source(published)
    assert source.class_names == ("cat", "dog")
    held_out = source.held_out()
    assert held_out is not None
    assert (int(held_out.sum()), len(held_out)) == (6, 22)
    tested = Task("own", source, 0).indices("evaluation")
    parts = {source.where(int(i)).split("/")[0] for i in tested}
    assert parts == {"test"}
    assert len(tested) == 6


def test_a_training_copy_of_a_test_image_is_left_out(published: Path) -> None:
    """Without it an expert would be measured on an image that it was trained on."""
    shutil.copy(published / "test" / "cat" / "0.bmp", published / "train" / "cat" / "copy.bmp")
    source = _source(published)
    assert len(source.ids()) == len(set(source.origins())) == 18
    assert source.pixels(np.array([17]), 8).shape == (1, 3, 8, 8)


def _odd(root: Path, how: str) -> None:
    if how == "class":
        (root / "test" / "emu").mkdir()
    elif how == "val":
        tiny.images(root / "val", ("cat",))
    else:
        tiny.images(root / "extra", ("cat", "dog"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("class", "test/ and train/ differ in the class folder 'emu'"),
        ("val", "val/ and train/ differ in the class folder 'dog'"),
        ("beside", "extra/ lies beside train/ and test/"),
    ],
)
def test_parts_that_do_not_fit_together_are_an_error(
    how: str, message: str, published: Path
) -> None:
    """Without it the classes would silently be "test" and "train"."""
    _odd(published, how)
    with pytest.raises(
        DataError, match=f"^imagefolder {published}: {message}; (every part of|say which)"
    ):
        _source(published).ids()


@pytest.mark.parametrize("how", ["class", "val"])
def test_a_class_of_one_part_alone_can_be_left_out(how: str, published: Path) -> None:
    """Without it the question would have no answer but to move files."""
    _odd(published, how)
    with pytest.raises(DataError, match="differ in the class folder") as caught:
        _source(published).ids()
    answer = yaml.safe_load(str(caught.value).split("`")[1])
    assert answer == {"exclude": ["emu" if how == "class" else "dog"]}
    classes = yaml.safe_load(str(caught.value).split("`")[3])["classes"]
    assert set(classes) == {"test", "train"} | ({"val"} if how == "val" else set())
    if how == "class":
        assert _source(published, **answer).class_names == ("cat", "dog")


def test_an_empty_class_folder_can_be_left_out(tmp_path: Path) -> None:
    """Without it the metadata that comes with a data set would have to be deleted."""
    root = tiny.images(tmp_path / "own", ("cat", "dog"), each=2)
    (root / "imdb").mkdir()
    (root / "imdb" / "ages.mat").write_bytes(b"x")
    with pytest.raises(DataError, match="class folder 'imdb' holds no image") as caught:
        _source(root).ids()
    answer = yaml.safe_load(str(caught.value).split("`")[1])
    assert _source(root, **answer).class_names == ("cat", "dog")


def test_several_underscores_read_as_one_space(tmp_path: Path) -> None:
    """Without it prompts would hold runs of spaces."""
    root = tiny.images(tmp_path / "own", ("big__cat", "_dog", "__"), each=2)
    assert _source(root).class_names == ("__", "dog", "big cat")


def test_classes_called_train_and_test_are_classes_once_the_user_says_so(tmp_path: Path) -> None:
    """Without it nobody could tell images of trains from images of tests."""
    root = tiny.images(tmp_path / "own", ("test", "train"), each=2)
    with pytest.raises(DataError, match="test/ and train/ look like the parts of a split"):
        _source(root).ids()
    source = _source(root, classes={"test": "exam", "train": "train"})
    assert source.class_names == ("exam", "train")
    assert source.held_out() is None
    assert len(source.ids()) == 4


# ---------------------------------------------------------------- which classes, which images


def test_per_class_takes_the_first_images_by_name(root: Path) -> None:
    """Without it a large folder could only be used whole."""
    source = _source(root, per_class=2)
    assert source.labels().tolist() == [0, 0, 1, 1]
    assert [source.where(i) for i in (0, 1)] == ["big_cat/0.bmp", "big_cat/1.bmp"]
    assert set(source.ids()) < set(_source(root).ids())


def test_classes_give_names_and_the_order_of_labels(root: Path) -> None:
    """Without it no class could have a slash in its name, or another order than the alphabet's."""
    source = _source(root, classes={"dog": "hound/dog", "big_cat": "大貓"})
    assert source.class_names == ("hound/dog", "大貓")
    assert source.labels().tolist() == [1, 1, 1, 0, 0, 0]
    assert source.ids() == _source(root).ids()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"dog": "a", "big cat": "b"}, r"no such class \(got 'big cat'\); .*mean big_cat\?"),
        (
            {"dog": "a", "big_cat": "b", "cow": "c"},
            r"no such class \(got 'cow'\); allowed: big_cat",
        ),
        ({"dog": "a", "Dog": "b"}, "no such class"),
    ],
)
def test_classes_that_are_not_the_folders_are_an_error(
    classes: dict[str, str], message: str, root: Path
) -> None:
    """Without it a class would silently get no images."""
    for ask in (lambda s: s.class_names, lambda s: s.ids()):
        with pytest.raises(DataError, match=f"classes: {message}"):
            ask(_source(root, classes=classes))
    options = TaskOptions(source="imagefolder", root=str(root), classes=classes)
    assert next(keys for keys, _ in imagefolder.faults(options))[0] == "classes"


def test_a_class_left_out_is_an_error(root: Path) -> None:
    """Without it its images would be of no class."""
    tiny.images(root, ("emu",), each=1, seed=4)
    with pytest.raises(DataError, match="classes: leaves out 'emu'; name every class"):
        _source(root, classes={"dog": "a", "big_cat": "b"}).ids()


def test_names_with_accents_are_the_same_however_they_are_written(tmp_path: Path) -> None:
    """Without it a folder copied from another system would have other prompts and another order."""
    written: list[Callable[[str], str]] = [
        lambda text, form=form: unicodedata.normalize(form, text)  # type: ignore[misc]
        for form in ("NFC", "NFD")
    ]
    sources = []
    for number, write in enumerate(written):
        names = tuple(map(write, ("été", "eta", "猫", "å")))
        root = tiny.images(tmp_path / str(number), names, each=2)
        sources.append(_source(root))
        mine = {name: name.upper() for name in ("été", "eta", "猫", "å")}
        assert len(_source(root, classes=mine).ids()) == 8
    assert sources[0].class_names == sources[1].class_names == ("eta", "å", "été", "猫")


@pytest.mark.parametrize(("typed", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_the_scenario_are_those_on_the_disk_however_accents_are_written(
    typed: str, disk: str, tmp_path: Path
) -> None:
    """Without it what the user typed would not be found in a folder that a Mac has written."""
    there = [unicodedata.normalize(disk, name) for name in ("été", "é [alt]", "mû")]
    root = tmp_path / "own"
    for seed, part in enumerate(there[:2]):
        tiny.images(root / part, ("dog", there[2]), each=3, seed=seed)
        (root / part / "dog" / f"{there[2]}.png").write_bytes(b"nothing")
    first, second, third = (unicodedata.normalize(typed, name) for name in there)
    options: dict[str, Any] = {
        "train_splits": [first],
        "test_splits": [second],
        "classes": {third: "wall", "dog": "dog"},
        "exclude": [f"{third}.*"],
    }
    source = _source(root, **options)
    assert source.class_names == ("wall", "dog")
    held_out = source.held_out()
    assert held_out is not None
    assert (len(source.ids()), int(held_out.sum())) == (12, 6)
    assert source.labels().tolist() == [1, 1, 1, 0, 0, 0] * 2
    assert not [each for each in source.remarks() if "matches nothing" in each]
    task = TaskOptions(source="imagefolder", root=str(root), **options)
    assert list(imagefolder.faults(task)) == []
    alone = task.model_copy(update={"exclude": None, "test_splits": (first,)})
    assert next(keys for keys, _ in imagefolder.faults(alone)) == ("test_splits",)


def test_the_answer_about_a_folder_of_copies_is_known_in_both_ways(tmp_path: Path) -> None:
    """Without it a user who takes such a folder would be asked again and again."""
    root = tiny.images(tmp_path / "own", ("cat", "dog"), each=3)
    copies = root / "cat" / unicodedata.normalize("NFD", "réduit")
    copies.mkdir()
    for number in range(3):
        Image.open(root / "cat" / f"{number}.bmp").resize((6, 6)).save(copies / f"{number}.bmp")
    with pytest.raises(DataError, match=r"may be a smaller copy of cat/0\.bmp"):
        _source(root, exclude=["x"]).ids()
    assert len(_source(root, exclude=[unicodedata.normalize("NFC", "!réduit")]).ids()) == 9


def test_one_class_in_two_spellings_of_its_accents_is_an_error(root: Path) -> None:
    """Without it the first of two names that a user gave to one class would be lost."""
    twice = {unicodedata.normalize(form, "é"): form for form in ("NFC", "NFD")}
    faults = dict(image_source.class_faults({"a": "a", **twice}, ["a", "é"]))
    assert list(faults) == [unicodedata.normalize("NFD", "é")]
    assert "stands twice, its accents written in two ways; keep one" in next(iter(faults.values()))


@pytest.mark.parametrize("below", ["", "train", "test"])
@pytest.mark.parametrize(
    ("name", "shown", "what"),
    [
        (os.fsdecode(b"caf\xe9"), r"caf\\udce9", "is not UTF-8"),
        ("big\ncat", r"big\\ncat", "holds a line break or control character"),
        ("\x1b[2Jcat", r"\\x1b\[2Jcat", "holds a line break or control character"),
    ],
)
def test_a_class_folder_whose_name_is_no_text_is_an_error(
    name: str, shown: str, what: str, below: str, tmp_path: Path
) -> None:
    """Without it `check` would say OK, and the run fail where the class's name is written."""
    root = tmp_path / "own"
    for part in ("train", "test") if below else ("",):
        tiny.images(root / part, ("a", "b", *([name] if part == below else [])), each=2)
    with pytest.raises(DataError, match=f"folder {below and f'{below}/'}{shown} {what}") as caught:
        _source(root).ids()
    assert str(caught.value).isprintable()
    assert caught.value.public_reason == "a folder of its image folder has a name that is no text"
    leave = yaml.safe_load(str(caught.value).split("`")[1])
    assert _source(root, **leave).class_names == ("a", "b")


def test_two_ways_to_write_one_name_are_an_error(root: Path) -> None:
    """Without it one class would be two, with the same prompts."""
    for form in ("NFC", "NFD"):
        (root / unicodedata.normalize(form, "é")).mkdir()
    with pytest.raises(DataError, match="two folders read as 'é', their accents written in two"):
        _source(root).ids()


def test_images_are_decoded_once(
    root: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it every process of a run would decode the whole folder."""
    first = list(_source(root).ids())
    monkeypatch.setattr(imagefolder.image_pixels, "opened", None)
    assert list(_source(root).ids()) == first


def test_the_documented_example_is_resisc45(tmp_path: Path) -> None:
    """Without it the page's RESISC45 would have other classes or prompts than CLIP's."""
    page = Path(__file__).parents[3] / "docs" / "data.md"
    text = page.read_text(encoding="utf-8").partition("### RESISC45")[2]
    block = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    listed = re.search(r"Its classes: (.*?)\.\n", text, re.DOTALL)
    assert block is not None
    assert listed is not None
    names = " ".join(listed[1].split()).split(", ")
    assert len(names) == len(set(names)) == 45
    folders = tuple(name.replace(" ", "_") for name in names)
    tiny.images(tmp_path / "NWPU-RESISC45", folders, each=1)
    clients = [{"name": "ada", "task": "from-above"}, {"name": "bob", "task": "digits"}]
    said = {**tiny.said(tmp_path), **tiny.yaml.safe_load(block[1]), "clients": clients}
    (tmp_path / "s.yaml").write_text(tiny.yaml.safe_dump(said))
    options = load(tmp_path / "s.yaml").resolved(tmp_path).tasks["from-above"]
    source = imagefolder.source(options)
    assert source.class_names == tuple(names)
    assert len(set(source.templates)) == len(source.templates) == 18
    assert source.templates[0].format("sea ice") == "satellite imagery of sea ice."
