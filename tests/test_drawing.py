"""Drawn pictures: from their generator alone, for every class in both styles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neulig_fl import drawing

DRAW: dict[str, tuple[Callable[..., np.ndarray], int]] = {
    "shape": (drawing.shape, len(drawing.SHAPES)),
    "texture": (drawing.texture, len(drawing.TEXTURES)),
}


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("style", ["task", "plain"])
@pytest.mark.parametrize("what", DRAW)
def test_every_class_is_drawn_from_its_generator_alone(what: str, style: str) -> None:
    """Without it the bundled tasks would have other pictures on the next machine."""
    draw, classes = DRAW[what]
    np.random.seed(0)
    for label in range(classes):
        picture = draw(_rng(label), label, style)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 8, "nothing to see"
        np.random.seed(label)
        assert np.array_equal(picture, draw(_rng(label), label, style))
        assert not np.array_equal(picture, draw(_rng(label + 1), label, style))


@pytest.mark.parametrize("what", DRAW)
def test_the_style_of_pre_training_is_not_the_tasks(what: str) -> None:
    """Without it the bundled weights would have been trained on the tasks' pictures."""
    draw, classes = DRAW[what]
    for label in range(classes):
        assert not np.array_equal(draw(_rng(1), label, "task"), draw(_rng(1), label, "plain"))


@pytest.mark.parametrize("what", DRAW)
def test_classes_can_be_told_apart(what: str) -> None:
    """Without it a label would name something that is not in the picture."""
    draw, classes = DRAW[what]

    def signature(label: int) -> np.ndarray:
        edges = []
        for seed in range(40):
            grey = draw(_rng(1000 * label + seed), label, "plain").astype(float).mean(axis=2)
            grey = (grey - grey.mean()) / grey.std()
            edges.append(np.abs(np.fft.rfft2(grey)))
        return np.mean(edges, axis=0)

    signatures = [signature(label) for label in range(classes)]
    for i, one in enumerate(signatures):
        for other in signatures[:i]:
            assert np.linalg.norm(one - other) / np.linalg.norm(one) > 0.02


@pytest.mark.parametrize("character", list("0189AZ"))
def test_a_glyph_is_light_on_dark_and_never_twice_the_same(character: str) -> None:
    """Without it the printed characters would teach nothing about handwriting."""
    one, two = drawing.glyph(_rng(1), character), drawing.glyph(_rng(2), character)
    assert one.shape == (32, 32, 3)
    assert np.median(one) < 60
    assert one.max() > 100
    assert not np.array_equal(one, two)
    assert np.array_equal(one, drawing.glyph(_rng(1), character))
