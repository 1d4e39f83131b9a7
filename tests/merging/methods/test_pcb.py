"""PCB-Merging: balance, drop, rescale."""

from __future__ import annotations

import math
from typing import Any

import pytest
import three_layers as model
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neulig_fl.core.errors import InputError
from neulig_fl.merging.methods import StateDicts, merged


def slow(source: StateDicts, ratio: float, weight: float, clip: float) -> list[float]:
    """The rule of the paper's code, one number at a time, float64."""
    vectors = model.vectors(source)
    size, experts = len(vectors[0]), len(vectors)
    clipped, weights = [], []
    for vector in vectors:
        order = sorted(abs(x) for x in vector)
        low, high = order[int(size * clip)], order[int(size * (1 - clip) - 1)]
        magnitudes = [min(max(abs(x), low), high) for x in vector]
        clipped.append([math.copysign(m, x) for m, x in zip(magnitudes, vector, strict=True)])
        scores = []
        for place, x in enumerate(vector):
            within = math.exp(experts * ((magnitudes[place] - low) / (high - low)) ** 2)
            across = math.tanh(x * sum(other[place] for other in vectors))
            scores.append(within * across)
        order = sorted(scores)
        least, most = order[min(size - 1, int(size * (1 - ratio)))], order[-1]
        weights.append([(max(score, least) - least) / (most - least) for score in scores])
    found = []
    for place, start in enumerate(model.starts(source)):
        total = sum(w[place] for w in weights)
        mixed = sum(w[place] * c[place] for w, c in zip(weights, clipped, strict=True))
        found.append(start + weight * mixed / max(total, 1e-12))
    return model.whole(source, found)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(2, 6),
    seed=st.integers(0, 99),
    ratio=st.sampled_from([0.05, 0.1, 0.3, 0.7]),
    clip=st.sampled_from([0.0, 0.0001, 0.01, 0.1]),
)
def test_pcb_is_the_papers(count: int, seed: int, ratio: float, clip: float) -> None:
    """A score, a quantile or the weighted mean would not be that of the paper's code."""
    source = model.source(count, seed=seed, spread=0.3)
    found = merged("pcb", source, ratio=ratio, clip=clip, **{"lambda": 0.9})
    assert model.close(found, slow(source, ratio, 0.9, clip))


@pytest.mark.parametrize("piece", [1, 7, 2**20])
def test_the_defaults_are_those_of_the_docstring(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default would be another, or the quantiles would be those of pieces."""
    monkeypatch.setattr("neulig_fl.merging.methods._entrywise.PIECE", piece)
    source = model.source(5, seed=2)
    assert model.close(merged("pcb", source), slow(source, 0.05, 1.2, 0.0001))


def test_the_default_clips_one_number_in_ten_thousand() -> None:
    """The default would be the 0.01 of the vision experiments, or nothing would be clipped."""
    generator = torch.Generator().manual_seed(0)
    vectors = [{"w": torch.randn(20_000, generator=generator)} for _ in range(2)]
    source = model.of(vectors, {"w": torch.zeros(20_000)})
    found = merged("pcb", source)
    assert model.close(found, slow(source, 0.05, 1.2, 0.0001))
    for other in (0.0, 0.01):
        assert not model.close(found, merged("pcb", source, clip=other)["w"])


def test_little_is_kept() -> None:
    """What scores low would stay in the merged model."""
    source = model.source(4)
    found, start = merged("pcb", source, ratio=0.1), source.checkpoint
    assert start is not None
    names = [name for name in model.SHAPES if "running" not in name]
    changed = sum(int((found[name] != start[name]).sum()) for name in names)
    assert 0 < changed <= 4 * math.ceil(0.1 * len(model.starts(source)))


def test_identical_experts_keep_their_largest_numbers() -> None:
    """Where all agree the mean would not be their own number."""
    start = {"w": torch.zeros(100)}
    vector = {"w": torch.arange(1.0, 101) / 100}
    found = merged("pcb", model.of([vector] * 3, start), ratio=0.1, clip=0.0, **{"lambda": 1.0})
    kept = found["w"].nonzero().flatten().tolist()
    assert kept == list(range(91, 100))
    assert torch.allclose(found["w"][91:99], vector["w"][91:99])


def test_a_vector_without_differences_weighs_nothing() -> None:
    """An expert that is theta_0 itself would make the merged model NaN."""
    start = {"w": torch.ones(6)}
    still = {"w": torch.zeros(6)}
    moved = {"w": torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, 0.6])}
    alone = merged("pcb", model.of([still, still], start), ratio=0.5)
    assert alone["w"].tolist() == [1.0] * 6
    beside = merged("pcb", model.of([moved, still], start), ratio=0.5, clip=0.0, **{"lambda": 1.0})
    assert beside["w"].tolist() == pytest.approx([1, 1, 1, 1, 1.5, 1.6])


def test_many_experts_do_not_overflow() -> None:
    """exp(T) would be infinite in float32 from 89 experts on, and the merged model NaN."""
    generator = torch.Generator().manual_seed(0)
    start = {"w": torch.zeros(50)}
    models = {f"c{i}": {"w": torch.randn(50, generator=generator)} for i in range(100)}
    found = merged("pcb", StateDicts(models, checkpoint=start), ratio=0.2)
    assert found["w"].isfinite().all()


def test_sign_and_order() -> None:
    """Flipped or permuted task vectors would not give the same merged one."""
    source = model.source(4, spread=0.02)
    start = model.flat(source.checkpoint)
    plain = model.flat(merged("pcb", source)) - start
    assert model.close(merged("pcb", model.flipped(source)), start - plain)
    assert model.same(merged("pcb", model.permuted(source, [1, 3, 0, 2])), merged("pcb", source))


def test_running_statistics_are_averaged() -> None:
    """A running variance would fall near 0 or below, and one channel would drown all others."""
    source = model.source(3, spread=5.0)
    found, mean = merged("pcb", source), merged("simple-average", source)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(found[name], mean[name])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ratio": 0.0}, "ratio of pcb.*0.0"),
        ({"ratio": 1.5}, "ratio of pcb.*1.5"),
        ({"clip": 0.5}, "clip of pcb.*0.5"),
        ({"density": 0.1}, "no option 'density'; allowed: ratio, lambda, clip"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    """A bad option would be used, or not be named."""
    with pytest.raises(InputError, match=match):
        merged("pcb", model.source(), **options)
