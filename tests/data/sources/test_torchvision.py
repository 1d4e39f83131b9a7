"""torchvision's data sets, each from small made files in its real format on the disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import made_sets
import numpy as np
import pytest
from torchvision import datasets

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core.errors import DataError
from neulig_fl.data import images as image_pixels
from neulig_fl.data.sources import SPLITS, Task, torchvision
from neulig_fl.data.sources._torchvision_sets import SETS, KnownSet

NAMES = sorted(SETS)
GREY = {"MNIST", "FashionMNIST", "KMNIST", "EMNIST"}
NO_PARTS = {"EuroSAT", "SUN397"}
ISSUE = (
    "MNIST FashionMNIST KMNIST EMNIST CIFAR10 CIFAR100 GTSRB SVHN STL10 EuroSAT DTD SUN397 "
    "StanfordCars"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where torchvision's files are to lie."""
    return tmp_path / "sets"


def _source(root: Path, name: str, **options: Any) -> torchvision.TorchvisionSet:
    return torchvision.source(
        TaskOptions(source="torchvision", dataset=name, root=str(root), **options)
    )


def _all(source: torchvision.TorchvisionSet, size: int = 32) -> np.ndarray:
    return source.pixels(np.arange(len(source.ids())), size)


def test_every_set_is_known_and_made_here() -> None:
    """Without it a set of the issue would be missing, or be there without a test."""
    assert sorted(ISSUE.split()) == NAMES == sorted(made_sets.WRITE) == sorted(made_sets.NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_read_from_its_files(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it labels, names or official parts would not be those of the files."""
    made_sets.WRITE[name](root, monkeypatch)
    source = _source(root, name)
    classes = made_sets.NAMES[name]
    assert source.class_names == classes
    assert len(set(source.ids())) == len(source.ids()) == len(source.labels())
    seen = made_sets.seen_grey if name in GREY else made_sets.seen
    assert [seen(image) for image in _all(source)] == source.labels().tolist()

    counts = np.bincount(source.labels(), minlength=len(classes))
    trained = 2 * made_sets.TRAIN if name == "DTD" else made_sets.TRAIN
    held_out = source.held_out()
    if name in NO_PARTS:
        assert held_out is None
        assert set(counts.tolist()) == {trained}
        return
    assert held_out is not None
    assert set(counts.tolist()) == {trained + made_sets.TEST}
    assert set(np.bincount(source.labels()[held_out]).tolist()) == {made_sets.TEST}
    tested = Task("t", source, 3).indices("evaluation")
    assert sorted(tested.tolist()) == np.flatnonzero(held_out).tolist()


def test_letters_are_a_subset_of_emnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the letters' labels, which begin at 1, would be one off."""
    made_sets.WRITE["EMNIST"](root, monkeypatch)
    source = _source(root, "EMNIST", subset="letters")
    assert source.class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    assert source.templates[0].format("b") == 'a photo of the letter: "b".'
    assert [made_sets.seen_grey(p) for p in _all(source, 28)] == source.labels().tolist()
    digits = _source(root, "EMNIST", subset="digits")
    assert digits.ids() == _source(root, "EMNIST").ids()
    assert digits.class_names == tuple("0123456789")


@pytest.mark.parametrize(
    ("name", "index", "prompt"),
    [
        ("MNIST", 7, 'a photo of the number: "7".'),
        ("SVHN", 0, 'a photo of the number: "0".'),
        ("FashionMNIST", 0, "a photo of a T-shirt/top."),
        ("KMNIST", 3, "a photo of the character tsu."),
        ("EMNIST", 9, 'a photo of the digit character: "9".'),
        ("GTSRB", 14, 'a zoomed in photo of a "stop" traffic sign.'),
        ("EuroSAT", 9, "a centered satellite photo of lake or sea."),
        ("CIFAR100", 0, "a photo of a aquarium fish."),
        ("DTD", 1, "a photo of a polka-dotted texture."),
        ("SUN397", 1, "a photo of a apartment building outdoor."),
        ("StanfordCars", 2, "a photo of a Ram C/V Cargo Van Minivan 2012."),
    ],
)
def test_prompts_are_those_of_clip_work(
    name: str, index: int, prompt: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it zero-shot figures could not be compared with published ones."""
    made_sets.WRITE[name](root, monkeypatch)
    source = _source(root, name)
    assert source.templates[0].format(source.class_names[index]) == prompt
    assert len(SETS["GTSRB"].names or ()) == 43
    assert [len(SETS[n].templates) for n in ("CIFAR10", "StanfordCars", "DTD")] == [18, 8, 8]


def test_an_image_is_known_by_its_pixels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the same image in another source could be on the other side."""
    made_sets.WRITE["SVHN"](root, monkeypatch)
    source = _source(root, "SVHN")
    shown = image_pixels.Image.fromarray(_all(source)[0].transpose(1, 2, 0))
    assert source.collection == "images"
    assert source.ids()[0] == source.origins()[0] == image_pixels.content_id(shown)


# ---------------------------------------------------------------- which images and classes


def test_per_class_takes_the_first_of_both_parts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a smaller task would be unbalanced, or not a part of the whole one."""
    made_sets.WRITE["CIFAR10"](root, monkeypatch)
    whole, part = _source(root, "CIFAR10"), _source(root, "CIFAR10", per_class=5)
    held_out = part.held_out()
    assert held_out is not None
    assert np.bincount(part.labels()[held_out]).tolist() == [1] * 10
    assert np.bincount(part.labels()[~held_out]).tolist() == [4] * 10
    tested = whole.held_out()
    assert tested is not None
    expected = [*np.flatnonzero(~tested)[:40], *np.flatnonzero(tested)[:10]]
    assert list(part.ids()) == [whole.ids()[i] for i in expected]
    assert len(_source(root, "CIFAR10", per_class=1000).ids()) == len(whole.ids())


def test_per_class_without_parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a set without a test part would lose a fifth of the images."""
    made_sets.WRITE["SUN397"](root, monkeypatch)
    assert np.bincount(_source(root, "SUN397", per_class=3).labels()).tolist() == [3, 3, 3]


def test_the_first_images_do_not_depend_on_the_file_system(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `per_class` would choose other images on another machine."""
    made_sets.WRITE["SUN397"](root, monkeypatch)
    found = []
    for backwards in (False, True):

        def listed(folder: Path, _: str, backwards: bool = backwards) -> list[Path]:
            return sorted((p for p in folder.glob("**/sun_*.jpg")), reverse=backwards)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rglob", listed)
            found.append(list(_source(root, "SUN397", per_class=2).ids()))
    assert found[0] == found[1]


def test_classes_give_order_and_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a prompt would be about another class than the label."""
    made_sets.WRITE["FashionMNIST"](root, monkeypatch)
    names = made_sets.NAMES["FashionMNIST"]
    mine = {name: name.lower() for name in reversed(names)}
    plain, source = _source(root, "FashionMNIST"), _source(root, "FashionMNIST", classes=mine)
    assert source.class_names == tuple(name.lower() for name in reversed(names))
    assert source.labels().tolist() == [9 - label for label in plain.labels()]
    assert source.ids() == plain.ids()


def test_classes_of_names_in_the_files_are_checked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a misspelt class would be a KeyError, or be left out."""
    made_sets.WRITE["DTD"](root, monkeypatch)
    known = dict.fromkeys(made_sets.NAMES["DTD"], "x")
    with pytest.raises(DataError, match=r"classes: no such class \(got 'band'\); .* mean banded"):
        _ = _source(root, "DTD", classes={**known, "band": "y"}).class_names
    with pytest.raises(DataError, match="leaves out 'zigzagged'; name every class"):
        _source(root, "DTD", classes={"banded": "a", "polka-dotted": "b"}).ids()


def test_a_training_image_that_is_also_a_test_image_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it an expert would be measured on images that it was trained on."""
    made_sets.WRITE["DTD"](root, monkeypatch)
    images, label = root / "dtd/dtd/images/banded", root / "dtd/dtd/labels/train1.txt"
    tested = sorted(images.glob("banded_2*"))[0]
    shutil.copy(tested, images / "banded_copy.jpg")
    twin = sorted(images.glob("banded_0*"))[0]
    shutil.copy(twin, images / "banded_twin.jpg")
    lines = [*label.read_text().split(), "banded/banded_copy.jpg", "banded/banded_twin.jpg"]
    label.write_text("\n".join(lines) + "\n")
    source = _source(root, "DTD")
    held_out, origins = source.held_out(), np.array(source.origins())
    assert held_out is not None
    assert not set(origins[held_out]) & set(origins[~held_out])
    assert int(held_out.sum()) == 3 * made_sets.TEST
    assert int((~held_out).sum()) == 6 * made_sets.TRAIN + 1
    doubled = next(each for each in source.ids() if each.endswith("#2"))
    assert list(source.origins()).count(doubled.removesuffix("#2")) == 2


# ---------------------------------------------------------------- missing and damaged files


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_are_an_error_that_says_what_to_do(name: str, root: Path) -> None:
    """Without it the user would get torchvision's words about an argument of its own."""
    root.mkdir()
    advice = "put its files there yourself" if name == "StanfordCars" else "`download: true`"
    with pytest.raises(
        DataError, match=rf"^torchvision {name} is not there; looked for {root}/.*{advice}"
    ) as caught:
        _source(root, name).ids()
    assert caught.value.public_reason
    assert str(root) not in caught.value.public_reason


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_not_whole_are_an_error(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a broken download would end in a traceback, or in labels that mean nothing."""
    made_sets.WRITE[name](root, monkeypatch)
    spoilt = root / made_sets.FILES_OF[name]
    if spoilt.is_dir():
        shutil.rmtree(spoilt)
    else:
        content = spoilt.read_bytes()
        spoilt.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"torchvision {name}.*(cannot be (opened|read)|not whole)"):
        _source(root, name).ids()


def test_a_label_without_images_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a missing folder of GTSRB would move all labels behind it."""
    made_sets.WRITE["GTSRB"](root, monkeypatch)
    shutil.rmtree(root / "gtsrb/GTSRB/Training/00007")
    with pytest.raises(DataError, match=r"part 1 of 2 has labels other than 0 to 42, or lacks"):
        _source(root, "GTSRB").ids()


def test_a_damaged_image_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the user would search a hundred thousand files."""
    made_sets.WRITE["SUN397"](root, monkeypatch)
    (root / "SUN397/a/abbey/sun_0000.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"SUN397/a/abbey/sun_0000\.jpg cannot be read"):
        _source(root, "SUN397").ids()


def test_a_pickle_of_somebody_else_is_not_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a CIFAR file from anywhere could run code: only the published files are read."""
    made_sets.WRITE["CIFAR10"](root, monkeypatch)
    batch = root / "cifar-10-batches-py/data_batch_1"
    mark = root / "ran"
    batch.write_bytes(b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V%btRtR." % str(mark).encode())
    with pytest.raises(DataError, match="cannot be opened"):
        _source(root, "CIFAR10").ids()
    assert not mark.exists()


# ---------------------------------------------------------------- downloads and the cache


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """A folder under an address of this machine."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""


def test_download_fetches_what_is_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it `download: true` would do nothing. The mirror is a server on this machine."""
    made_sets.WRITE["MNIST"](tmp_path / "made", monkeypatch)
    mirror = tmp_path / "mirror"
    made_sets.packed(tmp_path / "made/MNIST/raw", mirror)
    sums = [(name, made_sets.md5(mirror / name)) for name, _ in datasets.MNIST.resources]
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    with _served(mirror) as address:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
        fetched = _source(root, "MNIST", download=True)
        assert fetched.ids() == _source(tmp_path / "made", "MNIST").ids()
    assert (root / "MNIST/raw/train-labels-idx1-ubyte").is_file()
    assert _source(root, "MNIST", download=True).ids() == fetched.ids(), "nothing is fetched twice"


def test_a_failed_download_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a missing network would be an error without a next step."""
    with _served(tmp_path) as address:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    with pytest.raises(DataError, match=r"cannot be opened \(RuntimeError.*if the download failed"):
        _source(root, "MNIST", download=True).ids()


def test_files_lie_in_the_cache_unless_a_root_is_given(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a set without `root` could not be used."""
    made_sets.WRITE["KMNIST"](own_cache / "data", monkeypatch)
    source = torchvision.source(TaskOptions(source="torchvision", dataset="KMNIST"))
    assert len(source.ids()) == 10 * (made_sets.TRAIN + made_sets.TEST)


@pytest.mark.parametrize(
    ("name", "changed", "other"),
    [
        ("MNIST", "MNIST/raw/t10k-images-idx3-ubyte", "MNIST/raw/train-images-idx3-ubyte"),
        (
            "DTD",
            "dtd/dtd/images/banded/banded_2000.jpg",
            "dtd/dtd/images/zigzagged/zigzagged_2002.jpg",
        ),
    ],
)
def test_ids_are_kept_and_made_again_when_files_change(
    name: str, changed: str, other: str, root: Path, own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without it every process would decode the whole data set, or trust ids of other files."""
    made_sets.WRITE[name](root, monkeypatch)
    first = list(_source(root, name).ids())
    with monkeypatch.context() as forbidden:
        forbidden.delattr(image_pixels, "content_id")
        assert list(_source(root, name).ids()) == first
    assert list((own_cache / "ids").iterdir())
    spoilt, taken = root / changed, (root / other).read_bytes()
    spoilt.write_bytes(spoilt.read_bytes()[:16] + taken[16 : spoilt.stat().st_size])
    assert list(_source(root, name).ids()) != first


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"dataset: is missing; allowed: MNIST, FashionMNIST, KMNIST"),
        ({"dataset": "mnist"}, r"dataset: no data set that is known here .*did you mean MNIST\?"),
        ({"dataset": "MNIST", "subset": "digits"}, "subset: MNIST has no subset .*leave it out"),
        ({"dataset": "EMNIST", "subset": "byclass"}, "subset: .*allowed: digits, letters"),
        ({"dataset": "StanfordCars", "download": True}, "download: torchvision cannot download"),
        (
            {"dataset": "SVHN", "classes": {"0": "a", "1": "b"}},
            "classes: leaves out '2', '3', '4' and 5 more",
        ),
    ],
)
def test_options_that_cannot_be_are_found_before_anything_is_read(
    options: dict[str, Any], message: str
) -> None:
    """Without it a wrong name would be found when the run has begun, or never."""
    with pytest.raises(DataError, match=f"^source torchvision: {message}"):
        torchvision.source(TaskOptions(source="torchvision", **options))


PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def set_table() -> str:
    """The known sets as a Markdown table."""
    lines = ["| dataset | shows | files below `root` | test part |", "| :-- | :-- | :-- | :-- |"]
    for name, known in SETS.items():
        files = ", ".join(f"`{pattern}`" for pattern in known.files)
        part = "official" if len(known.parts) > 1 else "by hash"
        lines.append(f"| `{name}` | {known.about} | {files} | {part} |")
    return "\n".join(lines) + "\n"


def test_the_page_lists_the_sets() -> None:
    """Without it docs/data.md would be behind the code."""
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- table of sets -->\n{set_table()}<!-- end of table -->" in text


def test_every_known_set_has_prompts_for_distinct_classes() -> None:
    """Without it two classes of a known set would have one head row."""
    known: KnownSet
    for known in SETS.values():
        assert all(template.count("{}") == 1 for template in known.templates)
        assert known.names is None or len(set(known.names)) == len(known.names)
    assert set(SPLITS) >= {"evaluation"}
