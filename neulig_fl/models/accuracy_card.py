"""The accuracy card: how good the bundled models are on the offline tasks, as it was measured.

`benchmarks/micro_accuracy.py` measures and writes it; `neulig-fl tasks` and `neulig-fl models` show
it. A figure holds for the weights and the images that it was measured with, and for no others: a
look-up with another hash of either finds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, ValidationError, model_validator

from neulig_fl.core.errors import InputError
from neulig_fl.core.files import sha256, write_atomically
from neulig_fl.models.families._bundled import FOLDER

MICRO = FOLDER
FILE = MICRO / "accuracy.json"

EXPERT_LEAST, EXPERT_MEAN_LEAST, HEADROOM, SCRATCH_MEAN_LEAST = 90.0, 93.0, 15.0, 80.0
"""What good experts are made of: per cent, and for `HEADROOM` percentage points."""

Percent = Annotated[float, Field(ge=0, le=100), AllowInfNan(False)]
Seconds = Annotated[float, Field(ge=0), AllowInfNan(False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Training(_Part):
    """Experts of one origin on one task, one for each seed.

    Args:
        epochs: passes over the training half.
        lr: AdamW's largest learning rate.
        batch_size: images in a step.
        weight_decay: AdamW's decoupled weight decay.
        accuracy: per cent on the evaluation images, in the order of the seeds.
        seconds: how long the training took; None where the expert came from the cache.
    """

    epochs: int
    lr: float
    batch_size: int
    weight_decay: float
    accuracy: list[Percent]
    seconds: list[Seconds | None]


class Measured(_Part):
    """One model on one task. Lists are in the order of the seeds.

    Args:
        data: hash of the task's images, labels and prompts, as `data.sources.source_hash` gives it.
        classes: how many.
        seeds: of the splits and of the training.
        n_eval: evaluation images.
        zero_shot: accuracy of the checkpoint with the text head, per cent.
        shared: experts fine-tuned from the checkpoint.
        diverse: experts trained from scratch; None if not measured.
    """

    data: str
    classes: Annotated[int, Field(ge=2)]
    seeds: Annotated[list[int], Field(min_length=1)]
    n_eval: list[int]
    zero_shot: list[Percent]
    shared: Training
    diverse: Training | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Measured:
        lists: list[Sequence[object]] = [self.n_eval, self.zero_shot]
        for training in (self.shared, self.diverse):
            lists += [training.accuracy, training.seconds] if training else []
        if any(len(each) != len(self.seeds) for each in lists):
            raise ValueError("every list must have one value for each seed")
        return self

    @property
    def chance(self) -> float:
        """Accuracy of guessing, per cent."""
        return 100.0 / self.classes


class ModelCard(_Part):
    """One model on its tasks.

    Args:
        weights: SHA-256 of the weights' file.
        tasks: what was measured, by task.
    """

    weights: str
    tasks: dict[str, Measured]


class Card(_Part):
    """Everything that was measured, by model."""

    schema_version: Literal[1] = 1
    models: dict[str, ModelCard] = {}

    def find(self, model: str, weights: str, task: str, data: str) -> Measured | None:
        """What was measured for a task, if it was measured with these weights and these images."""
        card = self.models.get(model)
        found = card.tasks.get(task) if card and card.weights == weights else None
        return found if found and found.data == data else None

    def with_measured(self, model: str, weights: str, task: str, measured: Measured) -> Card:
        """The card with one more entry; entries of the model's other weights are left out."""
        card = self.models.get(model)
        kept = dict(card.tasks) if card and card.weights == weights else {}
        entry = ModelCard(weights=weights, tasks={**kept, task: measured})
        return self.model_copy(update={"models": {**self.models, model: entry}})


def read(path: Path = FILE) -> Card:
    """Read a card; an empty one if there is no such file.

    Raises:
        InputError: the file is not a card.
    """
    if not path.is_file():
        return Card()
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path}: not an accuracy card ({where}: {first['msg']}); remove it, and measure again "
            "with benchmarks/micro_accuracy.py"
        ) from error


def write(card: Card, path: Path = FILE) -> Path:
    """Write a card as JSON, models and tasks in alphabetical order.

    Raises:
        RunError: the file cannot be written.
    """
    models = {
        name: entry.model_copy(update={"tasks": dict(sorted(entry.tasks.items()))})
        for name, entry in sorted(card.models.items())
    }
    ordered = card.model_copy(update={"models": models})
    return write_atomically(path, ordered.model_dump_json(indent=1) + "\n")


@cache
def bundled_weights(model: str) -> str | None:
    """SHA-256 of a micro model's file in the package; None where there is none."""
    file = MICRO / f"{model}.safetensors"
    return sha256(file) if file.is_file() else None


def mean(values: Sequence[float]) -> float:
    """The mean of values of which there is at least one."""
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Means:
    """Means over tasks, each task's over its seeds first; per cent.

    Args:
        tasks: how many.
        zero_shot: of the checkpoint.
        expert: of the experts of shared origin.
        scratch: of those trained from scratch; None unless every task has one.
    """

    tasks: int
    zero_shot: float
    expert: float
    scratch: float | None


def means(measured: Sequence[Measured]) -> Means | None:
    """The means over some tasks; None over no task."""
    if not measured:
        return None
    scratch = [mean(each.diverse.accuracy) for each in measured if each.diverse]
    return Means(
        tasks=len(measured),
        zero_shot=mean([mean(each.zero_shot) for each in measured]),
        expert=mean([mean(each.shared.accuracy) for each in measured]),
        scratch=mean(scratch) if len(scratch) == len(measured) else None,
    )


@dataclass(frozen=True)
class Goal:
    """One thing that good experts are made of.

    Args:
        words: what is wanted.
        holds: whether it is so; None if it was not measured.
        found: what was found instead, or how it was met.
    """

    words: str
    holds: bool | None
    found: str


def goals(measured: Mapping[str, Measured]) -> list[Goal]:
    """Whether one model's experts are good enough to do science with.

    Args:
        measured: by task; at least one.
    """
    over = means(list(measured.values()))
    if over is None:
        return []
    experts = {name: mean(each.shared.accuracy) for name, each in measured.items()}
    above = {name: mean(each.zero_shot) - each.chance for name, each in measured.items()}
    gap, scratch = over.expert - over.zero_shot, over.scratch
    return [
        _lowest(f"each expert >= {EXPERT_LEAST:g}", experts, EXPERT_LEAST),
        Goal(
            f"expert mean >= {EXPERT_MEAN_LEAST:g}",
            over.expert >= EXPERT_MEAN_LEAST,
            f"{over.expert:.2f}",
        ),
        Goal(f"zero-shot mean {HEADROOM:g} points below", gap >= HEADROOM, f"{gap:.2f} below"),
        _lowest("zero-shot above chance on each task", above, 0.0, strict=True),
        Goal(
            f"from-scratch mean >= {SCRATCH_MEAN_LEAST:g}",
            None if scratch is None else scratch >= SCRATCH_MEAN_LEAST,
            "not measured" if scratch is None else f"{scratch:.2f}",
        ),
    ]


def _lowest(words: str, values: Mapping[str, float], least: float, strict: bool = False) -> Goal:
    """A goal that every task must meet; names those that do not, or else the lowest."""
    below = [name for name, v in values.items() if v < least or (strict and v == least)]
    shown = below or [min(values, key=lambda name: values[name])]
    told = ", ".join(f"{name} {values[name]:.2f}" for name in shown)
    return Goal(words, not below, told if below else f"lowest: {told}")
