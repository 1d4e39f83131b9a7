"""`neulig-fl tasks TASK --export-split`: the images of a split as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Line
from PIL import Image

from neulig_fl.cli.export_split import LIST
from neulig_fl.cli.show import IMAGE, open_named


def test_the_images_of_a_split_are_written(line: Line, tmp_path: Path) -> None:
    """Without it nobody knows which images an expert that is trained elsewhere may see."""
    folder = tmp_path / "out" / "images"
    ended = line("tasks", "digits", "--export-split", "train-B", str(folder), "--seed", "7")
    assert ended.code == 0
    task = open_named("digits", None, 7)
    indices = task.indices("train-B")
    with (folder / LIST).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [task.source.ids()[at] for at in indices]
    pixels, labels = task.pixels(indices, IMAGE), task.labels(indices)
    for at in (0, len(rows) - 1):
        with Image.open(folder / rows[at]["file"]) as image:
            assert np.array_equal(np.asarray(image).transpose(2, 0, 1), pixels[at])
        assert rows[at]["class"] == task.source.class_names[labels[at]]
    assert len(list(folder.rglob("*.png"))) == len(indices)
    again = line("tasks", "digits", "--export-split", "pool", str(tmp_path / "pool"), "--json")
    assert json.loads(again.out) == {
        "task": "digits",
        "split": "pool",
        "seed": 0,
        "folder": str(tmp_path / "pool"),
        "list": LIST,
        "images": len(open_named("digits", None, 0).indices("pool")),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "--export-split", "train", "new"), "no such split; allowed: train-A"),
        (("digit", "--export-split", "pool", "new"), "did you mean digits"),
        (("--export-split", "pool", "new"), "needs a task"),
        (("digits",), "go with --export-split"),
        (("digits", "--export-split", "pool", "."), "name a new folder"),
        (("digits", "--export-split", "pool", "taken"), "cannot be made a folder"),
    ],
)
def test_what_cannot_be_exported(line: Line, arguments: tuple[str, ...], words: str) -> None:
    """Without it a wrong call leaves half a folder, or a traceback."""
    Path("taken").write_text("a file")
    ended = line("tasks", *arguments)
    assert ended.code == 2
    assert words in ended.err
    assert not Path("new").exists()
