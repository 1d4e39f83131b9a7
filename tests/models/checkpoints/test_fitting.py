"""Whether a checkpoint fits a module, and how far apart two of them are."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neulig_fl.core.errors import CheckpointError
from neulig_fl.models import checkpoints
from neulig_fl.models.checkpoints import StoredTensor
from neulig_fl.models.checkpoints.closeness import pairs
from neulig_fl.models.checkpoints.fitting import differences, load, under

WHAT = "checkpoint own.pt of client 'ada'"


def _module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def _entries(state: dict[str, Tensor]) -> dict[str, StoredTensor]:
    return {k: StoredTensor(tuple(v.shape), v.dtype, v.clone) for k, v in state.items()}


def _changed(change: Any) -> dict[str, StoredTensor]:
    state = dict(_module().state_dict())
    change(state)
    return _entries(state)


def _loaded(change: Any) -> dict[str, Tensor]:
    dtypes = {k: v.dtype for k, v in _module().state_dict().items()}
    return load(_changed(change), dtypes, WHAT)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s, []),
        (lambda s: s.pop("0.bias"), ["missing: 0.bias"]),
        (lambda s: s.update(w=torch.zeros(1)), ["extra: w"]),
        (
            lambda s: s.update({"0.weight": torch.zeros(2, 3)}),
            ["wrong shape: 0.weight (2, 3) instead of (3, 2)"],
        ),
        (
            lambda s: (s.clear(), s.update(x=torch.zeros(1))),
            ["missing: 0.weight, 0.bias, 1.weight and 4 more", "extra: x"],
        ),
    ],
    ids=["none", "missing", "extra", "misshapen", "another model"],
)
def test_differences_are_named(change: Any, expected: list[str]) -> None:
    """Without it weights of another architecture would be loaded in part, or not explained."""
    shapes = {k: tuple(v.shape) for k, v in _module().state_dict().items()}
    assert differences(_changed(change), shapes) == expected


@pytest.mark.parametrize(
    ("held", "prefix"),
    [
        (["a", "b.c"], ""),
        (["x.a", "x.b.c", "y.a"], "x."),
        (["module.x.visual.a", "module.x.visual.b.c", "module.x.a"], "module.x.visual."),
        (["x.a", "x.b.c", "a", "b.c"], ""),
        (["z"], ""),
        ([], ""),
    ],
)
def test_a_model_is_found_whatever_it_was_wrapped_in(held: list[str], prefix: str) -> None:
    """Without it DataParallel's, task_vectors' and whole CLIP's names would each need a rule."""
    entries = _entries({name: torch.zeros(1) for name in held})
    found, below = under(entries, ["a", "b.c"])
    assert found == prefix
    assert list(below) == [name.removeprefix(prefix) for name in held if name.startswith(prefix)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    """Without it every merge with this expert would be NaN."""
    with pytest.raises(CheckpointError, match=r"own\.pt .*not finite: 0\.bias") as caught:
        _loaded(lambda s: s.update({"0.bias": torch.tensor([0.0, value, 0.0])}))
    assert caught.value.public_reason == "its checkpoint holds values that are not finite"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_cast_to_the_modules(kind: torch.dtype) -> None:
    """Without it an fp16 checkpoint would make an fp16 expert beside float32 ones."""
    found = _loaded(
        lambda s: s.update({k: v.to(kind) for k, v in s.items() if v.is_floating_point()})
    )
    assert {v.dtype for v in found.values()} == {torch.float32, torch.int64}


def test_what_overflows_in_the_cast_is_not_hidden() -> None:
    """Without it a float64 value beyond float32 would become infinite unseen."""
    with pytest.raises(CheckpointError, match=r"not finite: 0\.bias"):
        _loaded(lambda s: s.update({"0.bias": torch.full((3,), 1e300, dtype=torch.float64)}))


@pytest.mark.parametrize(
    "kind", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64]
)
def test_quantised_weights_are_refused(kind: torch.dtype) -> None:
    """Without it integers would be taken for weights, as large as they are."""
    name = str(kind).removeprefix("torch.")
    with pytest.raises(
        CheckpointError, match=rf"holds 0\.bias as {name}; allowed: float16, .*quantised model"
    ) as caught:
        _loaded(lambda s: s.update({"0.bias": torch.ones(3).to(kind)}))
    assert caught.value.public_reason == "its checkpoint does not fit the scenario's model"


