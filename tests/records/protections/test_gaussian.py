"""Noise for a record: how much, of what, and what it costs together with what left before."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.rdp import RdpAccountant

from neulig_fl.config.scenario import Share
from neulig_fl.core.errors import InputError
from neulig_fl.privacy.accountant import Charge, spent
from neulig_fl.records.protections import Case, Claims, load

DELTA = 1e-5
GAUSSIAN = load("gaussian")


def _share(kind: str = "features", **noise: object) -> Share:
    given = {"clip": 2.0, "delta": DELTA, **noise}
    options = {key: value for key, value in given.items() if value is not None}
    return Share.model_validate({"kind": kind, "protection": {"gaussian": options}})


@pytest.mark.parametrize(("rows", "multiplier"), [(400, 0.7), (25, 3.0)])
def test_the_noise_is_as_large_as_its_multiplier_says(rows: int, multiplier: float) -> None:
    """Without it epsilon would be the ledger's word alone: 2 C sqrt(rows) times the multiplier."""
    case = Case("features", rows, _share(noise_multiplier=multiplier))
    zeros = {"features": np.zeros((rows, 40_000 // rows), np.float32)}
    found = np.concatenate([GAUSSIAN.treated(zeros, case)["features"].ravel() for _ in range(4)])
    wanted = multiplier * 2 * 2.0 * math.sqrt(rows)
    assert found.std() == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("kind", ["features", "parameters"])
def test_what_is_longer_than_the_clip_is_scaled_down_to_it(kind: str) -> None:
    """Without it one row could move the record by more than the sensitivity that is stated."""
    share = _share(kind, noise_multiplier=1e-6)
    if kind == "features":
        sent = GAUSSIAN.treated({"features": np.full((3, 4), 50.0)}, Case(kind, 3, share))
        assert np.linalg.norm(sent["features"], axis=1) == pytest.approx(2.0, rel=1e-3)
        return
    start = {"w": np.ones((3, 2), np.float32), "v": np.ones(4, np.float32)}
    own = {name: array + 9.0 for name, array in start.items()}
    sent = GAUSSIAN.treated(own, Case(kind, 1, share, start=lambda: start))
    moved = np.concatenate([(sent[name] - start[name]).ravel() for name in start])
    assert np.linalg.norm(moved) == pytest.approx(2.0, rel=1e-3)


def test_a_running_variance_stays_one() -> None:
    """Without it a noised BatchNorm would take the root of a negative number, and predict NaN."""
    start = {"bn.running_var": np.zeros(200, np.float32), "w": np.zeros(200, np.float32)}
    case = Case("parameters", 1, _share("parameters", noise_multiplier=5.0), start=lambda: start)
    sent = GAUSSIAN.treated(start, case)
    assert sent["bn.running_var"].min() == 0.0 < sent["bn.running_var"].max()
    assert sent["w"].min() < 0.0


def test_a_share_keeps_to_its_epsilon_over_all_its_query_sets() -> None:
    """Without it `epsilon: 2` on two query sets would come to more than 2."""
    share = _share(epsilon=2.0)
    noise = GAUSSIAN.settings(share, "features")
    accountant = RdpAccountant()
    accountant.compose(GaussianDpEvent(noise["noise_multiplier"]), 2)
    assert accountant.get_epsilon(DELTA) == pytest.approx(2.0, rel=0.01)
    stated = GAUSSIAN.stated(Case("features", 9, share))
    charge = Charge("features", noise["noise_multiplier"])
    assert stated.claims == Claims(charge=charge, delta=DELTA)
    assert stated.facts.items() >= {**noise, "delta": DELTA}.items()
    assert stated.facts["epsilon"] == spent([charge], DELTA).epsilon < 2.0
    assert 1.999 < spent([charge, charge], DELTA).epsilon <= 2.0


def test_another_delta_is_the_same_noise() -> None:
    """Without it the same noise would be drawn anew for each delta that a stage says."""
    one, other = (_share(noise_multiplier=2.0, delta=delta) for delta in (1e-5, 1e-6))
    assert GAUSSIAN.settings(one, "features") == GAUSSIAN.settings(other, "features")
    costs = [GAUSSIAN.stated(Case("features", 9, share)).facts["epsilon"] for share in (one, other)]
    assert costs[0] < costs[1]


@pytest.mark.parametrize(
    ("share", "kind", "told"),
    [
        (_share("labels", epsilon=1.0), "labels", "allowed: features, logits"),
        (_share(), "features", "needs epsilon or noise_multiplier"),
        (
            _share(clip=None, epsilon=1.0),
            "features",
            "gaussian: is missing. C, the largest L2 norm",
        ),
        (_share(delta=None, epsilon=1.0), "features", "gaussian: is missing. The probability"),
    ],
)
def test_noise_that_is_not_said_in_full_is_refused(share: Share, kind: str, told: str) -> None:
    """Without it a client whose scenario lacks a word would release without noise."""
    with pytest.raises(InputError, match=told):
        GAUSSIAN.stated(Case(kind, 9, share))


def test_parameters_without_a_public_checkpoint_are_refused() -> None:
    """Without it the noise would be for a model of size C, and the model would be clipped to it."""
    case = Case("parameters", 1, _share("parameters", epsilon=1.0))
    with pytest.raises(InputError, match="all experts start from"):
        GAUSSIAN.treated({"w": np.ones(3, np.float32)}, case)
