"""Small data sets in the formats of the real ones, as torchvision finds them on a disk.

The colour of an image tells its class, so that a test can compare labels with what is seen. Every
class has `TRAIN` images in each training part and `TEST` in the test part.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from neulig_fl.data.sources._torchvision_sets import SETS

TRAIN, TEST = 4, 2
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012")
SCENES = ("/a/abbey", "/a/apartment_building/outdoor", "/y/youth_hostel")
SCENE_NAMES = ("abbey", "apartment building outdoor", "youth hostel")
FILES_OF = {
    "MNIST": "MNIST/raw/train-labels-idx1-ubyte",
    "FashionMNIST": "FashionMNIST/raw/train-labels-idx1-ubyte",
    "KMNIST": "KMNIST/raw/train-labels-idx1-ubyte",
    "EMNIST": "EMNIST/raw/emnist-digits-train-labels-idx1-ubyte",
    "CIFAR10": "cifar-10-batches-py/data_batch_1",
    "CIFAR100": "cifar-100-python/train",
    "GTSRB": "gtsrb/GT-final_test.csv",
    "SVHN": "train_32x32.mat",
    "STL10": "stl10_binary/train_y.bin",
    "EuroSAT": "eurosat/2750/River",
    "DTD": "dtd/dtd/images/banded",
    "SUN397": "SUN397/ClassName.txt",
    "StanfordCars": "stanford_cars/devkit/cars_train_annos.mat",
}
"""A file or folder of each set without which it is not whole."""


def colour(label: int) -> tuple[int, int, int]:
    """The colour of a class: its red and green are the class."""
    return 16 * (label % 16) + 4, 16 * (label // 16) + 4, 100


def seen(image: np.ndarray) -> int:
    """The class that a colour image (3, height, width) shows."""
    red, green, _ = image.mean(axis=(1, 2))
    return round((red - 4) / 16) + 16 * round((green - 4) / 16)


def grey(label: int) -> int:
    """The brightness of a class."""
    return 9 * label + 8


def seen_grey(image: np.ndarray) -> int:
    """The class that a grey image (3, height, width) shows."""
    assert (image == image[:1]).all()
    return round((float(image.mean()) - 8) / 9)


def labels_of(classes: int, each: int, first: int = 0) -> np.ndarray:
    """Labels of all classes in turns."""
    return np.tile(np.arange(first, first + classes), each)


def images(labels: np.ndarray, side: int, seed: int) -> np.ndarray:
    """Colour images (n, side, side, 3), no two alike."""
    rng = np.random.default_rng(seed)
    ground = np.array([colour(int(label)) for label in labels])[:, None, None, :]
    return (
        (ground + rng.integers(-3, 4, (len(labels), side, side, 3))).clip(0, 255).astype(np.uint8)
    )


def _grey_images(labels: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ground = np.array([grey(int(label)) for label in labels])[:, None, None]
    return (ground + rng.integers(-2, 3, (len(labels), 28, 28))).clip(0, 255).astype(np.uint8)


def idx(path: Path, values: np.ndarray) -> None:
    """An IDX file of bytes: magic number with the count of sides, the sides, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = np.array([0x0800 + values.ndim, *values.shape], dtype=">i4")
    path.write_bytes(head.tobytes() + values.astype(np.uint8).tobytes())


def idx_set(
    folder: Path, prefixes: Sequence[str], classes: int, train: int = TRAIN, test: int = TEST,
    first: int = 0,
) -> None:  # fmt: skip
    """The four files of MNIST."""
    for seed, (prefix, each) in enumerate(zip(prefixes, (train, test), strict=True)):
        labels = labels_of(classes, each)
        idx(folder / f"{prefix}-images-idx3-ubyte", _grey_images(labels, seed))
        idx(folder / f"{prefix}-labels-idx1-ubyte", labels + first)