def test_a_quantised_torch_file_says_that_it_is(tmp_path: Path) -> None:
    """Without it PyTorch's own quantised weights would be an error about code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their age
        weight = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    torch.save({"w": weight}, tmp_path / "q.pt")
    entries = checkpoints.read(tmp_path / "q.pt").entries
    with pytest.raises(CheckpointError, match="holds w as qint8"):
        load(entries, {"w": torch.float32}, WHAT)


@pytest.mark.parametrize(("mean", "count"), [(3.0, 3), (101.6, 102)])
def test_a_count_stays_a_count(mean: float, count: int) -> None:
    """Without it the mean of several checkpoints, counters and all, would be called quantised."""
    held = _loaded(lambda s: s.update({"1.num_batches_tracked": torch.tensor(mean)}))
    assert held["1.num_batches_tracked"].item() == count
    assert held["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize(("wrong", "words"), [(float("nan"), "not finite: 1.num_b"), (1j, "int")])
def test_what_is_no_count_is_refused(wrong: complex, words: str) -> None:
    """Without it a broken counter would be loaded as some number."""
    with pytest.raises(CheckpointError, match=words):
        _loaded(lambda s: s.update({"1.num_batches_tracked": torch.as_tensor(wrong)}))


def test_a_file_that_changes_while_it_is_read_says_so(tmp_path: Path) -> None:
    """Without it a file cut short or removed meanwhile would be an unexpected error."""
    path = tmp_path / "own.pt"
    torch.save({"w": torch.ones(9)}, path)
    entries = checkpoints.read(path).entries
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"cannot be read at w .*ends within a tensor"):
        load(entries, {"w": torch.float32}, WHAT)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be read at w .*No such file"):
        load(entries, {"w": torch.float32}, WHAT)


# ---------------------------------------------------------------- distances


def test_distances_are_those_of_whole_vectors() -> None:
    """Without it the figures would be those of one entry, or of something else."""
    torch.manual_seed(0)
    states = [{"a": torch.randn(3, 4), "n": torch.tensor(7), "b": torch.randn(5)} for _ in range(3)]
    flat = [torch.cat([s["a"].flatten(), s["b"]]).double() for s in states]
    found = pairs([_entries(s) for s in states], ["x", "y", "z"])
    assert [(p.first, p.second) for p in found] == [(0, 1), (0, 2), (1, 2)]
    for pair in found:
        one, other = flat[pair.first], flat[pair.second]
        expected = (one - other).norm() / ((one + other) / 2).norm()
        assert pair.distance == pytest.approx(float(expected), rel=1e-6)
        angle = torch.nn.functional.cosine_similarity(one, other, dim=0)
        assert pair.cosine == pytest.approx(float(angle), rel=1e-6)


def test_the_ends_of_the_scale() -> None:
    """Without it 0 would not be the same weights, or 2 not what is said of it."""
    one, other = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
    same, apart = (pairs([_entries({"a": one}), _entries({"a": b})], "xy")[0] for b in (one, other))
    assert (same.distance, same.cosine) == (0.0, pytest.approx(1.0))
    assert (apart.distance, apart.cosine) == (pytest.approx(2.0), 0.0)
    none = pairs([_entries({"a": torch.zeros(2)})] * 2, "xy")[0]
    assert none.distance == 0.0
    assert math.isnan(none.cosine)
    half = pairs([_entries({"a": one}), _entries({"a": one.half()})], "xy")[0]
    assert half.distance == 0.0
