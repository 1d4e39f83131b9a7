"""Where the classes of an image folder lie, and what is asked when that is not clear."""

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


def _source(root: Path, **options: Any) -> imagefolder.ImageFolder:
    return imagefolder.source(TaskOptions(source="imagefolder", root=str(root), **options))


def _parts(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        tiny.images(root / name, CLASSES, each=3 + seed, seed=seed)
    return root


def _answer(message: str, number: int = 0) -> dict[str, Any]:
    """The YAML that an error proposes: its quoted pieces, the first one or the last."""
    pieces = message.split("`")[1::2]
    chosen = pieces[:2] if number == 0 else pieces[2:]
    return yaml.safe_load("\n".join(chosen))  # type: ignore[no-any-return]


# ---------------------------------------------------------------- parts of a split


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (("train", "val"), ["train"], ["val"]),
        (("Training", "Testing"), ["Training"], ["Testing"]),
        (("Train", "Test"), ["Train"], ["Test"]),
        (("train", "valid"), ["train"], ["valid"]),
        (("TRAIN", "Valid", "tEst"), ["TRAIN", "Valid"], ["tEst"]),
        (("train_set", "test_set"), ["train_set"], ["test_set"]),
        (("train2017", "val2017"), ["train2017"], ["val2017"]),
        (("dev", "eval"), ["dev"], ["eval"]),
        (("fold1", "fold2", "fold3"), ["fold1", "fold2"], ["fold3"]),
    ],
)
def test_what_looks_like_a_split_is_a_question_and_the_proposed_answer_works(
    names: tuple[str, ...], train: list[str], test: list[str], tmp_path: Path
) -> None:
    """Without it the classes would silently be "train" and "val"."""
    root = _parts(tmp_path / "own", *names)
    with pytest.raises(DataError, match="look like the parts of a split") as caught:
        _source(root).ids()
    assert caught.value.public_reason == "it is not clear what the folders of its image folder are"
    answer = _answer(str(caught.value))
    assert answer == {"train_splits": train, "test_splits": test}
    source = _source(root, **answer)
    assert source.class_names == CLASSES
    held_out = source.held_out()
    assert held_out is not None
    sizes = {name: 2 * (3 + seed) for seed, name in enumerate(names)}
    assert int(held_out.sum()) == sum(sizes[name] for name in test)
    assert len(held_out) == sum(sizes.values())
    assert f"evaluated on {test[0]}/" in source.remarks()


def test_the_other_proposed_answer_makes_them_classes(tmp_path: Path) -> None:
    """Without it nobody could have classes of these names."""
    root = _parts(tmp_path / "own", "train", "no val")
    with pytest.raises(DataError, match="train/ looks like a part of a split") as caught:
        _source(root).ids()
    answer = _answer(str(caught.value), 1)
    assert answer == {"classes": {"no val": "no val", "train": "train"}}
    assert _source(root, **answer).labels().tolist() == [0] * 8 + [1] * 6


def test_one_class_that_is_called_like_a_part_is_a_class(tmp_path: Path) -> None:
    """Without it nobody could tell trains from cars without a word in the scenario."""
    assert _source(tiny.images(tmp_path / "own", ("car", "train"), 2)).class_names == (
        "car",
        "train",
    )


def test_parts_within_every_class_are_a_question(tmp_path: Path) -> None:
    """Without it a publisher's test images would be trained on."""
    root = tmp_path / "own"
    for seed, name in enumerate(CLASSES):
        tiny.images(root / name, ("train", "test"), each=4, seed=seed)
    Image.new("RGB", (4, 4)).save(root / "cat" / "loose.png")
    with pytest.raises(DataError, match="class folder cat/ holds test/ and train/") as caught:
        _source(root).ids()
    source = _source(root, **_answer(str(caught.value)))
    held_out = source.held_out()
    assert held_out is not None
    assert (int(held_out.sum()), len(held_out)) == (8, 16)
    assert source.left_out() == [
        "1 in no part that `train_splits` and `test_splits` name (cat/loose.png)"
    ]
    together = _source(root, **_answer(str(caught.value), 1))
    assert together.held_out() is None
    assert len(together.ids()) == 16