def _mnist(name: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    return lambda root, _: idx_set(root / name / "raw", ("train", "t10k"), 10)


def _emnist(root: Path, _: pytest.MonkeyPatch) -> None:
    names = [f"emnist-{{}}-{part}" for part in ("train", "test")]
    idx_set(root / "EMNIST/raw", [name.format("digits") for name in names], 10)
    idx_set(root / "EMNIST/raw", [name.format("letters") for name in names], 26, first=1)


def md5(path: Path) -> str:
    """The MD5 sum of a file."""
    return hashlib.md5(path.read_bytes()).hexdigest()


def _summed(entries: Any, folder: Path) -> Any:
    """Torchvision's lists of [file, MD5] for the files that were made.

    The sums are what makes the published files the published files; all else is torchvision's.
    """
    return [[name, md5(folder / name)] for name, _ in entries]


def _cifar(
    opener: Any, key: str, names_key: str, names: Sequence[str]
) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = root / opener.base_folder
        folder.mkdir(parents=True)
        for held_out, files in enumerate((opener.train_list, opener.test_list)):
            labels = labels_of(len(names), TEST if held_out else TRAIN)
            found = images(labels, 32, held_out).transpose(0, 3, 1, 2).reshape(len(labels), -1)
            pieces = np.array_split(np.arange(len(labels)), len(files))
            for (file, _), piece in zip(files, pieces, strict=True):
                batch = {"data": found[piece], key: labels[piece].tolist()}
                (folder / file).write_bytes(pickle.dumps(batch))
        meta = folder / opener.meta["filename"]
        meta.write_bytes(pickle.dumps({names_key: list(names)}))
        for attribute in ("train_list", "test_list"):
            made = _summed(getattr(opener, attribute), folder)
            monkeypatch.setattr(opener, attribute, made)
        monkeypatch.setattr(opener, "meta", {**opener.meta, "md5": md5(meta)})

    return write


def _gtsrb(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "gtsrb"
    labels = labels_of(43, TRAIN)
    for i, image in enumerate(images(labels, 15, 0)):
        folder = base / "GTSRB/Training" / f"{labels[i]:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"00000_{i:05d}.ppm")
    tested = base / "GTSRB/Final_Test/Images"
    tested.mkdir(parents=True)
    labels = labels_of(43, TEST)
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for i, image in enumerate(images(labels, 15, 1)):
        Image.fromarray(image).save(tested / f"{i:05d}.ppm")
        lines.append(f"{i:05d}.ppm;15;15;0;0;15;15;{labels[i]}")
    (base / "GT-final_test.csv").write_text("\n".join(lines) + "\n")


def _svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(parents=True, exist_ok=True)
    known = dict(datasets.SVHN.split_list)
    for seed, (part, each) in enumerate((("train", TRAIN), ("test", TEST))):
        labels = labels_of(10, each)
        file = root / f"{part}_32x32.mat"
        shown = images(labels, 32, seed).transpose(1, 2, 3, 0)
        savemat(file, {"X": shown, "y": np.where(labels == 0, 10, labels)[:, None]})
        known[part] = [known[part][0], file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)


def _stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for seed, (part, each) in enumerate((("train", TRAIN), ("test", TEST), ("unlabeled", 1))):
        labels = labels_of(10, each)
        shown = images(labels, 96, seed).transpose(0, 3, 2, 1)
        (folder / f"{part}_X.bin").write_bytes(shown.tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (folder / "class_names.txt").write_text("\n".join(names) + "\n")
    for attribute in ("train_list", "test_list"):
        made = _summed(getattr(datasets.STL10, attribute), folder)
        monkeypatch.setattr(datasets.STL10, attribute, made)


def _jpeg(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def _eurosat(root: Path, _: pytest.MonkeyPatch) -> None:
    names = (
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
        "PermanentCrop", "Residential", "River", "SeaLake",
    )  # fmt: skip
    labels = labels_of(10, TRAIN)
    for i, image in enumerate(images(labels, 64, 0)):
        name = names[labels[i]]
        _jpeg(image, root / "eurosat/2750" / name / f"{name}_{i}.jpg")


def _dtd(root: Path, _: pytest.MonkeyPatch) -> None:
    names, base = ("banded", "polka-dotted", "zigzagged"), root / "dtd/dtd"
    (base / "labels").mkdir(parents=True)
    for seed, (part, each) in enumerate((("train", TRAIN), ("val", TRAIN), ("test", TEST))):
        labels, lines = labels_of(3, each), []
        for i, image in enumerate(images(labels, 40, seed)):
            lines.append(f"{names[labels[i]]}/{names[labels[i]]}_{seed}{i:03d}.jpg")
            _jpeg(image, base / "images" / lines[-1])
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")


def _sun397(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "SUN397"
    labels = labels_of(3, TRAIN)
    for i, image in enumerate(images(labels, 40, 0)):
        _jpeg(image, base / SCENES[labels[i]].strip("/") / f"sun_{i:04d}.jpg")
    (base / "ClassName.txt").write_text("\n".join(SCENES) + "\n")


def _cars(root: Path, _: pytest.MonkeyPatch) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    places = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for seed, (part, each) in enumerate((("train", TRAIN), ("test", TEST))):
        labels = labels_of(3, each)
        kind = [("fname", object), ("class", object)]
        notes = np.zeros(len(labels), dtype=kind)
        for i, image in enumerate(images(labels, 40, seed)):
            notes[i] = (f"{i:05d}.jpg", np.uint8(labels[i] + 1))
            _jpeg(image, base / f"cars_{part}" / f"{i:05d}.jpg")
        savemat(base / places[part], {"annotations": notes})
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(CARS, dtype=object)})


_THINGS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_HUNDRED = ["aquarium_fish", *(f"thing_{i}" for i in range(99))]
WRITE: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "MNIST": _mnist("MNIST"),
    "FashionMNIST": _mnist("FashionMNIST"),
    "KMNIST": _mnist("KMNIST"),
    "EMNIST": _emnist,
    "CIFAR10": _cifar(datasets.CIFAR10, "labels", "label_names", _THINGS),
    "CIFAR100": _cifar(datasets.CIFAR100, "fine_labels", "fine_label_names", _HUNDRED),
    "GTSRB": _gtsrb,
    "SVHN": _svhn,
    "STL10": _stl10,
    "EuroSAT": _eurosat,
    "DTD": _dtd,
    "SUN397": _sun397,
    "StanfordCars": _cars,
}
NAMES: dict[str, tuple[str, ...]] = {
    **{name: known.names for name, known in SETS.items() if known.names is not None},
    "CIFAR10": tuple(_THINGS),
    "CIFAR100": ("aquarium fish", *(f"thing {i}" for i in range(99))),
    "STL10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    "DTD": ("banded", "polka-dotted", "zigzagged"),
    "SUN397": SCENE_NAMES,
    "StanfordCars": CARS,
}
"""The class names that a reader should get of each made set."""


def without_the_extra(patch: pytest.MonkeyPatch) -> None:
    """Have flwr-datasets not found, as where the extra `huggingface` is not installed."""
    found = importlib.util.find_spec
    missing = "flwr_datasets"
    patch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == missing else found(n, *a))


def saved(datasets: Any, root: Path, train: int = 40, test: int = 12) -> Any:
    """A data set of three classes as the library `datasets` saves it; made once.

    Args:
        datasets: the library.
        root: where it is saved.
        train: images of a class in its split `train`.
        test: the same in `test`.
    """
    if root.is_dir():
        return datasets.load_from_disk(str(root))
    kinds = {"img": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "big_dog", "emu"])}
    splits = {}
    for seed, (name, each) in enumerate((("train", train), ("test", test))):
        labels = labels_of(3, each)
        shown = [Image.fromarray(image) for image in images(labels, 12, seed)]
        columns = {"img": shown, "kind": labels.tolist()}
        splits[name] = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    found = datasets.DatasetDict(splits)
    found.save_to_disk(str(root))
    return found


def packed(folder: Path, into: Path) -> None:
    """The IDX files of a folder as the flat `.gz` files in which they are published."""
    into.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        (into / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
