"""A model of three layers for golden tests: few numbers, every kind of entry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.merging.methods import StateDicts

SHAPES = {
    "conv.weight": (4, 3, 2, 2),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.running_mean": (4,),
    "bn.running_var": (4,),
    "fc.weight": (5, 4),
    "fc.bias": (5,),
    "logit_scale": (),
}


def state(seed: int) -> dict[str, Tensor]:
    """A state dict with random numbers; variances are above 0."""
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    found["bn.running_var"] = found["bn.running_var"].abs() + 0.5
    found["bn.num_batches_tracked"] = torch.tensor(seed)
    return found


def source(count: int = 4, seed: int = 0, spread: float = 0.1) -> StateDicts:
    """Experts around a checkpoint; `spread` is the size of their task vectors.

    Args:
        count: of experts, called `a`, `b` and so on.
        seed: of the checkpoint; each expert has one of its own.
        spread: task vectors are this times random numbers.
    """
    start = state(seed)
    models = {}
    for number in range(count):
        noise = state(1000 * (seed + 1) + number)
        one = {name: start[name] + spread * noise[name] for name in SHAPES}
        one["bn.running_var"] = one["bn.running_var"].clamp(min=0)
        models["abcdefghij"[number]] = one | {"bn.num_batches_tracked": torch.tensor(number)}
    return StateDicts(models, checkpoint=start, seed=seed)


def of(task_vectors: list[dict[str, Tensor]], start: dict[str, Tensor]) -> StateDicts:
    """Experts that have these task vectors."""
    models = {
        "abcdefghij"[i]: {name: start[name] + one[name] for name in start}
        for i, one in enumerate(task_vectors)
    }
    return StateDicts(models, checkpoint=start)


def starts(source: StateDicts) -> list[float]:
    """The checkpoint's parameters as one list of numbers, float64, in order of the entries."""
    return list(flat(_parameters(source.checkpoint)))


def vectors(source: StateDicts) -> list[list[float]]:
    """Every expert's task vector as one list of numbers, float64, in order of the entries."""
    start = starts(source)
    models = source.models.values()
    return [list(flat(_parameters(model)) - np.array(start)) for model in models]


def whole(source: StateDicts, parameters: Sequence[float]) -> list[float]:
    """Merged parameters, and among them the mean of every running statistic, in order."""
    rest, found = list(parameters), []
    for name, shape in source.entries.items():
        count = math.prod(shape)
        if "running_" in name:
            values = [model[name].double() for model in source.models.values()]
            found += (sum(values, torch.zeros(shape)) / len(values)).tolist()
        else:
            found, rest = found + rest[:count], rest[count:]
    assert not rest
    return found


def _parameters(model: object) -> dict[str, Tensor]:
    assert isinstance(model, Mapping)
    return {name: value for name, value in model.items() if "running_" not in name}


def flat(model: object) -> NDArray[np.float64]:
    """All floating numbers of a state dict, float64, in order of the entries."""
    assert isinstance(model, Mapping)
    kept = [value.double().flatten() for value in model.values() if value.is_floating_point()]
    return torch.cat(kept).numpy()


def close(merged: dict[str, Tensor], wanted: object, tolerance: float = 1e-5) -> bool:
    """Whether a merged model has these numbers, in order of the entries."""
    return bool(np.allclose(flat(merged), np.asarray(wanted), rtol=0, atol=tolerance))


def same(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-6) -> bool:
    """Whether two merged models are equal up to rounding."""
    return close(first, flat(second), tolerance)


def same_parameters(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two merged models are equal up to rounding, whatever became of running statistics."""
    return close(_parameters(first), flat(_parameters(second)), 1e-6)


def permuted(source: StateDicts, order: list[int]) -> StateDicts:
    """The same experts in another order."""
    names = [list(source.models)[i] for i in order]
    models = {name: source.models[name] for name in names}
    return StateDicts(models, checkpoint=source.checkpoint, seed=source.seed)


def flipped(source: StateDicts) -> StateDicts:
    """Experts on the other side of the checkpoint: their task vectors have the other sign."""
    return scaled(source, -1.0)


def scaled(source: StateDicts, factor: float) -> StateDicts:
    """Experts whose task vectors are longer by a factor."""
    assert source.checkpoint is not None
    start = source.checkpoint
    models = {}
    for expert, model in source.models.items():
        moved = {name: start[name] + factor * (model[name] - start[name]) for name in SHAPES}
        models[expert] = dict(model) | moved
    return StateDicts(models, checkpoint=start, seed=source.seed)
