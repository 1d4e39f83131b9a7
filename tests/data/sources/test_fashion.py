"""Fashion-MNIST: found where it lies, unpacked once, and the same images as an export of it."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from pathlib import Path
from typing import Any

import made_sets
import numpy as np
import pytest
import tiny
from PIL import Image
from torchvision.datasets import FashionMNIST

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.data.sources import SPLITS, Task, fashion, torchvision
from neulig_fl.study import runs
from neulig_fl.study.checking import load

INSTALLED = pytest.mark.skipif(
    not fashion.DEBIAN.is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed (apt install it)",
)


def _source(**options: Any) -> fashion.Fashion:
    return fashion.source(TaskOptions(source="fashion", **options))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files as Debian has them. Theirs are known by SHA-256, so these sums stand in."""
    raw, flat = tmp_path / "raw", tmp_path / "debian"
    made_sets.idx_set(raw, ("train", "t10k"), 10, train=9, test=4)
    made_sets.packed(raw, flat)
    sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in raw.iterdir()}
    monkeypatch.setattr(fashion, "UNPACKED", sums)
    monkeypatch.setattr(fashion, "DEBIAN", flat)
    return flat


def test_debians_files_are_unpacked_into_the_cache(made: Path, own_cache: Path) -> None:
    """Without it `task: fashion` would want a download that Debian has made."""
    source = _source()
    assert np.bincount(source.labels()).tolist() == [13] * 10
    assert source.class_names == made_sets.NAMES["FashionMNIST"]
    seen = [made_sets.seen_grey(p) for p in source.pixels(np.arange(130), 28)]
    assert seen == source.labels().tolist()
    unpacked = own_cache / "data" / "FashionMNIST" / "raw"
    assert sorted(p.name for p in unpacked.iterdir()) == sorted(fashion.UNPACKED)
    shutil.rmtree(made)
    assert _source().ids() == source.ids(), "they are not needed again"
    own = torchvision.source(TaskOptions(source="torchvision", dataset="FashionMNIST"))
    assert own.ids() == source.ids(), "torchvision finds them as well"


@pytest.mark.parametrize("layout", ["flat", "torchvision's"])
def test_a_folder_of_ones_own_comes_first(
    layout: str, made: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Without it files that lie elsewhere could not be used."""
    mine = tmp_path / "mine"
    if layout == "flat":
        shutil.copytree(made, mine)
    else:
        shutil.copytree(tmp_path / "raw", mine / "FashionMNIST" / "raw")
    shutil.rmtree(made)
    assert len(_source(root=str(mine)).ids()) == 130


def test_nothing_found_is_an_error_with_three_ways_out(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the user would not learn how to get the images."""
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "none")
    with pytest.raises(
        DataError,
        match=r"no files of FashionMNIST in .*apt install dataset-fashion-mnist.*"
        r"root: FOLDER.*download: true",
    ) as caught:
        _source().ids()
    assert caught.value.public_reason == "the files of FashionMNIST are not there"
    with pytest.raises(DataError, match=f"no files of FashionMNIST in {tmp_path / 'mine'};"):
        _source(root=str(tmp_path / "mine")).ids()


