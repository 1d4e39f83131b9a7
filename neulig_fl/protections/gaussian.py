"""Gaussian: rows are clipped, and noise is added that gives local differential privacy.

Adjacency is "replace one client's model": every row of a record may change, so its sensitivity is
2 C sqrt(rows). Parameters are one row, their task vector theta_t - theta_0; theta_0 is public. The
noise is the discrete Gaussian on a grid, from the operating system's generator, and is added once:
asked again, the same bytes leave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from neulig_fl import accountant
from neulig_fl.accountant import Charge
from neulig_fl.clipping import sensitivity
from neulig_fl.discrete_gaussian import noised, noised_together
from neulig_fl.errors import InputError
from neulig_fl.ledger import Entry
from neulig_fl.limits import Claims
from neulig_fl.protections import Case, Stated
from neulig_fl.protections.none import OVERHEAD, opened, problem, wrapped
from neulig_fl.records import Arrays
from neulig_fl.scenario import Share
from neulig_fl.scenario_values import NOISED_KINDS

ADJACENCY = "replace one client's model"


def settings(share: Share, kind: str) -> dict[str, Any]:
    """The noise that a share asks for.

    Returns:
        `clip`: C, in the values' own unit; `noise_multiplier`: standard deviation over sensitivity;
        `delta`.

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
    return {"clip": share.clip, "noise_multiplier": multiplier, "delta": share.delta}


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
    """What the record costs, alone and with all that has left of the same expert."""
    noise = settings(case.share, case.kind)
    own = Charge(case.kind, noise["noise_multiplier"])
    alone = accountant.spent([own], noise["delta"])
    together = accountant.spent([*charges(case.before), own], noise["delta"])
    facts = {
        **noise,
        "epsilon": alone.epsilon,
        "epsilon_total": together.epsilon if math.isfinite(together.epsilon) else "inf",
        "adjacency": ADJACENCY,
    }
    return Stated(Claims(epsilon=together.epsilon), facts)


def charges(entries: Sequence[Entry]) -> list[Charge]:
    """What entries of a ledger cost; one without noise has no finite epsilon."""
    return [Charge(str(entry["kind"]), entry.get("noise_multiplier")) for entry in entries]


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
        return _together(arrays, clip, sigma)
    if case.kind == "parameters":
        return _parameters(arrays, case, clip, sigma)
    return {
        name: noised(np.asarray(rows, dtype=_real(rows)), clip=clip, sigma=sigma)
        for name, rows in arrays.items()
    }


def _real(array: np.ndarray[Any, Any]) -> type[np.floating[Any]]:
    return np.float64 if array.dtype == np.float64 else np.float32


def _together(arrays: Arrays, clip: float, sigma: float) -> Arrays:
    vector = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    return dict(noised_together(vector, clip=clip, sigma=sigma))


def _parameters(arrays: Arrays, case: Case, clip: float, sigma: float) -> Arrays:
    """theta_0 + the noised task vector; a running variance that got below 0 is put back to 0."""
    if case.start is None:
        raise InputError(
            "protection gaussian of parameters needs a checkpoint that all experts start from",
            public_reason="there is no public checkpoint to take the parameters' difference from",
        )
    start = {name: np.asarray(value, np.float32) for name, value in case.start().items()}
    vector = {name: np.asarray(value, np.float32) - start[name] for name, value in arrays.items()}
    sent = noised_together(vector, clip=clip, sigma=sigma)
    whole = {name: start[name] + change for name, change in sent.items()}
    return {
        name: np.maximum(value, 0.0) if name.endswith("running_var") else value
        for name, value in whole.items()
    }


__all__ = [
    "ADJACENCY", "OVERHEAD", "charges", "opened", "problem", "settings", "stated",
    "treated", "wrapped",
]  # fmt: skip
