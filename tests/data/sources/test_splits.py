"""The splits of the tasks that come with neulig-fl, by what is in the images themselves."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pytest

from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core import variants
from neulig_fl.data.sources import SPLITS, Task, mnist5k

OFFLINE = ("digits", "mnist5k", "clutter", "glyphs", "signs", "shapes", "textures")


def _task(name: str, seed: int = 7) -> Task:
    source = variants.load("neulig_fl.data.sources", name).source(TaskOptions(source=name))
    return Task(name, source, seed)


def _hashes(task: Task, split: str) -> set[str]:
    images = task.pixels(task.indices(split), 32)
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in images}


@pytest.mark.parametrize("name", OFFLINE)
def test_no_image_is_in_two_splits(name: str) -> None:
    """Without it an expert could be measured on an image that it was trained on."""
    task = _task(name)
    found = {split: _hashes(task, split) for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert found[one].isdisjoint(found[other])
    assert sum(map(len, found.values())) == len(task.source.ids())


@pytest.mark.parametrize("seed", [0, 7, 100])
def test_a_digit_is_on_one_side_in_both_of_its_dresses(seed: int) -> None:
    """Without it the expert of `clutter` would know the evaluation digits of `mnist5k`."""
    plain, dressed = _task("mnist5k", seed), _task("clutter", seed)
    assert plain.source.collection == dressed.source.collection
    for split in SPLITS:
        assert plain.indices(split).tolist() == dressed.indices(split).tolist()


def test_clutter_shows_the_digit_of_its_id() -> None:
    """Without it sides that agree by id would mean nothing."""
    chosen = np.arange(0, 5000, 83)
    digits = mnist5k.images()[chosen][..., 0].astype(float)
    grey = _task("clutter").source.pixels(chosen, 32).astype(float)

    def likeness(image: np.ndarray, digit: np.ndarray) -> float:
        """Largest absolute correlation of a channel with the digit, over the moves that are made."""
        moves = [np.roll(digit, (i, j), (0, 1)) for i in range(-2, 3) for j in range(-2, 3)]
        pairs = [np.corrcoef(c.ravel(), m.ravel())[0, 1] for c in image for m in moves]
        return float(np.abs(pairs).max())

    right = [likeness(p, d) for p, d in zip(grey, digits, strict=True)]
    wrong = [likeness(p, d) for p, d in zip(grey, np.roll(digits, 20, axis=0), strict=True)]
    assert np.mean(np.greater(right, wrong)) > 0.9
    assert np.mean(right) > np.mean(wrong) + 0.2


def test_no_two_tasks_of_a_collection_share_a_version() -> None:
    """Without it two tasks' experts, or their cached images, would be taken for one another."""
    named = [(t.source.collection, t.source.version) for t in map(_task, OFFLINE)]
    assert len(set(named)) == len(named)