@pytest.mark.parametrize("harm", ["cut", "other"])
def test_damaged_files_are_not_unpacked(harm: str, made: Path, own_cache: Path) -> None:
    """Without it half a download, or other images, would be Fashion-MNIST from then on."""
    file = made / "train-images-idx3-ubyte.gz"
    content = file.read_bytes()
    file.write_bytes(content[:90] if harm == "cut" else gzip.compress(b"something else"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz does not hold what was publ"):
        _source().ids()
    assert not (own_cache / "data/FashionMNIST/raw/train-images-idx3-ubyte").exists()


def test_download_is_for_files_that_are_nowhere(
    made: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `download: true` would do nothing, or fetch what is there."""
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    assert len(_source(download=True).ids()) == 130
    shutil.rmtree(own_cache)
    shutil.rmtree(made)
    with pytest.raises(DataError, match=r"FashionMNIST cannot be opened .*if the download failed"):
        _source(download=True).ids()


def test_it_is_a_task_without_an_entry_and_takes_options_under_its_name(
    made: Path, own_cache: Path, data: Path, tmp_path: Path
) -> None:
    """Without it `task: fashion` would need an entry, or could not be given a folder."""
    clients = [{"name": "ada", "task": "fashion"}, {"name": "bob", "task": "second"}]
    tasks = tiny.said(data)["tasks"]
    assert load(tiny.write(tmp_path / "a", data, clients=clients)).clients[0].task == "fashion"
    tasks["fashion"] = {"source": "fashion", "root": str(made), "per_class": 5}
    read = load(tiny.write(tmp_path / "b", data, clients=clients, tasks=tasks))
    assert len(fashion.source(read.tasks["fashion"]).ids()) == 50


# ---------------------------------------------------------------- the real images


@pytest.fixture(scope="module")
def real_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's files, unpacked once for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEULIG_CACHE", str(tmp_path_factory.mktemp("real")))
        return _source().root


@INSTALLED
def test_the_real_files_are_the_published_ones(real_root: Path) -> None:
    """Without it the task would be something else than Fashion-MNIST."""
    source = _source(root=str(real_root))
    held_out = source.held_out()
    assert held_out is not None
    assert np.bincount(source.labels()[held_out]).tolist() == [160] * 10
    assert np.bincount(source.labels()[~held_out]).tolist() == [640] * 10
    assert len(set(source.origins())) == 8000
    task = Task("fashion", source, 0)
    assert len(task.indices("evaluation")) == 1600
    for split in SPLITS:
        task.require_classes(split, task.indices(split))
    trousers = source.pixels(np.flatnonzero(source.labels() == 1)[:50], 28).mean(axis=(0, 1))
    assert trousers[:, 10:18].mean() > 2 * trousers[:, [*range(6), *range(22, 28)]].mean()


def _exported(source: torchvision.TorchvisionSet, root: Path) -> dict[str, str]:
    """Write a source's images as `train/` and `test/` of class folders; returns `classes`."""
    held_out = source.held_out()
    assert held_out is not None
    folders = {name.replace("/", "-").lower(): name for name in source.class_names}
    shown = source.pixels(np.arange(len(source.ids())), 28)
    for i, (image, label) in enumerate(zip(shown, source.labels(), strict=True)):
        folder = root / ("test" if held_out[i] else "train") / list(folders)[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"{i:05d}.png")
    return folders


@INSTALLED
@pytest.mark.slow
def test_an_export_as_image_folder_gives_the_same_accuracy(
    real_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a figure would depend on how the same images are stored."""
    options = {"source": "torchvision", "dataset": "FashionMNIST", "root": str(real_root)}
    per_class = {"per_class": 100}
    folder = tmp_path / "export"
    exported = torchvision.source(TaskOptions.model_validate({**options, **per_class}))
    classes = _exported(exported, folder)
    assert list(classes) != sorted(classes)
    found = {}
    for name, task in (
        ("torchvision", {**options, **per_class}),
        ("imagefolder", {"source": "imagefolder", "root": str(folder), "classes": classes,
                         "templates": list(exported.templates)}),
    ):  # fmt: skip
        # A cache of its own each: an expert must not be taken over from the other.
        monkeypatch.setenv("NEULIG_CACHE", str(tmp_path / "caches" / name))
        found[name] = _accuracies(tmp_path / name, task)
    assert found["torchvision"] == found["imagefolder"]
    assert found["torchvision"]["n_eval"] == 200
    assert found["torchvision"]["accuracy"] > 20


def _accuracies(folder: Path, clothes: dict[str, Any]) -> dict[str, Any]:
    """Run micro-rn for one epoch on clothes and digits; what is known of the expert on clothes."""
    said = {
        "name": "clothes",
        "seed": 7,
        "model": {"name": "micro-rn"},
        "tasks": {"clothes": clothes},
        "clients": [{"name": "ada", "task": "clothes"}, {"name": "bob", "task": "digits"}],
        "experts": {"epochs": 1, "lr": 1.0e-3, "batch_size": 32},
        "queries": {"pool": 40},
        "portland": {"epochs": 1},
        "stages": [
            {"name": "outputs", "share": tiny.OUTPUTS, "run": ["train-portland", "ensemble"]}
        ],
    }
    folder.mkdir()
    path = folder / "scenario.yaml"
    path.write_text(tiny.yaml.safe_dump(said, sort_keys=False))
    report = runs.run(path, engine="local", out=folder / "out")
    (expert,) = [e for e in report.data["reference"]["experts"] if e["client"] == "ada"]
    merged = [row["tasks"] for row in tiny.results(report)[0]]
    return {**expert, "ensembles": merged}
