"""Pre-training for real, a few steps of it: resuming, the same file again, and unit features."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from neulig_fl.client import pretraining
from neulig_fl.client.pretraining import Recipe, draw_batch
from neulig_fl.config.scenario import Model
from neulig_fl.models.families import open_family
from neulig_fl.models.families.open_clip import create, normaliser

RECIPE = Recipe("micro-rn", seed=3, steps=3)


def _images(recipe: Recipe) -> Tensor:
    """Images of a step that no training saw."""
    return normaliser()(draw_batch(recipe, recipe.steps + 7)[0])


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two empty cache folders; the first is in use."""
    folders = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setenv("NEULIG_CACHE", str(folders[0]))
    return folders


def test_a_stopped_pretraining_gives_the_same_file_as_one_that_was_not(
    caches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the hash in the model card would hold only for whoever never pressed Ctrl-C."""

    def stop(step: int, loss: float) -> None:
        seen.append((step, loss))
        if step == 3:
            raise KeyboardInterrupt

    seen: list[tuple[int, float]] = []
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(RECIPE, tmp_path / "stopped", stop, save_every=2)
    assert not (tmp_path / "stopped").exists()
    again: list[tuple[int, float]] = []
    pretraining.pretrain(RECIPE, tmp_path / "stopped", lambda *at: again.append(at), save_every=2)
    assert again == seen[2:], "the step after the kept one is done again, and no other"
    monkeypatch.setenv("NEULIG_CACHE", str(caches[1]))
    pretraining.pretrain(RECIPE, tmp_path / "whole", lambda *at: None, save_every=2)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "stopped").read_bytes()


@pytest.mark.parametrize("name", ["micro-vit", "micro-rn"])
def test_the_last_scaling_changes_the_length_of_features_alone(name: str) -> None:
    """Without it the scaling could change what the model says, or leave a bias as it was."""
    model = create(name, 5).float()
    model.visual.eval()
    if name == "micro-rn":
        torch.nn.init.normal_(model.visual.attnpool.c_proj.bias, std=3.0)
    before = copy.deepcopy(model.visual)
    images = _images(RECIPE)
    pretraining.to_unit_features(model, images)
    with torch.no_grad():
        was, found = before(images), model.visual(images)
    size = was.square().mean().sqrt()
    assert float(size) != pytest.approx(1.0, abs=0.01), "or nothing is shown"
    assert torch.allclose(found, was / size, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["micro-vit", "micro-rn"])
def test_bundled_features_are_of_unit_size(name: str) -> None:
    """Without it Portland's softmax would be saturated before it has learnt anything."""
    family = open_family(Model(name=name), 0)
    with torch.no_grad():
        features = family.encoder()(_images(Recipe(name)))
    assert float(features.square().mean().sqrt()) == pytest.approx(1.0, abs=0.1)


def test_the_file_is_of_half_precision_and_complete(caches: list[Path], tmp_path: Path) -> None:
    """Without it the bundled file could lack the text tower, or be twice as large."""
    out = pretraining.pretrain(Recipe("micro-rn", steps=1), tmp_path / "w", lambda *at: None)
    weights = load_file(out)
    expected = create("micro-rn", 0).state_dict()
    assert weights.keys() == expected.keys()
    assert {v.dtype for v in weights.values()} == {torch.float16, torch.int64}
