"""DARE: drop and rescale, then merge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import three_layers as model
import torch

from neulig_fl.core.errors import InputError
from neulig_fl.core.randomness import torch_generator
from neulig_fl.merging.methods import StateDicts, merged


def masks(source: StateDicts, drop: float) -> list[list[bool]]:
    """What every client keeps: one draw a number, in order of the entries."""
    size = len(model.starts(source))
    found = []
    for client in source.experts:
        generator = torch_generator(source.seed, "merge-dare", client)
        found.append([float(torch.rand((), generator=generator)) >= drop for _ in range(size)])
    return found


def dropped(source: StateDicts, drop: float) -> list[list[float]]:
    """Equation 2 and 3 of the paper: masked task vectors, scaled up, float64."""
    return [
        [x / (1 - drop) if kept else 0.0 for x, kept in zip(vector, mask, strict=True)]
        for vector, mask in zip(model.vectors(source), masks(source, drop), strict=True)
    ]


def slow_ties(vectors: list[list[float]], density: float) -> list[float]:
    """What TIES with the mean makes of vectors, one number at a time."""
    size = len(vectors[0])
    trimmed = []
    for vector in vectors:
        least = sorted(abs(x) for x in vector)[max(1, size - int(size * density)) - 1]
        trimmed.append([x if abs(x) >= least else 0.0 for x in vector])
    found = []
    for place in range(size):
        values = [vector[place] for vector in trimmed]
        agreeing = [x for x in values if x * sum(values) > 0]
        found.append(sum(agreeing) / max(1, len(agreeing)))
    return found


@pytest.mark.parametrize("piece", [1, 7, 2**20])
@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9])
def test_dare_with_task_arithmetic_is_the_papers(
    drop: float, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule would not be the paper's, or the masks would depend on how the entries are cut."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(4, seed=3)
    total = np.sum(dropped(source, drop), axis=0)
    wanted = model.whole(source, list(np.array(model.starts(source)) + 0.3 * total))
    assert model.close(merged("dare", source, drop=drop), wanted)


@pytest.mark.parametrize("piece", [7, 2**20])
@pytest.mark.parametrize("drop", [0.3, 0.9])
def test_dare_with_ties_is_the_papers(
    drop: float, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trimming would see other masks than merging, or other numbers than the paper's."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(4, seed=5)
    total = np.array(slow_ties(dropped(source, drop), 0.3))
    wanted = model.whole(source, list(np.array(model.starts(source)) + total))
    assert model.close(merged("dare", source, drop=drop, then="ties", density=0.3), wanted)


@pytest.mark.parametrize(
    ("then", "plain"), [("task-arithmetic", "task-arithmetic"), ("ties", "ties")]
)
def test_with_nothing_dropped_it_is_what_follows(then: str, plain: str) -> None:
    """Without dropping, something else would change the task vectors, or lambda would differ."""
    source = model.source(4)
    found = merged("dare", source, drop=0.0, then=then)
    assert model.same_parameters(found, merged(plain, source))


def test_a_given_lambda_is_used_in_both() -> None:
    """The option lambda would be read for one of the two methods only."""
    source = model.source(4)
    for then in ("task-arithmetic", "ties"):
        options = {"lambda": 0.7}
        found = merged("dare", source, drop=0.0, then=then, **options)
        assert model.same_parameters(found, merged(then, source, **options))
        assert not model.same_parameters(found, merged(then, source))


def test_it_is_the_task_vector_on_average() -> None:
    """What is kept would not be scaled up, so that the merged model lies nearer to theta_0."""
    start = {"w": torch.zeros(200_000)}
    vector = {"w": torch.ones(200_000)}
    found = merged("dare", model.of([vector, vector], start), drop=0.9, **{"lambda": 0.5})
    assert found["w"].mean() == pytest.approx(1.0, abs=0.03)
    assert (found["w"] == 0).float().mean() == pytest.approx(0.81, abs=0.01)


def test_order_of_the_clients_does_not_matter() -> None:
    """A client's mask would depend on its place."""
    source = model.source(4)
    for then in ("task-arithmetic", "ties"):
        found = merged("dare", model.permuted(source, [3, 1, 0, 2]), then=then)
        assert model.same(found, merged("dare", source, then=then))


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("dare", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


def test_masks_follow_the_seed_and_the_name() -> None:
    """All clients, or all seeds, would drop the same numbers."""
    source = model.source(2)
    other = StateDicts(source.models, checkpoint=source.checkpoint, seed=source.seed + 1)
    assert not model.same(merged("dare", source), merged("dare", other))
    first, second = masks(source, 0.5)
    assert first != second


def test_scale_and_sign() -> None:
    """Longer or flipped task vectors would not give a longer or flipped merged one."""
    source = model.source(4, spread=0.01)
    start = model.flat(source.checkpoint)
    for then in ("task-arithmetic", "ties"):
        plain = model.flat(merged("dare", source, then=then)) - start
        for factor in (-1.0, 2.5):
            found = merged("dare", model.scaled(source, factor), then=then)
            assert model.close(found, start + factor * plain)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"drop": 1.0}, r"drop of dare.*got 1\.0.*at least 0, below 1"),
        ({"drop": -0.1}, "drop of dare"),
        ({"then": "slerp"}, "then of dare.*allowed: task-arithmetic, ties"),
        ({"density": 0.0}, "density of dare"),
        ({"p": 0.5}, "no option 'p'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=match):
        merged("dare", model.source(), **options)
