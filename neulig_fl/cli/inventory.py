"""What can stand in a scenario, as data: built-in tasks, bundled models, their accuracies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neulig_fl.data.sources import source_hash

if TYPE_CHECKING:
    from neulig_fl.data.sources import Task
    from neulig_fl.models.accuracy_card import Means, Measured

OWN_TASKS = {
    "imagefolder": ("parts", "root: path/to/folder", "images of your own, one folder a class"),
    "torchvision": ("roads", "dataset: GTSRB, download: true", "a data set of torchvision"),
    "huggingface": (
        "pets",
        "dataset: timm/oxford-iiit-pet, download: true",
        "a data set of the Hugging Face Hub",
    ),
}
"""Sources that are no task by themselves: a name for one, the keys it needs, what it reads."""


@dataclass(frozen=True)
class ListedTask:
    """A built-in task.

    Args:
        name: as in a scenario.
        task: opened; None where its files are not there.
        missing: what is not there and how to get it.
        measured: the accuracies of each micro model; None where they were not measured.
    """

    name: str
    task: Task | None
    missing: str
    measured: Mapping[str, Measured | None]

    @property
    def counts(self) -> dict[str, int]:
        """Classes, images, and images of every split; empty where its files are not there."""
        from neulig_fl.data.sources import SPLITS

        if self.task is None:
            return {}
        whole = {
            "classes": len(self.task.source.class_names),
            "images": len(self.task.source.ids()),
        }
        return whole | {name: len(self.task.indices(name)) for name in SPLITS}

    def record(self) -> dict[str, Any]:
        """The task as plain JSON values."""
        if self.task is None:
            return {"task": self.name, "missing": self.missing}
        counts, source = self.counts, self.task.source
        return {
            "task": self.name,
            "missing": None,
            "summary": source.summary,
            "classes": list(source.class_names),
            "templates": list(source.templates),
            "images": counts.pop("images"),
            "splits": {name: count for name, count in counts.items() if name != "classes"},
            "seed": self.task.seed,
            "accuracy": {model: _accuracies(m) for model, m in self.measured.items()},
        }


def listed_tasks(seed: int) -> Iterator[ListedTask]:
    """Every built-in task, split for one seed; those whose files are not there too."""
    from neulig_fl.config.schema import MICRO_MODELS
    from neulig_fl.config.tasks import built_in_tasks
    from neulig_fl.core.errors import InputError
    from neulig_fl.data.sources import opened
    from neulig_fl.models import accuracy_card

    card = accuracy_card.read()
    weights = {model: accuracy_card.bundled_weights(model) or "" for model in MICRO_MODELS}
    for name in built_in_tasks():
        try:
            task = opened(name, None, seed)
            data = source_hash(task.source)  # wants the files
        except InputError as error:
            yield ListedTask(name, None, str(error), dict.fromkeys(MICRO_MODELS))
            continue
        found = {model: card.find(model, of, name, data) for model, of in weights.items()}
        yield ListedTask(name, task, "", found)


@dataclass(frozen=True)
class MicroModel:
    """One of the models that come with neulig-fl.

    Args:
        name: as in a scenario.
        entries: floating state-dict entries of its visual tower; what `parameters` releases.
        image_size: height and width of its input.
        dim: length of a feature.
        file_bytes: size of its weights' file; None where there is none.
        weights: SHA-256 of that file.
        means: its accuracies over the tasks on which they were measured; None over no task.
    """

    name: str
    entries: int
    image_size: int
    dim: int
    file_bytes: int | None
    weights: str | None
    means: Means | None

    def record(self) -> dict[str, Any]:
        """The model as plain JSON values."""
        means = self.means
        return {
            "model": self.name,
            "visual_entries": self.entries,
            "image_size": self.image_size,
            "features": self.dim,
            "file_bytes": self.file_bytes,
            "sha256": self.weights,
            "accuracy": means
            and {
                "tasks": means.tasks,
                "zero_shot": means.zero_shot,
                "expert": means.expert,
                "from_scratch": means.scratch,
            },
        }


def micro_models() -> Iterator[MicroModel]:
    """The models that come with neulig-fl."""
    import math

    from neulig_fl.config.scenario import MICRO_MODELS, Model
    from neulig_fl.models import accuracy_card
    from neulig_fl.models.families import open_family

    tasks = list(listed_tasks(0))
    for name in MICRO_MODELS:
        family = open_family(Model(name=name, pretrained="none"), 0)
        file, weights = accuracy_card.MICRO / f"{name}.safetensors", None
        if file.is_file():
            weights = accuracy_card.bundled_weights(name)
        measured = [m for each in tasks if (m := each.measured[name])]
        yield MicroModel(
            name=name,
            entries=sum(math.prod(shape) for shape in family.entries().values()),
            image_size=family.image_size,
            dim=family.dim,
            file_bytes=file.stat().st_size if weights else None,
            weights=weights,
            means=accuracy_card.means(measured),
        )


def _accuracies(measured: Measured | None) -> dict[str, Any] | None:
    from neulig_fl.models.accuracy_card import mean

    if measured is None:
        return None
    scratch = measured.diverse
    return {
        "zero_shot": mean(measured.zero_shot),
        "expert": mean(measured.shared.accuracy),
        "from_scratch": mean(scratch.accuracy) if scratch else None,
        "seeds": measured.seeds,
    }
