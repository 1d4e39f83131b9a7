"""benchmarks/pretraining_images.py: an image that both sides have is found; what was drawn is kept."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from neulig_fl.client.pretraining import Recipe, draw_batch
from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core import variants
from neulig_fl.data.synthetic.curriculum import LESSONS

ROOT = Path(__file__).resolve().parents[2]
BATCH = sum(lesson.images for lesson in LESSONS)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script, which finds the modules beside it as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("pretraining_images")


def asked(script: ModuleType, folder: Path, *more: str) -> Namespace:
    """Two steps against the smallest task."""
    places = [f"--state={folder / 'state'}", f"--out={folder / 'found.json'}"]
    return script.asked_for(["--steps", "1", "--tasks", "digits", *places, *more])  # type: ignore[no-any-return]


def found(folder: Path) -> dict[str, Any]:
    """What was written."""
    return json.loads((folder / "found.json").read_text())  # type: ignore[no-any-return]


def test_an_image_that_was_shown_is_found(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the page would say that no image is in both, whatever the images are."""
    script.main(asked(script, tmp_path))
    assert found(tmp_path)["tasks"] == {"digits": {"images": 1797, "also_shown": 0}}
    assert found(tmp_path)["different_images"] == 2 * BATCH
    digits = variants.load("neulig_fl.data.sources", "digits").source(TaskOptions(source="digits"))
    three = digits.pixels(np.array([5, 70, 1796]), 32)

    def planted(recipe: Recipe, step: int) -> tuple[Any, Any]:
        images, labels = draw_batch(recipe, step)
        images[:3] = three
        return images, labels

    monkeypatch.setattr(script, "draw_batch", planted)
    script.main(asked(script, tmp_path, "--seed", "1"))
    assert found(tmp_path)["tasks"]["digits"]["also_shown"] == 3
    assert found(tmp_path)["different_images"] == 2 * BATCH - 3


def test_what_was_drawn_is_kept(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a stopped command would begin anew, and a part would pass for the whole."""
    steps: list[int] = []

    def drawn(recipe: Recipe, step: int) -> tuple[Any, Any]:
        steps.append(step)
        return draw_batch(recipe, step)

    monkeypatch.setattr(script, "draw_batch", drawn)
    script.main(asked(script, tmp_path, "--minutes", "0"))
    assert (found(tmp_path)["batches_drawn"], found(tmp_path)["batches"]) == (1, 2)
    script.main(asked(script, tmp_path))
    assert (found(tmp_path)["batches_drawn"], found(tmp_path)["batches"]) == (2, 2)
    assert steps == [0, 1]


def test_the_kept_figures_are_of_this_code(script: ModuleType) -> None:
    """Without it the model card would tell of other steps, batches or tasks than there are."""
    kept = json.loads(script.FILE.read_text())
    recipe = Recipe("micro-vit")
    assert (kept["seed"], kept["batches"], kept["batch"]) == (0, recipe.steps + 1, BATCH)
    assert 0 < kept["batches_drawn"] <= kept["batches"]
    for name, task in kept["tasks"].items():
        source = variants.load("neulig_fl.data.sources", name).source(TaskOptions(source=name))
        assert task["also_shown"] == (None if task["images"] is None else 0)
        if name != "fashion":  # its files need not be on this machine
            assert task["images"] == source.count, name
    assert list(kept["tasks"]) == list(script.TASKS)
