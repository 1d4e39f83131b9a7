"""Folders that may be something else than classes: what is asked, and that each answer works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from PIL import Image

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.data.sources import imagefolder

CLASSES = ("cat", "dog")


def _source(root: Path, /, **options: Any) -> imagefolder.ImageFolder:
    return imagefolder.source(TaskOptions(**({"root": str(root)} | options), source="imagefolder"))


def _asked(root: Path, words: str, **options: Any) -> list[dict[str, Any]]:
    """The answers that a question proposes, each as options of a task."""
    with pytest.raises(DataError, match=words) as caught:
        _source(root, **options).ids()
    joined = str(caught.value).replace("` and `", "\n")
    return [yaml.safe_load(answer) for answer in joined.split("`")[1::2]]


def _held(root: Path, *folders: str, classes: tuple[str, ...] = CLASSES) -> Path:
    for seed, name in enumerate(folders):
        tiny.images(root / name, classes, each=3, seed=seed)
    return root


def _scaled(root: Path, source: str, to: str, side: int) -> None:
    """Every image of a folder in another size, in another folder."""
    for file in sorted((root / source).rglob("*.bmp")):
        copy = root / to / file.relative_to(root / source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).resize((side, side)).save(copy)


def _sizes(source: imagefolder.ImageFolder) -> tuple[tuple[str, ...], int, int | None]:
    """Class names, images, and how many of them are of the test part."""
    held_out = source.held_out()
    tested = None if held_out is None else int(held_out.sum())
    return source.class_names, len(source.ids()), tested


# ---------------------------------------------------------------- folders of the same folders


@pytest.mark.parametrize(
    "names",
    [
        ("A", "B"),
        ("client_0", "client_1"),
        ("entrenamiento", "prueba"),
        ("Apprentissage", "Essai"),
        ("訓練", "テスト"),
        ("art painting", "sketch"),
        ("2019", "2020"),
    ],
)
def test_folders_that_hold_the_same_classes_are_no_classes_without_a_word(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """Without it clients, domains, and splits in other languages would be trained on as classes."""
    first, second = sorted(names)
    root = _held(tmp_path / "own", first, second)
    Image.new("RGB", (12, 12), "lime").save(root / first / "cat" / "9.bmp")
    words = f"{first}/ and {second}/ hold folders of the same names \\(cat/ and dog/\\), as the"
    split, together, alone, classes = _asked(root, words)
    assert split == {"train_splits": [first], "test_splits": [second]}, "the smaller one is tested"
    assert _sizes(_source(root, **split)) == (CLASSES, 13, 6)
    assert _sizes(_source(root, **together)) == (CLASSES, 13, None)
    assert _sizes(_source(root, **alone)) == (CLASSES, 7, None)
    assert _sizes(_source(root, **classes)) == ((first, second), 13, None)


def test_nearly_the_same_classes_are_asked_about_and_the_answer_works(tmp_path: Path) -> None:
    """Without it one rare class, or a folder in capitals, would turn a split into classes."""
    root = _held(tmp_path / "own", "A", "B")
    tiny.images(root / "A", ("emu",), each=3, seed=5)
    split, together, alone, _ = _asked(root, "A/ and B/ hold folders of the same names")
    assert together["exclude"] == ["emu"]
    assert _sizes(_source(root, **together)) == (CLASSES, 12, None)
    assert _sizes(_source(root, **alone)) == ((*CLASSES, "emu"), 9, None)
    assert _sizes(_source(root, **split)) == (CLASSES, 12, 6)


def test_clients_with_classes_of_their_own_are_asked_about(tmp_path: Path) -> None:
    """Without it a federated partition, in which each client holds two of ten classes, would pass."""
    root = tmp_path / "own"
    for seed, classes in enumerate([("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")]):
        tiny.images(root / f"client_{seed}", classes, each=2, seed=seed)
    alone, classes = _asked(root, "client_0/, .* and client_4/ hold folders of the same names")
    assert _sizes(_source(root, **alone)) == (("a", "b"), 4, None)
    assert len(_source(root, **classes).class_names) == 5


@pytest.mark.parametrize(
    "names", [("X_train", "X_test"), ("x-test", "x-train"), ("cat test", "cat train", "dog train")]
)
def test_names_that_differ_in_a_part_of_a_split_alone_are_a_question(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    """Without it `X_train/` and `X_test/` would be two classes."""
    pair = [name for name in sorted(names) if "dog" not in name]
    question = f"{pair[0]}/ and {pair[1]}/ look like the parts of a split"
    (classes,) = _asked(tiny.images(tmp_path / "flat", names, each=2), question)
    assert len(_source(tmp_path / "flat", **classes).class_names) == len(names)
    for name in names:
        tiny.images(tmp_path / "own" / name, CLASSES, each=2)
    parts, classes = _asked(tmp_path / "own", question)
    tested, trained = pair
    assert parts == {"train_splits": [trained], "test_splits": [tested]}
    assert _sizes(_source(tmp_path / "own", **parts))[0] == CLASSES
    assert len(_source(tmp_path / "own", **classes).class_names) == len(names)


@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "valid")])
def test_clients_with_a_split_of_their_own_are_asked_about(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    """Without it each answer would make the clients the classes, with 100 % for who knows them."""
    for client in ("client_1", "client_2"):
        for seed, part in enumerate(parts):
            tiny.images(tmp_path / "own" / client / part, CLASSES, each=2, seed=seed)
    question = "client_1/ and client_2/ hold parts of a split .*as clients or domains do"
    alone, classes = _asked(tmp_path / "own", question)
    assert alone == {"root": str(tmp_path / "own/client_1")}
    assert _source(tmp_path / "own", **classes).class_names == ("client 1", "client 2")


def test_domains_whose_classes_lie_one_folder_down_are_asked_about(tmp_path: Path) -> None:
    """Without it Office-31 as published would be three classes: amazon, dslr, webcam."""
    for seed, domain in enumerate(("amazon", "dslr", "webcam")):
        tiny.images(tmp_path / "own" / domain / "images", CLASSES, each=2, seed=seed)
    answers = _asked(tmp_path / "own", "amazon/, dslr/ and webcam/ hold folders of the same names")
    assert _source(tmp_path / "own", **answers[-1]).class_names == ("amazon", "dslr", "webcam")


def test_masks_beside_images_can_be_left_out(tmp_path: Path) -> None:
    """Without it masks would be half of the images, and no answer would say so."""
    for seed, name in enumerate(("ill", "well")):
        tiny.images(tmp_path / "own" / name, ("images", "masks"), each=3, seed=seed)
    leave, *_ = _asked(tmp_path / "own", r"ill/ and well/ hold folders of the same names")
    assert leave == {"exclude": ["masks"]}
    assert _sizes(_source(tmp_path / "own", **leave)) == (("ill", "well"), 6, None)


def test_a_part_alone_is_no_split(tmp_path: Path) -> None:
    """Without it the error would advise `train_splits: []`, which is none."""
    tiny.images(tmp_path / "own", ("cat", "dog"), each=2)
    tiny.images(tmp_path / "own/test", ("x", "y"), each=2, seed=5)
    leave, classes = _asked(tmp_path / "own", "test/ looks like a part of a split")
    assert _source(tmp_path / "own", **leave).class_names == ("cat", "dog")
    assert _source(tmp_path / "own", **classes).class_names == ("cat", "dog", "test")


def test_what_is_excluded_stays_excluded_in_an_answer(tmp_path: Path) -> None:
    """Without it two backups would be asked about in turn, each answer forgetting the other."""
    root = _held(tmp_path, "own", "own/!backup", "own/old")
    first, _ = _asked(root / "own", "!backup/ holds folders called as those beside it")
    second, _ = _asked(root / "own", "old/ holds folders called as those beside it", **first)
    assert second == {"exclude": ["?backup", "old"]}
    assert _sizes(_source(root / "own", **second))[0] == CLASSES


def test_a_folder_that_holds_what_lies_beside_it_is_a_question(tmp_path: Path) -> None:
    """Without it a backup of the classes would be a class."""
    root = _held(tmp_path, "own", "own/[old] backup")
    leave, classes = _asked(
        root / "own", r"\[old\] backup/ holds folders called as those beside it"
    )
    assert _sizes(_source(root / "own", **leave)) == (CLASSES, 6, None)
    assert len(_source(root / "own", **classes).class_names) == 3


@pytest.mark.parametrize(
    "folders",
    [
        {"cat": ("persian", "manx"), "dog": ("pug", "husky")},
        {"cat": ("images",), "dog": ("images",)},
        {"cat": ("a", "b"), "dog": ("b", "c")},
        {"cat": ("a", "b", "c", "d", "e"), "dog": ("a", "b", "x", "y", "z")},
    ],
)
def test_subfolders_of_their_own_make_no_question(
    folders: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    """Without it classes with subfolders could not be used without a word."""
    for seed, (name, within) in enumerate(folders.items()):
        tiny.images(tmp_path / name, within, each=2, seed=seed)
    assert _source(tmp_path).class_names == ("cat", "dog")
    _source(tmp_path).ids()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("names", [("full", "tn"), ("256x256", "64x64"), ("large", "small")])
def test_folders_of_sizes_that_hold_the_classes_are_a_question(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """Without it the classes would be the sizes."""
    large, small = names
    root = _held(tmp_path / "own", large)
    _scaled(root, large, small, 6)
    one, classes = _asked(root, "look like sizes of the same images and not like classes")
    assert one == {"train_splits": [large], "test_splits": []}
    assert _sizes(_source(root, **one)) == (CLASSES, 6, None)
    assert _sizes(_source(root, **classes)) == (tuple(sorted(names)), 12, None)


def test_folders_of_sizes_beside_classes_are_a_question(tmp_path: Path) -> None:
    """Without it `medium/` and `small/` would be two more classes."""
    root = tiny.images(tmp_path / "own", (*CLASSES, "medium", "small"), each=2)
    leave, classes = _asked(root, "medium/ and small/ look like sizes of the same images")
    assert _source(root, **leave).class_names == CLASSES
    assert len(_source(root, **classes).class_names) == 4
    only = tiny.images(tmp_path / "only", ("medium", "small"), each=2)
    (eggs,) = _asked(only, "put the images of one size into class folders")
    assert _source(only, **eggs).class_names == ("medium", "small")


def test_one_class_called_like_a_size_is_a_class_unless_it_holds_copies(tmp_path: Path) -> None:
    """Without it full and empty bins could not be told apart without a word."""
    root = tiny.images(tmp_path / "own", ("empty", "full"), each=3)
    assert _source(root).class_names == ("empty", "full")
    _scaled(root, "full", "original", 40)
    with pytest.raises(DataError, match="full/ and original/ look like sizes"):
        _source(root).ids()
    bins = tiny.images(tmp_path / "bins", ("bin", "lid"), each=3)
    _scaled(bins, "bin", "small", 6)
    with pytest.raises(DataError, match="small/ looks like a size of the same images"):
        _source(bins).ids()


@pytest.mark.parametrize(
    ("name", "side"), [("tn", 6), ("64x64", 6), ("web", 6), ("original", 40), ("for [print]", 40)]
)
def test_a_subfolder_of_another_size_within_a_class_is_a_question(
    name: str, side: int, tmp_path: Path
) -> None:
    """Without it an expert would be evaluated on smaller copies of what it was trained on."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    _scaled(root, "cat", f"cat/{name}", side)
    leave, take = _asked(root, "may be a smaller copy of")
    assert _sizes(_source(root, **leave)) == (CLASSES, 6, None)
    assert len(_source(root, **take).ids()) == 9


