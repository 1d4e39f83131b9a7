"""Hugging Face data sets, as the real library saves and loads them; skipped without the extra."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import made_sets
import numpy as np
import pytest
from PIL import Image

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.data import images
from neulig_fl.data.sources import Task, huggingface


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The library `datasets`, with a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("hugging")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        yield datasets


@pytest.fixture(scope="module")
def saved(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 6 training and 2 test images each, as `save_to_disk` writes them."""
    root = tmp_path_factory.mktemp("made") / "saved"
    made_sets.saved(library, root, train=6, test=2)
    return root


@pytest.fixture(scope="module")
def parquet(library: Any, saved: Path) -> Path:
    """The same in the layout of the Hub."""
    root = saved.with_name("parquet")
    root.mkdir()
    for name, split in library.load_from_disk(str(saved)).items():
        split.to_parquet(str(root / f"{name}-00000-of-00001.parquet"))
    return root


def _source(root: Path, **options: Any) -> huggingface.HuggingFaceSet:
    return huggingface.source(TaskOptions(source="huggingface", root=str(root), **options))


def _seen(source: huggingface.HuggingFaceSet) -> list[int]:
    return [made_sets.seen(p) for p in source.pixels(np.arange(len(source.ids())), 12)]


def test_a_saved_data_set_is_a_task(saved: Path) -> None:
    """Without it columns, labels or the test split would not be those of the data set."""
    source = _source(saved)
    assert source.class_names == ("cat", "big dog", "emu")
    assert _seen(source) == source.labels().tolist()
    held_out = source.held_out()
    assert held_out is not None
    assert np.flatnonzero(held_out).tolist() == list(range(18, 24))
    assert sorted(Task("t", source, 0).indices("evaluation").tolist()) == list(range(18, 24))
    first = Image.fromarray(source.pixels(np.array([0]), 12)[0].transpose(1, 2, 0))
    assert source.ids()[0] == images.content_id(first)


def test_the_hubs_layout_goes_through_flwr_datasets(parquet: Path, saved: Path) -> None:
    """Without it the same data would be another task when they lie in other files."""
    assert _source(parquet).ids() == _source(saved).ids()


def test_one_split_is_divided_by_hash(saved: Path) -> None:
    """Without it a data set without a test split could not be evaluated on."""
    source = _source(saved / "train")
    assert source.held_out() is None
    assert len(source.ids()) == 18
    assert _source(saved, train_splits=["test"]).held_out() is None
    everything = _source(saved, train_splits=["train", "test"], test_splits=[])
    assert everything.held_out() is None
    assert len(everything.ids()) == 24


def test_splits_and_columns_can_be_named(saved: Path) -> None:
    """Without it a data set with other names could not be used."""
    source = _source(
        saved, train_splits=["test"], test_splits=["train"], image="img", label="kind", per_class=5
    )
    held_out = source.held_out()
    assert held_out is not None
    assert np.bincount(source.labels()[held_out]).tolist() == [1] * 3
    assert np.bincount(source.labels()[~held_out]).tolist() == [2] * 3
    mine = _source(saved, classes={"emu": "bird/emu", "cat": "cat", "big_dog": "hound"})
    assert mine.class_names == ("bird/emu", "cat", "hound")
    assert mine.labels().tolist() == [(1, 2, 0)[label] for label in _seen(mine)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"train_splits": ["trian"]},
            r"no split 'trian'; allowed: train, test; did you mean train",
        ),
        ({"test_splits": ["val"]}, "no split 'val'"),
        ({"image": "kind"}, "column 'kind' holds no images; images: img"),
        ({"label": "class"}, "set `label` to its column; no column 'class'; allowed: img, kind"),
        ({"label": "img"}, "column 'img': is no class"),
        ({"subset": "plain"}, "has no subsets; leave `subset` out"),
        ({"classes": {"cat": "a", "dog": "b"}}, "classes: no such class"),
    ],
)
def test_names_that_are_not_there_are_an_error(
    options: dict[str, Any], message: str, saved: Path
) -> None:
    """Without it the user would get a KeyError of the library, or other data than named."""
    with pytest.raises(DataError, match=f"^huggingface {saved}: .*{message}") as caught:
        _source(saved, **options).ids()
    assert caught.value.public_reason
    assert str(saved) not in caught.value.public_reason


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 10, 3, 10], ("3", "10")),
        (["b", "a_x", "b", "a_x"], ("a x", "b")),
    ],
)
def test_labels_without_names_are_their_own(
    values: list[Any], names: tuple[str, ...], library: Any, tmp_path: Path
) -> None:
    """Without it a column of texts or numbers would need a conversion first."""
    shown = [Image.fromarray(p) for p in made_sets.images(np.arange(4), 8, 0)]
    made = library.Dataset.from_dict({"image": shown, "label": values})
    made = made.cast_column("image", library.Image())
    made.save_to_disk(str(tmp_path / "own"))
    source = _source(tmp_path / "own")
    assert source.class_names == names
    assert source.labels().tolist() == ([0, 1, 0, 1] if values[0] == 3 else [1, 0, 1, 0])


