"""Experts: fine-tune or load one client's encoder, with a content-addressed cache.

Fine-tuning moves the visual tower only; the head (frozen text features) is the same for every
expert of a task. An expert's file name is a hash of everything that it depends on, so a second run
trains nothing. Departures from the paper: our batch size, learning rate and epochs are the
scenario's (the paper's are for ViT-B/32 and RN50), and a `diverse` encoder is initialised as
OpenCLIP does, not by Kaiming's uniform rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neulig_fl.client.schedule import warmup_cosine
from neulig_fl.config.scenario import Client, Scenario
from neulig_fl.core import cache_folder
from neulig_fl.core.errors import CheckpointError, InputError, RunError, plain
from neulig_fl.core.files import replace_atomically
from neulig_fl.core.randomness import derived_seed, torch_generator
from neulig_fl.data.sources import Task
from neulig_fl.models.families import Family, device
from neulig_fl.models.outputs import classify, encode

TRAINING_VERSION = 1
"""Changes whenever the same settings would give other weights."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What one expert depends on, beside the code; its hash is the expert's name."""

    model: str
    weights: str
    data: str
    client: str
    group: str
    seed: int
    settings: str
    preprocessing: str = ""
    """How images are prepared; empty, and left out of the key, where it is OpenCLIP's own way."""

    @property
    def key(self) -> str:
        """The expert's name in the cache."""
        parts = asdict(self)
        if not self.preprocessing:
            del parts["preprocessing"]
        text = json.dumps([TRAINING_VERSION, parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def recipe(
    scenario: Scenario, client: Client, group: str, family: Family, task: Task, seed: int
) -> Recipe:
    """The recipe of one client's expert for one group."""
    indices = task.indices(f"train-{group}")
    ids = task.source.ids()
    data = hashlib.sha256(f"{task.source.collection}:{task.source.version}\n".encode())
    data.update("\n".join(ids[int(i)] for i in indices).encode())
    data.update(task.labels(indices).tobytes())
    data.update("\n".join((*task.source.class_names, *task.source.templates)).encode())
    settings = scenario.experts.model_dump(exclude={"groups"})
    return Recipe(
        model=scenario.model.name,
        weights=family.weights_hash,
        data=data.hexdigest(),
        client=client.name,
        group=group,
        seed=seed,
        settings=json.dumps(settings, sort_keys=True),
        preprocessing=family.preprocessing.key,
    )


def cached_path(recipe: Recipe) -> Path:
    """Where the expert of a recipe lies, or would lie."""
    return cache_folder.cache_dir() / "experts" / f"{recipe.key}.safetensors"


def obtain(
    scenario: Scenario,
    client: Client,
    group: str,
    family: Family,
    task: Task,
    seed: int,
    on_step: OnStep = lambda done, total: None,
) -> tuple[nn.Module, bool]:
    """One client's expert: the given checkpoint, the cached file, or trained now.

    Args:
        scenario: what to train and how.
        client: whose expert.
        group: `A` or `B`; the half of the training images.
        family: the model.
        task: the client's task.
        seed: the scenario seed of this run.
        on_step: called with (steps done, all steps) while training.

    Returns:
        The encoder (float32, eval mode) and whether it was trained now.

    Raises:
        CheckpointError: the given checkpoint cannot be used.
        DataError: a class has no training image.
        RunError: training diverged.
    """
    if client.checkpoint is not None:
        encoder = family.encoder()
        encoder.load_state_dict(given(client, group, family))
        return encoder, False
    path = cached_path(recipe(scenario, client, group, family, task, seed))
    encoder = _start(scenario, client, group, family, seed)
    with suppress(OSError, SafetensorError):  # not there, or damaged: trained now
        encoder.load_state_dict(load_file(path))
        return encoder, False
    _train(encoder, scenario, client, group, family, task, seed, on_step)
    state = {k: v.contiguous().cpu() for k, v in encoder.state_dict().items()}
    if not all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point()):
        raise _diverged(client, "weights that are not finite")
    replace_atomically(path, lambda p: save_file(state, p))
    return encoder.cpu().eval().requires_grad_(False), True


def checkpoint(client: Client, group: str) -> str | None:
    """The file of an expert that a client brings, or None when it is to be trained."""
    return {str(g): path for g, path in (client.checkpoint or {}).items()}.get(group)


def prefix(client: Client, group: str) -> str | None:
    """Which encoder of that file is meant, or None where the client does not say."""
    return {str(g): name for g, name in (client.prefix or {}).items()}.get(group)


def given(client: Client, group: str, family: Family) -> dict[str, Tensor]:
    """The state dict of an expert that a client brings; the model's weights are not loaded.

    Raises:
        CheckpointError: the client's file or folder cannot be used.
    """
    path = Path(checkpoint(client, group) or "")
    what = f"checkpoint {plain(path.name)} of client {client.name!r}"
    try:
        return family.fitted(path, what, prefix(client, group))
    except CheckpointError as error:
        words = str(error)
        said = words if what in words else f"client {client.name!r}: {words}"
        raise CheckpointError(said, public_reason=error.public_reason) from error


def _start(scenario: Scenario, client: Client, group: str, family: Family, seed: int) -> nn.Module:
    if scenario.experts.origin == "shared":
        return family.encoder()
    return family.fresh_encoder(derived_seed(seed, "fresh-encoder", f"{client.name}/{group}"))


def _train(
    encoder: nn.Module,
    scenario: Scenario,
    client: Client,
    group: str,
    family: Family,
    task: Task,
    seed: int,
    on_step: OnStep,
) -> None:
    options = scenario.experts
    indices = task.indices(f"train-{group}")
    task.require_classes(f"train-{group}", indices)
    task.require_prompts(family.tokens)
    if options.batch_size == 1 and any(isinstance(m, _BatchNorm) for m in encoder.modules()):
        reason = f"experts.batch_size is 1, and {family.name} has BatchNorm; allowed: 2 and more"
        raise InputError.public(reason)
    where = device()
    images = task.pixels(indices, family.resize)
    labels = torch.from_numpy(task.labels(indices)).to(where)
    head = family.head(task.source.class_names, task.source.templates).to(where)
    encoder.to(where).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(
        encoder.parameters(), options.lr, weight_decay=options.weight_decay
    )
    generator = torch_generator(seed, "fine-tune", f"{client.name}/{group}")
    # BatchNorm cannot normalise a batch of one.
    starts = [s for s in range(0, len(indices), options.batch_size) if len(indices) - s > 1]
    steps, done = options.epochs * len(starts), 0
    for _ in range(options.epochs):
        order = torch.randperm(len(indices), generator=generator)
        for start in starts:
            chosen = order[start : start + options.batch_size]
            batch = family.normalise(images[chosen.numpy()]).to(where)
            for group_ in optimiser.param_groups:
                group_["lr"] = options.lr * warmup_cosine(done, steps, options.warmup)
            optimiser.zero_grad(set_to_none=True)
            logits = classify(encoder(batch), head)
            loss = nn.functional.cross_entropy(logits, labels[chosen.to(where)])
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), options.clip_norm)
            optimiser.step()
            done += 1
            on_step(done, steps)
        if not torch.isfinite(loss):
            raise _diverged(client, f"loss {float(loss.detach())}")


def _diverged(client: Client, sign: str) -> RunError:
    return RunError(
        f"client {client.name!r}: training diverged ({sign}); lower experts.lr",
        public_reason="its training diverged; lower experts.lr",
    )


def accuracy(encoder: nn.Module, task: Task, indices: np.ndarray, family: Family) -> float:
    """Accuracy in percent on the given images of the encoder's own task."""
    head = family.head(task.source.class_names, task.source.templates)
    logits = classify(encode(encoder, task.pixels(indices, family.resize), family), head)
    right = logits.argmax(dim=1).numpy() == task.labels(indices)
    return float(100.0 * right.mean())
