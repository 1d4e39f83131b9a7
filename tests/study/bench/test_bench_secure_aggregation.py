"""The benchmark of secure sums: that it sums what it says it does. No test here asserts a time."""

from __future__ import annotations

import numpy as np

from neulig_fl.study.bench import secure_aggregation, sentence


def test_both_sums_are_of_the_same_vectors() -> None:
    """Without it the ratio would compare different amounts of work."""
    vector = np.random.default_rng(1).uniform(-0.2, 0.2, 1000).astype(np.float32)
    chunks: list[np.ndarray] = []
    made = secure_aggregation.SecureSum(vector)
    made.run(chunks.append)
    plain = secure_aggregation.plain_sum(vector)
    assert np.allclose(np.concatenate(chunks), plain, rtol=0, atol=1e-6)
    assert np.allclose(plain, secure_aggregation.CLIENTS * vector, rtol=0, atol=1e-6)
    assert 0 < made.masking < made.seconds


def test_the_figure_is_a_ratio_with_its_parts() -> None:
    """Without it a reader could not tell what is slow."""
    found = secure_aggregation.measure(repeats=2, entries=5000)
    assert found.name == "secure-aggregation"
    assert len(found.values) == 2
    assert found.met is (found.figure <= secure_aggregation.GOAL)
    assert min(found.values) <= found.figure <= max(found.values)
    assert all(value > 0 for value in found.details.values())
    assert "of a plain sum (goal: at most 4;" in sentence(found)
