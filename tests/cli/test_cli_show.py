"""`neulig-fl show`: the file, what is said about it, and every way to ask for what cannot be."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from command_line import Line
from PIL import Image

from neulig_fl.cli import show
from neulig_fl.config.scenario import MICRO_MODELS, Model
from neulig_fl.models.families import open_family


def _with_tasks(
    folder: Path, *, classes: tuple[str, ...] = ("dark", "light"), each: int = 24
) -> Path:
    """A scenario whose task `mine` is a folder beside it."""
    folder.mkdir(exist_ok=True)
    tiny.images(folder / "images", classes, each=each)
    path = folder / "scenario.yaml"
    path.write_text(
        "name: t\nseed: 3\ntasks: {mine: {source: imagefolder, root: images}}\n"
        "model: {name: tiny-vit, pretrained: none}\n"
        "clients: [{name: a, task: mine}, {name: b, task: digits}]\nstages: [{name: s, share: [{kind: features}]}]\n"
    )
    return path


def test_a_built_in_task_is_written_beside_the_user(line: Line) -> None:
    """Without it nobody could see whether images are what their labels say."""
    ended = line("show", "digits")
    assert ended.code == 0
    with Image.open("digits.png") as page:
        assert page.format == "PNG"
        wide, high = page.size
    assert f"Wrote digits.png: {wide:,} x {high:,} pixels, " in ended.out
    assert "digits: handwritten digits, 8x8 scans (scikit-learn). A row is a class" in ended.out
    assert "the first 4 images of train-A, train-B, pool, evaluation (seed 0)" in ended.out
    assert "32x32 pixels enlarged 2 times" in ended.out
    assert len(ended.out.splitlines()) == 2


def test_the_same_command_writes_the_same_file(line: Line) -> None:
    """Without it two people could not tell whether they look at the same images."""
    for name in ("a", "b"):
        line("show", "digits", "--out", f"new/{name}.png", "--per-class", "1")
    line("show", "digits", "--out", "new/c.png", "--per-class", "1", "--seed", "1")
    hashes = [hashlib.sha256(Path(f"new/{n}.png").read_bytes()).hexdigest() for n in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_sheet_shows_the_images_of_the_splits(line: Line) -> None:
    """Without it the sheet would prove nothing about what experts are trained on."""
    from neulig_fl.cli.show import open_named, sheet_of

    task = open_named("digits", None, None)
    sheet = sheet_of(task, ["train-B", "evaluation"], 3, 64, 32)
    for split in sheet.splits:
        indices = task.indices(split.name)
        assert split.images == len(indices)
        for label, images in enumerate(split.samples):
            own = indices[task.labels(indices) == label][:3]
            assert np.array_equal(images, task.pixels(own, 32))
            assert len(images) == 3
    line("show", "digits", "--split", "evaluation", "--split", "train-B", "--per-class", "3")
    with Image.open("digits.png") as page:
        pixels = np.asarray(page)
    first = sheet.splits[0].samples[0][0].transpose(1, 2, 0).repeat(2, 0).repeat(2, 1)
    places = np.lib.stride_tricks.sliding_window_view(pixels[:180, :180], (64, 64, 3))
    assert (places == first).all(axis=(3, 4, 5)).any()


def test_a_task_of_ones_own_is_found_through_its_scenario(line: Line, tmp_path: Path) -> None:
    """Without it only the built-in tasks, which are known to be right, could be looked at."""
    path = _with_tasks(tmp_path / "sub")
    ended = line("show", "mine", "--scenario", path, "--size", "40", "--per-class", "1")
    assert ended.code == 0
    size = open_family(Model(name="tiny-vit", pretrained="none"), 0).image_size
    assert (
        f"the first image of train-A, train-B, pool, evaluation (seed 3), {size}x{size}"
        in ended.out
    )
    assert Path("mine.png").is_file()
    assert line("show", "digits", "--scenario", path, "--seed", "5").out.count("(seed 5)") == 1


def test_names_and_empty_splits_that_a_sheet_cannot_show_are_told(
    line: Line, tmp_path: Path
) -> None:
    """Without it a Chinese name, or a class of three images, would be a riddle on the sheet."""
    path = _with_tasks(tmp_path, classes=("\u732b", "dog", "a_b"), each=3)
    ended = line("show", "mine", "--scenario", path)
    assert ended.code == 0
    assert "1 class has a name that the sheet cannot write (a number): 2 \u732b." in ended.out
    assert "no image in " in ended.out


def test_many_classes_go_to_several_files(line: Line, tmp_path: Path) -> None:
    """Without it a data set with hundreds of classes could not be looked at."""
    path = _with_tasks(tmp_path, classes=("a", "b", "c", "d", "e"))
    arguments = ("--scenario", path, "--size", "1500", "--per-class", "1", "--out", "big.png")
    ended = line("show", "mine", *arguments, "--split", "pool")
    assert ended.code == 0
    found = sorted(p.name for p in Path.cwd().glob("big*.png"))
    assert found == ["big-2.png", "big.png"]
    assert "Wrote big-2.png: " in ended.out


@pytest.mark.parametrize("name", MICRO_MODELS)
def test_images_have_the_size_that_the_micro_models_see(name: str) -> None:
    """Without it the sheet would show what no bundled model is given."""
    assert open_family(Model(name=name, pretrained="none"), 0).image_size == show.IMAGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "no task is called 'digit'; allowed: .*did you mean digits"),
        (["mine"], "a task of your own is shown with --scenario FILE"),
        (["imagefolder"], "no task is called 'imagefolder'; allowed: "),
        (["digits", "--split", "evluation"], "--split evluation: no such split; .*evaluation"),
        (["digits", "--out", "."], r"--out \.: is a folder; give the file to write"),
        (["digits", "--out", "x.jpg"], r"--out x\.jpg: a sheet is a PNG; .*ends in \.png"),
        (["digits", "--out", "file/x.png"], "--out file/x.png: its folder cannot be made"),
        (["digits", "--size", "2000"], "a row of the sheet is .*allowed: 4,000 each; show fewer"),
        (["digits", "--size", "4"], "'--size': 4 is not in the range x>=8"),
        (["digits", "--per-class", "0"], "'--per-class': 0 is not in the range x>=1"),
        (["digits", "--scenario", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_input_of_show(line: Line, arguments: list[str], message: str) -> None:
    """Without it a typo would be a traceback, or a sheet of something else."""
    Path("file").touch()
    ended = line("show", *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert re.search(message, ended.err), ended.err
    assert list(Path.cwd().glob("*.png")) == []


def test_a_broken_image_is_named(line: Line, tmp_path: Path) -> None:
    """Without it a user would have to look for it among thousands."""
    path = _with_tasks(tmp_path)
    for image in (tmp_path / "images" / "dark").iterdir():
        image.write_bytes(b"BM" + image.name.encode())
    ended = line("show", "mine", "--scenario", path)
    assert ended.code == 2
    assert ".bmp" in ended.err


def test_a_full_disk_is_an_error_and_leaves_no_half_file(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a broken PNG would lie where the sheet should be."""

    def save(self: Image.Image, path: Path, format: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    ended = line("show", "digits")
    assert ended.code == 1
    assert "digits.png: cannot be written (No space left on device)" in ended.err
    assert list(Path.cwd().iterdir()) == []