def test_images_without_a_label_are_found(library: Any, tmp_path: Path) -> None:
    """Without it the hidden labels of a contest's test split, -1, would be the last class."""
    kinds = {"image": library.Image(), "label": library.ClassLabel(names=["a", "b"])}
    shown = [Image.fromarray(p) for p in made_sets.images(np.arange(4), 8, 0)]
    splits = {
        name: library.Dataset.from_dict(
            {"image": shown, "label": labels}, features=library.Features(kinds)
        )
        for name, labels in (
            ("train", [0, 1, 0, 1]),
            ("test", [-1] * 4),
            ("validation", [0, 0, 1, 1]),
        )
    }
    library.DatasetDict(splits).save_to_disk(str(tmp_path / "own"))
    with pytest.raises(DataError, match=r"split 'test' has an image without a class \(got -1\)"):
        _source(tmp_path / "own").ids()
    source = _source(tmp_path / "own", test_splits=["validation"])
    assert len(source.labels()) == 4, "the four training images are in validation as well"


def _rows(library: Any, labels: list[Any], kind: Any, seed: int = 0, image: Any = None) -> Any:
    """A split whose images show classes 0, 1, 0, 1, whatever their labels say."""
    shown = [Image.fromarray(p) for p in made_sets.images(np.array([0, 1, 0, 1]), 8, seed)]
    columns = library.Features({"image": library.Image(), "label": kind})
    made = library.Dataset.from_dict({"image": shown, "label": labels}, features=columns)
    return made if image is None else made.cast_column("image", image)


def _names(library: Any, *names: str) -> Any:
    return library.ClassLabel(names=list(names))


def _save(library: Any, root: Path, **splits: Any) -> Path:
    library.DatasetDict(splits).save_to_disk(str(root))
    return root


def test_classes_are_matched_by_name_when_a_part_numbers_them_otherwise(
    library: Any, tmp_path: Path
) -> None:
    """Without it every evaluated image would have another class than it shows."""
    root = _save(
        library,
        tmp_path / "own",
        train=_rows(library, [0, 1, 0, 1], _names(library, "cat", "dog")),
        test=_rows(library, [1, 0, 1, 0], _names(library, "dog", "cat"), seed=1),
        more=_rows(library, ["cat", "dog"] * 2, library.Value("string"), seed=2),
    )
    source = _source(root, test_splits=["test", "more"])
    assert source.class_names == ("cat", "dog")
    assert source.labels().tolist() == _seen(source) == [0, 1] * 6
    assert "split 'test' numbers its classes otherwise; matched by name" in source.remarks()
    assert "evaluated on split 'test', 'more'" in source.remarks()


