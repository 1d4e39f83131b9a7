"""Drawn images: from their generator alone, for every class, in every style that is used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from neulig_fl.client import pretraining
from neulig_fl.client.pretraining import Recipe, draw_batch
from neulig_fl.config.scenario import TaskOptions
from neulig_fl.core import variants
from neulig_fl.core.randomness import derived_seed
from neulig_fl.data import built_in
from neulig_fl.data.sources import clutter
from neulig_fl.data.sources.glyphs import TYPEFACES as TASK_TYPEFACES
from neulig_fl.data.synthetic import SIZE, Style, canvas, garments, glyphs, shapes, signs, textures
from neulig_fl.data.synthetic.curriculum import CHALK, LESSONS, PLAIN, TYPEFACES

DRAW: dict[str, tuple[Callable[..., np.ndarray], int]] = {
    "shapes": (shapes.draw, len(shapes.NAMES)),
    "textures": (textures.draw, len(textures.NAMES)),
    "signs": (signs.draw, len(signs.NAMES)),
    "garments": (garments.draw, len(garments.NAMES)),
}
HARD = Style(
    turn=0.7, scale=(0.3, 0.4), contrast=60, clutter=3, mottle=40, light=1.5, bend=1, blur=0.6, noise=10
)  # fmt: skip
DRAWN_TASKS = ("shapes", "textures", "glyphs", "signs", "clutter")


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("style", [PLAIN, HARD], ids=["plain", "hard"])
@pytest.mark.parametrize("what", DRAW)
def test_every_class_is_drawn_from_its_generator_alone(what: str, style: Style) -> None:
    """Without it the bundled tasks would have other images on the next machine."""
    draw, classes = DRAW[what]
    np.random.seed(0)
    for label in range(classes):
        image = draw(_rng(label), label, style)
        assert image.shape == (SIZE, SIZE, 3)
        assert image.dtype == np.uint8
        assert image.std() > 8, "nothing to see"
        np.random.seed(label)
        assert np.array_equal(image, draw(_rng(label), label, style))
        assert not np.array_equal(image, draw(_rng(label + 1), label, style))


@pytest.mark.parametrize("what", DRAW)
def test_classes_can_be_told_apart(what: str) -> None:
    """Without it a label would name something that is not in the image."""
    draw, classes = DRAW[what]

    def signature(label: int) -> np.ndarray:
        edges = []
        for seed in range(30):
            grey = draw(_rng(1000 * label + seed), label, PLAIN).astype(float).mean(axis=2)
            grey = (grey - grey.mean()) / grey.std()
            edges.append(np.abs(np.fft.rfft2(grey)))
        return np.mean(edges, axis=0)

    signatures = [signature(label) for label in range(classes)]
    for i, one in enumerate(signatures):
        for other in signatures[:i]:
            assert np.linalg.norm(one - other) / np.linalg.norm(one) > 0.02


@pytest.mark.parametrize("typeface", glyphs.TYPEFACES)
def test_every_typeface_has_all_letters_and_digits(typeface: str) -> None:
    """Without it a letter would be an empty box in one typeface."""
    characters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]
    boxes = {c: glyphs.printed(c, typeface).tobytes() for c in characters}
    assert len(set(boxes.values())) == len(characters)
    assert all(any(box) for box in boxes.values())


@pytest.mark.parametrize("digit", glyphs.DIGITS)
def test_a_written_digit_is_never_twice_the_same(digit: str) -> None:
    """Without it the pen would teach ten images."""
    one, two = glyphs.written(_rng(1), digit, 0.15), glyphs.written(_rng(2), digit, 0.15)
    assert one.tobytes() != two.tobytes()
    assert one.tobytes() == glyphs.written(_rng(1), digit, 0.15).tobytes()
    assert 0.03 < np.asarray(one).mean() / 255 < 0.5


def test_chalk_is_light_on_dark() -> None:
    """Without it the written digits would teach nothing about scans of handwriting."""
    image = glyphs.draw(_rng(0), glyphs.written(_rng(0), "8", 0.15), CHALK, chalk=True)
    assert np.median(image) < 30
    assert image.max() > 120


def test_what_is_placed_stays_where_it_is_put() -> None:
    """Without it a symbol and its plate, or a ring and its hole, would come apart."""
    place = canvas.Placement(np.array([[20.0, 0.0], [0.0, 20.0]]), np.array([48.0, 40.0]))
    assert place.of([(-1, -1), (1, 0.5)]) == [(28.0, 20.0), (68.0, 50.0)]
    whole = canvas.stencil([place.of([(-1, -1), (1, -1), (1, 1), (-1, 1)])])
    carried = place.carry(whole.crop((28, 20, 68, 60)).resize((50, 50)))
    apart = np.abs(np.asarray(whole, dtype=float) - np.asarray(carried, dtype=float)) > 200
    assert apart.mean() < 0.02


def test_the_styles_of_pre_training_are_not_the_tasks() -> None:
    """Without it the bundled weights would have been trained on what the tasks show."""
    assert set(TYPEFACES).isdisjoint(TASK_TYPEFACES)
    for name in ("shapes", "textures", "glyphs", "signs", "clutter"):
        style = variants.load("neulig_fl.data.sources", name).STYLE
        assert style not in (PLAIN, CHALK)


class Asked(Exception):
    """What a generator was asked for; nothing is drawn from it."""


def _asked(module: ModuleType, call: Callable[[], object]) -> tuple[int, str]:
    """Seed and purpose of the first generator that a call asks a module for."""

    def asked(*of: object) -> np.random.Generator:
        raise Asked(*of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "numpy_generator", asked)
        patch.setattr(clutter.mnist5k, "images", lambda: np.zeros((1, SIZE, SIZE, 1), np.uint8))
        with pytest.raises(Asked) as found:
            call()
    seed, purpose, _ = found.value.args
    return seed, purpose


def test_no_step_of_pre_training_has_the_generator_of_an_image() -> None:
    """Without it one step of the 4,000 could draw what a task shows."""
    recipe = Recipe("micro-vit")
    sources = [
        variants.load("neulig_fl.data.sources", n).source(TaskOptions(source=n))
        for n in DRAWN_TASKS
    ]
    asked = [
        (*_asked(pretraining, lambda: draw_batch(recipe, 0)), recipe.steps + 1),
        (*_asked(pretraining, lambda: pretraining.draw_prompts(recipe, 0)), recipe.steps + 1),
        *((*_asked(built_in, each.build), each.count) for each in sources[:-1]),
        (*_asked(clutter, sources[-1].build), sources[-1].count),
    ]
    assert len({of[:2] for of in asked}) == 2 + len(DRAWN_TASKS)
    seeds = [derived_seed(seed, what, str(i)) for seed, what, count in asked for i in range(count)]
    assert len(set(seeds)) == len(seeds) > 40_000


def test_pre_training_sees_no_image_of_a_task() -> None:
    """Without it zero-shot accuracy would be that of images that were trained on."""

    def hashes(images: np.ndarray) -> set[str]:
        return {hashlib.sha256(p.tobytes()).hexdigest() for p in images}

    seen = hashes(np.concatenate([draw_batch(Recipe("micro-vit"), step)[0] for step in range(3)]))
    assert len(seen) == 3 * sum(lesson.images for lesson in LESSONS)
    for name in DRAWN_TASKS:
        source = variants.load("neulig_fl.data.sources", name).source(TaskOptions(source=name))
        some = source.pixels(np.arange(0, len(source.ids()), 50), SIZE)
        assert seen.isdisjoint(hashes(some))


def test_a_batch_is_of_its_step_alone() -> None:
    """Without it a pre-training that goes on would see other images than one that never stopped."""
    recipe = Recipe("micro-rn", seed=3)
    images, labels = draw_batch(recipe, 5)
    again, same = draw_batch(Recipe("micro-vit", seed=3), 5)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same)
    assert not np.array_equal(images, draw_batch(recipe, 6)[0])
    assert images.shape == (len(labels), 3, SIZE, SIZE)
    assert labels.max() < sum(len(lesson.class_names) for lesson in LESSONS)