def test_parts_that_are_not_named_are_left_out_with_a_word(tmp_path: Path) -> None:
    """Without it a user would not know that a third of the data is not used."""
    root = _parts(tmp_path / "own", "train", "test", "extra")
    with pytest.raises(DataError, match="extra/ lies beside train/ and test/; say which folders"):
        _source(root).ids()
    source = _source(root, train_splits=["train"])
    assert len(source.ids()) == 14, "test/ is the test part, as it is for the other sources"
    assert source.left_out() == ["10 in no part that `train_splits` and `test_splits` name (extra)"]
    assert len(_source(root, exclude=["extra"]).ids()) == 14


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_splits": ["trian"]}, "no part 'trian'; allowed: .*did you mean train"),
        ({"test_splits": ["val"]}, "no part 'val'"),
    ],
)
def test_a_part_that_is_not_there_is_an_error(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Without it a typing error would leave a part of the data out."""
    with pytest.raises(DataError, match=message):
        _source(_parts(tmp_path / "own", "train", "test"), **options).ids()


def test_a_part_both_trained_and_evaluated_on_is_found_before_images_are_read() -> None:
    """Without it accuracy would be measured on what was trained on."""
    options = TaskOptions(source="imagefolder", root="/x", train_splits=["a"], test_splits=["a"])
    ((keys, words),) = imagefolder.faults(options)
    assert keys == ("test_splits",)
    assert words == "'a' is in train_splits as well; keep it in one of them"


def test_classes_that_differ_in_case_between_parts_are_named(tmp_path: Path) -> None:
    """Without it a user would look for a missing folder that is there in another spelling."""
    root = tmp_path / "own"
    tiny.images(root / "train", ("Cat", "dog"), each=2)
    tiny.images(root / "test", ("cat", "dog"), each=2, seed=1)
    words = r"differ in the class folder 'Cat' \(Cat and cat differ in case alone\)"
    with pytest.raises(DataError, match=words):
        _source(root).ids()


# ---------------------------------------------------------------- classes


def test_two_spellings_of_one_class_are_a_question(tmp_path: Path) -> None:
    """Without it a copy of a folder would be a class of its own."""
    root = tiny.images(tmp_path / "own", ("Cat", "cat ", "dog"), each=2)
    with pytest.raises(DataError, match="Cat/ and cat / look like one class in two spellings"):
        _source(root).ids()
    mine = {"Cat": "lion", "cat ": "cat", "dog": "dog"}
    assert _source(root, classes=mine).class_names == ("lion", "cat", "dog")


def test_a_folder_too_high_is_told(tmp_path: Path) -> None:
    """Without it a user would not see that the classes lie one folder below."""
    tiny.images(tmp_path / "own" / "images", CLASSES, each=2)
    words = r"1 class folder\(s\); .*if the classes lie in images/, set root to that folder"
    with pytest.raises(DataError, match=words):
        _source(tmp_path / "own").ids()


def test_images_beside_the_class_folders_are_counted(tmp_path: Path) -> None:
    """Without it images that were never sorted would be missing without a word."""
    root = tiny.images(tmp_path / "own", CLASSES, each=2)
    for name in ("1.png", "2.png"):
        Image.new("RGB", (4, 4)).save(root / name)
    (root / "@eaDir").mkdir()
    (root / "labels.csv").touch()
    source = _source(root)
    assert source.class_names == CLASSES
    assert source.left_out() == ["2 in no class folder (1.png)"]


def test_a_class_without_a_readable_image_says_what_it_holds(tmp_path: Path) -> None:
    """Without it a folder of a telephone's images would be called empty."""
    root = tiny.images(tmp_path / "own", CLASSES, each=2)
    (root / "emu").mkdir()
    (root / "emu" / "IMG_1.HEIC").touch()
    words = r"class folder 'emu' holds no image .*left out: 1 of a format that is not read.*IMG_1"
    with pytest.raises(DataError, match=words):
        _source(root).ids()


def test_a_class_folder_on_a_disk_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Without it a class would be missing from the task."""
    root = tiny.images(tmp_path / "own", CLASSES, each=2)
    (root / "emu").symlink_to("/gone/emu")
    with pytest.raises(DataError, match=r"emu \(a link to nothing\)"):
        _source(root).ids()


def test_copies_and_frames_are_told(tmp_path: Path) -> None:
    """Without it 100 images could be 50, and a film be one image."""
    root = tiny.images(tmp_path / "own", CLASSES, each=2)
    (root / "cat" / "copy.bmp").write_bytes((root / "cat" / "0.bmp").read_bytes())
    frames = [Image.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    frames[0].save(root / "dog" / "film.gif", save_all=True, append_images=frames[1:])
    assert _source(root).remarks() == [
        "read 5 .bmp, 1 .gif",
        "1 of several frames or pages: the first is taken (dog/film.gif)",
        "1 copies of other images, which stay in their split",
    ]
    assert _source(root, per_class=2).left_out() == ["2 beyond per_class: 2"]


def test_one_image_in_two_formats_and_a_pattern_without_effect_are_told(tmp_path: Path) -> None:
    """Without it a user would miss that images stand twice, or that a pattern has a typing error."""
    root = tiny.images(tmp_path / "own", CLASSES, each=2)
    Image.open(root / "cat" / "0.bmp").save(root / "cat" / "0.jpg")
    assert _source(root, exclude=["1.*", "thmbs"]).remarks() == [
        "read 2 .bmp, 1 .jpg",
        "1 with the name of another image in another format (cat/0.jpg)",
        "exclude: 'thmbs' matches nothing",
    ]


def test_training_copies_of_test_images_are_told(tmp_path: Path) -> None:
    """Without it the training part would be smaller than the user thinks."""
    root = _parts(tmp_path / "own", "train", "test")
    (root / "train" / "cat" / "copy.bmp").write_bytes((root / "test/cat/0.bmp").read_bytes())
    source = _source(root)
    assert source.left_out() == ["1 training images that are test images as well"]
    assert len(source.ids()) == 14


# ---------------------------------------------------------------- smaller copies


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("thumbs/0.bmp", "thumbs"),
        ("Thumbnails/0.bmp", "Thumbnails"),
        ("0_thumb.bmp", "*_thumb.*"),
        ("0-150x150.bmp", "*-[0-9]*x[0-9]*.*"),
        ("0.preview.bmp", "*.preview.*"),
        ("0 small.bmp", "* small.*"),
        ("thumb_0.bmp", "thumb_*"),
        ("0_TN.bmp", "*_TN.*"),
        ("web/0_small.bmp", "*_small.*"),
    ],
)
def test_what_looks_like_a_thumbnail_is_a_question(name: str, pattern: str, tmp_path: Path) -> None:
    """Without it an expert would be evaluated on smaller copies of what it was trained on."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    copy = root / "cat" / name
    copy.parent.mkdir(exist_ok=True)
    Image.open(root / "cat" / "0.bmp").resize((6, 6)).save(copy)
    with pytest.raises(DataError, match="may be a smaller copy of") as caught:
        _source(root).ids()
    assert f"cat/{name}" in str(caught.value)
    answer = yaml.safe_load(str(caught.value).split("`")[1])
    assert answer == {"exclude": [pattern]}
    source = _source(root, **answer)
    assert len(source.ids()) == 6
    assert source.left_out()[0].startswith("1 named by `exclude`")
    assert len(_source(root, exclude=[]).ids()) == 7
    with pytest.raises(DataError, match="may be a smaller copy of"):
        _source(root, exclude=["another.*"]).ids()
    assert len(_source(root, exclude=["another.*", f"!{pattern}"]).ids()) == 7


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("0_mask.bmp", "*_mask.*"), ("0-seg.bmp", "*-seg.*"), ("GT_0.bmp", "GT_*")],
)
def test_what_looks_like_a_mask_is_a_question(name: str, pattern: str, tmp_path: Path) -> None:
    """Without it an expert would be trained on outlines as on images."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    Image.new("L", (12, 12), 255).save(root / "cat" / name)
    with pytest.raises(DataError, match=rf"cat/{name} may be the mask of cat/0\.bmp") as caught:
        _source(root).ids()
    assert "as on images" in str(caught.value)
    answer = yaml.safe_load(str(caught.value).split("`")[1])
    assert answer == {"exclude": [pattern]}
    assert len(_source(root, **answer).ids()) == 6
    assert len(_source(root, exclude=[]).ids()) == 7


def test_the_answer_about_thumbnails_is_whole(tmp_path: Path) -> None:
    """Without it the pattern of one class would be taken for the answer about all of them."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    for name in ("cat/0_thumb.bmp", "dog/thumb_1.bmp", "dog/previews/2.bmp"):
        copy = root / name
        copy.parent.mkdir(exist_ok=True)
        Image.open(root / "cat" / "0.bmp").resize((6, 6)).save(copy)
    with pytest.raises(DataError, match=r"and 2 more like it may be a smaller copy") as caught:
        _source(root).ids()
    answer = yaml.safe_load(str(caught.value).split("`")[1])
    assert sorted(answer["exclude"]) == ["*_thumb.*", "previews", "thumb_*"]
    assert len(_source(root, **answer).ids()) == 6


@pytest.mark.parametrize(
    "name", ["9_thumb.bmp", "small_9.bmp", "1-2.bmp", "0_1.bmp", "0 (1).bmp", "0b.bmp", "thumb.bmp"]
)
def test_a_name_alone_makes_no_thumbnail(name: str, tmp_path: Path) -> None:
    """Without it numbered images, or images of thumbs, would be asked about again and again."""
    root = tiny.images(tmp_path / "own", CLASSES, each=3)
    Image.new("RGB", (6, 6), "lime").save(root / "cat" / name)
    assert len(_source(root).ids()) == 7