@pytest.mark.parametrize("text", [False, True])
def test_a_class_that_only_the_test_part_has_is_an_error(
    text: bool, library: Any, tmp_path: Path
) -> None:
    """Without it its images would count as another class, or as wrong whatever is answered."""
    kinds = [library.Value("string")] * 2 if text else [_names(library, "cat", "dog"),
                                                        _names(library, "cat", "Dog")]  # fmt: skip
    labels = [["cat", "dog"] * 2, ["cat", "Dog"] * 2] if text else [[0, 1] * 2] * 2
    root = _save(
        library,
        tmp_path / "own",
        train=_rows(library, labels[0], kinds[0]),
        test=_rows(library, labels[1], kinds[1], seed=1),
    )
    words = "split 'test' has images of class 'Dog', which no training split has; .*mean dog"
    with pytest.raises(DataError, match=words):
        _source(root).ids()


def test_numbers_and_names_cannot_be_matched(library: Any, tmp_path: Path) -> None:
    """Without it the library's order would be guessed, or sorting would end in a TypeError."""
    root = _save(
        library,
        tmp_path / "own",
        train=_rows(library, [0, 1, 0, 1], _names(library, "cat", "dog")),
        test=_rows(library, [0, 1, 0, 1], library.Value("int64"), seed=1),
    )
    with pytest.raises(
        DataError, match="as names and split 'test' as int64, so that they cannot be matched"
    ):
        _source(root).ids()


def test_a_split_that_looks_like_a_test_part_is_a_question(library: Any, tmp_path: Path) -> None:
    """Without it the publisher's test part would be left out without a word."""
    kind = _names(library, "cat", "dog")
    root = _save(
        library,
        tmp_path / "own",
        train=_rows(library, [0, 1] * 2, kind),
        Testing=_rows(library, [0, 1] * 2, kind, seed=1),
    )
    with pytest.raises(DataError, match=r"'Testing' looks like one; write `test_splits: \[Testing"):
        _source(root).ids()
    assert _source(root, test_splits=["Testing"]).held_out() is not None
    source = _source(root, test_splits=[])
    assert source.left_out() == ["4 in split 'Testing'"]


@pytest.mark.parametrize("how", ["undecoded", "bytes and path", "binary"])
def test_images_that_were_saved_undecoded_are_read(how: str, library: Any, tmp_path: Path) -> None:
    """Without it a column of images would end in the name of a class of Python's."""
    split = _rows(library, [0, 1] * 2, _names(library, "cat", "dog"))
    plain = split.cast_column("image", library.Image(decode=False))
    if how != "undecoded":
        whole = how == "bytes and path"
        stored = [row["image"] if whole else row["image"]["bytes"] for row in plain]
        kinds = {"label": plain.features["label"]}
        kinds["image"] = (
            {"bytes": library.Value("binary"), "path": library.Value("string")}
            if whole
            else library.Value("binary")
        )
        columns = {"image": stored, "label": plain["label"]}
        plain = library.Dataset.from_dict(columns, features=library.Features(kinds))
    root = _save(library, tmp_path / "own", train=plain)
    source = _source(root, image="image")
    assert _seen(source) == source.labels().tolist() == [0, 1, 0, 1]
    assert len(set(source.ids())) == 4


def test_paths_in_place_of_images_and_missing_images_are_named(
    library: Any, tmp_path: Path
) -> None:
    """Without it the reason would stand in no error."""
    texts = library.Dataset.from_dict({"image": ["a.png", "b.png"], "label": ["a", "b"]})
    texts.save_to_disk(str(tmp_path / "texts"))
    with pytest.raises(DataError, match=r"it holds texts: if they are paths .*cast_column"):
        _source(tmp_path / "texts").ids()
    kinds = library.Features({"image": library.Image(), "label": library.Value("string")})
    gaps = library.Dataset.from_dict({"image": [None] * 2, "label": ["a", "b"]}, features=kinds)
    gaps.save_to_disk(str(tmp_path / "gaps"))
    with pytest.raises(
        DataError, match=r"image 0 of split 'train' .*there is no image in this row"
    ):
        _source(tmp_path / "gaps").ids()


