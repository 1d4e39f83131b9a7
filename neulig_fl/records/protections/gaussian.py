"""Gaussian: rows are clipped, and noise is added that gives local differential privacy.

Adjacency is "replace one client's model": every row of a record may change, so its sensitivity is
2 C sqrt(rows). Parameters are one row, their task vector theta_t - theta_0; theta_0 is public. The
noise is the discrete Gaussian on a grid, from the operating system's generator, and is added once:
asked again, the same bytes leave.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from neulig_fl.config.scenario import Share
from neulig_fl.config.values import NOISED_KINDS
from neulig_fl.core.errors import InputError
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.privacy.clipping import sensitivity
from neulig_fl.privacy.discrete_gaussian import noised, noised_together
from neulig_fl.records import kinds
from neulig_fl.records.budgets import Claims
from neulig_fl.records.kinds import Arrays
from neulig_fl.records.protections import Case, Stated
from neulig_fl.records.protections.none import OVERHEAD, opened, problem, wrapped

ADJACENCY = "replace one client's model"


def settings(share: Share, kind: str) -> dict[str, Any]:
    """The noise that a share asks for.

    Returns:
        `clip`: C, in the values' own unit; `noise_multiplier`: standard deviation over sensitivity.
        Delta decides about no byte: noise for another delta is the same noise.

    Raises:
        InputError: the share does not say enough, or is of a kind without rows of numbers.
    """
    if kind not in NOISED_KINDS:
        raise InputError(
            f"protection gaussian of {kind}; allowed: {', '.join(NOISED_KINDS)}",
            public_reason=f"no noise can be added to {kind}",
        )
    if share.clip is None or share.delta is None:
        raise InputError(
            f"protection gaussian of {kind} needs clip and delta, and epsilon or noise_multiplier",
            public_reason="the stage does not say what noise it asks for",
        )
    multiplier = share.noise_multiplier or _multiplier(share, kind)
    return {"clip": share.clip, "noise_multiplier": multiplier}


def _multiplier(share: Share, kind: str) -> float:
    """The least noise with which all records of a share keep to its epsilon."""
    if share.epsilon is None or share.delta is None:
        raise InputError(
            f"protection gaussian of {kind} needs epsilon or noise_multiplier",
            public_reason="the stage does not say what noise it asks for",
        )
    return _searched(share.epsilon, share.delta, max(1, len(share.queries)))


@cache
def _searched(epsilon: float, delta: float, releases: int) -> float:
    return accountant.noise_multiplier_for(epsilon, delta, releases)


def stated(case: Case) -> Stated:
    """What the record costs by itself; what it comes to with all others, limits and ledger say."""
    noise, delta = settings(case.share, case.kind), case.share.delta
    own = Charge(case.kind, noise["noise_multiplier"])
    alone = accountant.spent([own], delta or 0.0)
    facts = {**noise, "delta": delta, "epsilon": alone.epsilon, "adjacency": ADJACENCY}
    return Stated(Claims(charge=own, delta=delta), facts)


def treated(arrays: Arrays, case: Case) -> Arrays:
    """Clipped, on a grid, with noise.

    Raises:
        InputError: parameters without a theta_0 that is public.
    """
    noise = settings(case.share, case.kind)
    clip = float(noise["clip"])
    sigma = float(noise["noise_multiplier"]) * sensitivity(clip, case.rows)
    sigma = math.nextafter(sigma, math.inf)  # never below what the multiplier promises
    if case.kind == "task-vector":
        return _vector(arrays, clip, sigma)
    if case.kind == "parameters":
        return _parameters(arrays, case, clip, sigma)
    return {
        name: noised(np.asarray(rows, dtype=_real(rows)), clip=clip, sigma=sigma)
        for name, rows in arrays.items()
    }


def _real(array: np.ndarray[Any, Any]) -> type[np.floating[Any]]:
    return np.float64 if array.dtype == np.float64 else np.float32


def _vector(arrays: Arrays, clip: float, sigma: float) -> Arrays:
    single = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    return dict(noised_together(single, clip=clip, sigma=sigma))


def _parameters(arrays: Arrays, case: Case, clip: float, sigma: float) -> Arrays:
    """theta_0 + the noised task vector."""
    if case.start is None:
        raise InputError(
            "protection gaussian of parameters needs a checkpoint that all experts start from",
            public_reason="there is no public checkpoint to take the parameters' difference from",
        )
    start = case.start()
    return kinds.moved(start, _vector(kinds.difference(arrays, start), clip, sigma))


__all__ = [
    "ADJACENCY", "OVERHEAD", "opened", "problem", "settings", "stated",
    "treated", "wrapped",
]  # fmt: skip
