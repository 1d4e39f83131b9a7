"""Pre-training of the bundled micro models: images against class prompts.

Every step draws new images, in the styles of `drawing.curriculum`. None of them is an image of a
task (`benchmarks/pretraining_images.py` compares them all): the tasks draw with the same functions
in other styles, each image from a generator of its own, their letters are of other typefaces, and
neither real handwriting nor a real garment is ever shown. The loss is the cross-entropy of a
image's similarity to the prompts of all classes, with a prompt template drawn at every step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from neulig_fl.client.schedule import warmup_cosine
from neulig_fl.core import cache_folder
from neulig_fl.core.files import replace_atomically
from neulig_fl.core.randomness import derived_seed, numpy_generator
from neulig_fl.data.synthetic.curriculum import LESSONS
from neulig_fl.models.families import open_clip as family


@dataclass(frozen=True)
class Recipe:
    """What a pre-training depends on, beside the code.

    Args:
        model: `micro-vit` or `micro-rn`.
        seed: of the first weights and of every image.
        steps: optimiser steps, each on one image for every place in the curriculum's batch.
        lr: AdamW's largest learning rate.
        weight_decay: AdamW's weight decay.
    """

    model: str
    seed: int = 0
    steps: int = 4000
    lr: float = 1.0e-3
    weight_decay: float = 0.05

    @property
    def key(self) -> str:
        """Names the resumable state of this recipe."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def draw_batch(recipe: Recipe, step: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images of one step: uint8 (batch, 3, 32, 32) and their class indices (batch,)."""
    rng = numpy_generator(recipe.seed, "pretrain-pictures", str(step))
    images, labels, first = [], [], 0
    for lesson in LESSONS:
        for _ in range(lesson.images):
            label = int(rng.integers(len(lesson.class_names)))
            images.append(lesson.draw(rng, label))
            labels.append(first + label)
        first += len(lesson.class_names)
    stacked = np.stack(images).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(stacked), np.asarray(labels, dtype=np.int64)


def draw_prompts(recipe: Recipe, step: int) -> list[str]:
    """One prompt for every class, with one template a lesson, drawn for the step."""
    rng = numpy_generator(recipe.seed, "pretrain-prompts", str(step))
    return [
        template.format(name)
        for lesson in LESSONS
        for template in [lesson.templates[int(rng.integers(len(lesson.templates)))]]
        for name in lesson.class_names
    ]


@dataclass
class _State:
    model: Any
    optimiser: torch.optim.Optimizer
    step: int


def _start(recipe: Recipe, path: Path) -> _State:
    model = family.create(recipe.model, derived_seed(recipe.seed, "pretrain", recipe.model)).float()
    groups = [
        {
            "params": [p for p in model.parameters() if p.ndim >= 2],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    state = _State(model, torch.optim.AdamW(groups, lr=recipe.lr), 0)
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        state.model.load_state_dict(saved["model"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.step = int(saved["step"])
    return state


def _save(state: _State, path: Path) -> None:
    content = {
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
    }
    replace_atomically(path, lambda p: torch.save(content, p))


def pretrain(
    recipe: Recipe, out: Path, on_step: Callable[[int, float], None], save_every: int = 250
) -> Path:
    """Train one micro model and write its weights as fp16 safetensors.

    A run that was stopped goes on from its last saved step; the same recipe gives the same file on
    the same machine, interrupted or not.

    Args:
        recipe: what to train.
        out: the safetensors file to write.
        on_step: called with (steps done, loss in nats).
        save_every: steps between two saved states.

    Returns:
        `out`.
    """
    kept = cache_folder.cache_dir() / "pretrain" / f"{recipe.model}-{recipe.key}.pt"
    state = _start(recipe, kept)
    tokenise = family.tokeniser(recipe.model)
    normalise = family.normaliser()
    state.model.train()
    while state.step < recipe.steps:
        rate = recipe.lr * warmup_cosine(state.step, recipe.steps, warmup=0.05)
        images, labels = draw_batch(recipe, state.step)
        tokens = tokenise(draw_prompts(recipe, state.step))
        loss = _step(state, rate, normalise(images), torch.from_numpy(labels), tokens)
        state.step += 1
        on_step(state.step, loss)
        if state.step % save_every == 0:
            _save(state, kept)
    to_unit_features(state.model, normalise(draw_batch(recipe, recipe.steps)[0]))
    weights = {
        k: v.half() if v.is_floating_point() else v for k, v in state.model.state_dict().items()
    }
    replace_atomically(out, lambda p: save_file(weights, p))
    return out


@torch.no_grad()
def to_unit_features(model: Any, images: Tensor) -> None:
    """Scale the encoder's last projection so that its features have a root mean square of 1.

    The loss sees directions only and leaves the length of features to chance. Portland reads
    features as they are: long ones saturate its softmax before it has learnt anything.
    """
    model.eval()
    size = model.visual(images).square().mean().sqrt()
    pool = getattr(model.visual, "attnpool", None)
    last = [model.visual.proj] if pool is None else [pool.c_proj.weight, pool.c_proj.bias]
    for parameter in last:
        parameter.div_(size)


def _step(state: _State, rate: float, images: Tensor, labels: Tensor, tokens: Tensor) -> float:
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.zero_grad(set_to_none=True)
    model = state.model
    image = nn.functional.normalize(model.visual(images), dim=-1)
    text = model.encode_text(tokens, normalize=True)
    loss = nn.functional.cross_entropy(model.logit_scale.exp() * image @ text.T, labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    state.optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=np.log(100.0))
    return float(loss.detach())