def test_subfolders_of_sizes_within_classes_leave_the_largest(tmp_path: Path) -> None:
    """Without it a crawler's `full/` and `thumbs/` would all be images of the class."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    for name in CLASSES:
        (root / name).rename(tmp_path / name)
        (root / name).mkdir()
        (tmp_path / name).rename(root / name / "full")
        _scaled(root / name, "full", "medium", 8)
        _scaled(root / name, "full", "tn", 4)
    leave, take = _asked(root, "may be a smaller copy of cat/full/0.bmp")
    assert leave == {"exclude": ["medium", "tn"]}
    assert _sizes(_source(root, **leave)) == (CLASSES, 6, None)
    assert len(_source(root, **take).ids()) == 18


@pytest.mark.parametrize(("wide", "high"), [(12, 12), (30, 12), (24, 24), (8, 8)])
def test_images_that_are_only_numbered_alike_make_no_question(
    wide: int, high: int, tmp_path: Path
) -> None:
    """Without it every camera that counts from 1 would be asked about."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    for number in range(3):
        (root / "cat" / "second").mkdir(exist_ok=True)
        image = Image.new("RGB", (wide, high), (number, 9, 9))
        image.save(root / "cat" / "second" / f"{number}.bmp")
    assert len(_source(root).ids()) == 9


@pytest.mark.parametrize("folder", ["second", "64x64"])
def test_frames_of_two_clips_are_no_copies_of_one_another(folder: str, tmp_path: Path) -> None:
    """Without it two clips of one class, numbered alike and of two sizes, would lose one."""
    root = tiny.images(tmp_path / "own", ("dog", "fox"), each=3)
    for clip, (side, level) in {"first": (32, 60), folder: (16, 200)}.items():
        (root / "dog" / clip).mkdir()
        for frame in range(4):
            image = Image.new("RGB", (side, side), (level + frame, 9, 9))
            image.save(root / "dog" / clip / f"{frame}.png")
    if folder == "second":
        assert len(_source(root).ids()) == 14
    else:  # its name says a size
        _asked(root, "may be a smaller copy of")