def test_columns_are_told(saved: Path) -> None:
    """Without it a user would not see which of several columns is read."""
    assert _source(saved).remarks() == ["columns 'img' and 'kind'", "evaluated on split 'test'"]


def test_a_damaged_image_is_named(library: Any, tmp_path: Path) -> None:
    """Without it the library's error would not say which image it was."""
    shown = [{"bytes": b"no image", "path": None}, {"bytes": b"neither", "path": None}]
    made = library.Dataset.from_dict({"image": shown, "label": ["a", "b"]})
    made.cast_column("image", library.Image()).save_to_disk(str(tmp_path / "own"))
    with pytest.raises(DataError, match="2 images cannot be read: image 0 of split 'train'"):
        _source(tmp_path / "own").ids()


def test_a_folder_that_is_no_data_set_is_an_error(library: Any, tmp_path: Path) -> None:
    """Without it a wrong `root` would end in the library's traceback."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be opened"):
        _source(tmp_path / "empty").ids()


def test_ids_are_kept(saved: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it every process would decode the whole data set."""
    first = _source(saved).ids()
    monkeypatch.setattr(images, "rgb", None)
    assert _source(saved).ids() == first
    with pytest.raises(DataError, match="cannot be read"):
        _source(saved, per_class=3).ids()


# ---------------------------------------------------------------- the network


@pytest.fixture
def fetched(library: Any, parquet: Path) -> str:
    """A name of the Hub whose data lie in the library's cache, as after a download."""
    _source(parquet).ids()
    cache = Path(library.config.HF_DATASETS_CACHE)
    if not (cache / "someone___pets").exists():
        shutil.copytree(cache / "parquet", cache / "someone___pets")
        for file in (cache / "someone___pets").rglob("parquet-*.arrow"):
            file.rename(file.with_name(file.name.replace("parquet-", "pets-")))
    return "someone/pets"


def _hub(name: str, **options: Any) -> huggingface.HuggingFaceSet:
    return huggingface.source(TaskOptions(source="huggingface", dataset=name, **options))


def test_what_was_fetched_before_needs_no_network(fetched: str, saved: Path) -> None:
    """Without it a node without a network could not use a data set of the Hub."""
    assert _hub(fetched).ids() == _source(saved).ids()


def test_nothing_is_asked_of_the_network_without_download(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it checking a scenario would download gigabytes, or tell the Hub what is studied."""
    import socket

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    before = library.config.HF_HUB_OFFLINE
    with pytest.raises(DataError, match=r"^huggingface nobody/nothing: .*`download: true`"):
        _hub("nobody/nothing").ids()
    assert before == library.config.HF_HUB_OFFLINE


def test_flowers_telemetry_is_told_nothing(
    saved: Path, parquet: Path, fetched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the path or name of the data would go to a third party."""
    from flwr_datasets import federated_dataset

    monkeypatch.delattr(federated_dataset, "event")
    for source in (_source(saved), _source(parquet), _hub(fetched)):
        assert len(source.ids()) == 24


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "dataset: is missing; give a name of the Hugging Face Hub, or root"),
        ({"dataset": "x/y", "root": "/z"}, "root: given beside dataset; keep one"),
        ({"root": "/z", "download": True}, "download: a data set on this machine is not fetched"),
        (
            {"dataset": "x/y", "train_splits": ["a", "b"], "test_splits": ["b"]},
            "test_splits: 'b' is in train_splits as well",
        ),
    ],
)
def test_options_that_cannot_be_are_found_before_anything_is_loaded(
    options: dict[str, Any], message: str
) -> None:
    """Without it they would be found when the run has begun, or never."""
    with pytest.raises(DataError, match=f"^source huggingface: {message}"):
        huggingface.source(TaskOptions(source="huggingface", **options))


def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it the user would get an ImportError from inside."""
    made_sets.without_the_extra(monkeypatch)
    with pytest.raises(DataError, match=r"source: .*pip install 'neulig-fl\[huggingface\]'"):
        huggingface.source(TaskOptions(source="huggingface", dataset="x/y"))
