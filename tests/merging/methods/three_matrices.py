"""A model of three weight matrices for golden tests, with and without convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neulig_fl.merging.methods import StateDicts

LINEAR = {
    "conv1.weight": (4, 2, 2, 2),
    "first.weight": (6, 5),
    "second.weight": (5, 7),
    "proj": (7, 4),
    "second.bias": (5,),
    "logit_scale": (),
}
"""One convolution, a ViT's patch embedding; matrices that are wide, tall, and used as x @ W."""

CONVOLUTIONS = {
    "conv1.weight": (4, 2, 2, 2),
    "conv2.weight": (6, 4, 1, 1),
    "bn.weight": (6,),
    "bn.running_mean": (6,),
    "bn.running_var": (6,),
    "fc.weight": (5, 6),
    "fc.bias": (5,),
}

Shapes = Mapping[str, tuple[int, ...]]
State = dict[str, Tensor]


def state(shapes: Shapes, seed: int) -> State:
    """A state dict of random numbers; variances are above 0."""
    generator = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {k: v.abs() + 0.5 if k.endswith("running_var") else v for k, v in found.items()}


def source(shapes: Shapes, count: int = 3, seed: int = 0, spread: float = 0.1) -> StateDicts:
    """Experts around a checkpoint.

    Args:
        shapes: of the entries.
        count: of experts.
        seed: of the checkpoint; each expert has one of its own.
        spread: task vectors are this times random numbers.
    """
    start = state(shapes, seed)
    noise = [state(shapes, 1000 * (seed + 1) + i) for i in range(count)]
    return moved(start, [{k: spread * v for k, v in each.items()} for each in noise])


def moved(start: State, vectors: Sequence[State]) -> StateDicts:
    """The experts that have these task vectors."""
    models = {
        "abcdefghij"[i]: {name: start[name] + one[name] for name in start}
        for i, one in enumerate(vectors)
    }
    return StateDicts(models, start)


def vectors(source: StateDicts, factor: float = 1.0) -> list[State]:
    """Every expert's task vector, times a factor."""
    start = source.checkpoint
    assert start is not None
    return [{k: factor * (v - start[k]) for k, v in one.items()} for one in source.models.values()]


def array(value: Tensor) -> NDArray[np.float64]:
    """In float64, as a NumPy array."""
    return value.double().numpy()


def slow(
    source: StateDicts,
    matrices: Sequence[str],
    weight: float,
    rule: Callable[[list[NDArray[np.float64]]], NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """theta_0 + weight x the rule's matrix of all task vectors, float64; the rest is averaged."""
    found = {}
    assert source.checkpoint is not None
    for name, start in source.checkpoint.items():
        taus = [array(m[name]) - array(start) for m in source.models.values()]
        change = rule(taus) if name in matrices else sum(taus[1:], taus[0]) / len(taus)
        found[name] = array(start) + weight * change
    return found


def close(first: Mapping[str, Tensor], second: Mapping[str, object], atol: float = 1e-5) -> bool:
    """Whether two models have the same entries and the same numbers."""
    assert list(first) == list(second)
    return all(np.allclose(array(v), np.asarray(second[k]), 0, atol) for k, v in first.items())


def orthonormal(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    """A matrix with orthonormal columns."""
    draw = np.random.default_rng(seed).standard_normal((rows, columns))
    return np.linalg.qr(draw)[0]


def steep(rows: int, columns: int, decades: float, seed: int = 0) -> State:
    """One weight whose singular values fall from 1 by so many decades, evenly, as float32."""
    size = min(rows, columns)
    left, right = orthonormal(rows, size, seed), orthonormal(columns, size, seed + 1)
    return {"w": torch.from_numpy(left * np.logspace(0, -decades, size) @ right.T).float()}


def of_vectors(*vectors: State) -> StateDicts:
    """Experts that have exactly these task vectors: theta_0 is 0, so that nothing is rounded."""
    return moved({name: torch.zeros_like(value) for name, value in vectors[0].items()}, vectors)
