"""benchmarks/offset_sum_bits.py: what a rounded sum tells, counted on cases that can be told by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neulig_fl.records.offset_sum import rounded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script, which finds the modules beside it as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        yield import_module("offset_sum_bits")


def test_candidates_that_round_alike_are_guessed_among(script: ModuleType) -> None:
    """Without it the page would say that a checkpoint is named when it is one of several."""
    same, apart = np.array([3.0, 3.0]), np.array([-1.0, 1.0])
    assert script.named(same, 4, 9, 10, np.random.default_rng(0)) == 25.0
    assert script.named(apart, 1000, 50, 5, np.random.default_rng(0)) == 100.0
    rough = [script.named(apart, 50, bits, 200, np.random.default_rng(0)) for bits in (2, 5, 9)]
    assert rough == sorted(rough)
    assert rough[0] < 50 < rough[2]


def test_the_scripts_rounding_is_the_clients(script: ModuleType) -> None:
    """Without it the figures would be of another rounding than the one that leaves."""
    values = np.random.default_rng(1).normal(size=300) * 40
    for bits in script.BITS:
        told = script.all_rounded(values, bits).tolist()
        assert told == [rounded(float(value), bits=bits) for value in values]
    assert script.error([1.0, 2.0, 4.0], 3) == 0.0
    assert script.error([1.0, 1.03, 4.0], 3) > 0.005
