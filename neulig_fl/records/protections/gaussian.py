"""Gaussian: rows are clipped, and noise is added that gives local differential privacy.

Adjacency is "replace one client's model": every row of a record may change, so its sensitivity is
2 C sqrt(rows). Parameters are one row, their task vector theta_t - theta_0; theta_0 is public. The
noise is the discrete Gaussian on a grid, from the operating system's generator, and is added once:
asked again, the same bytes leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from neulig_fl.config.problems import Problem, quoted
from neulig_fl.config.scenario import Scenario, Share
from neulig_fl.config.values import (
    MODEL_KINDS,
    Clip,
    Delta,
    Epsilon,
    NoiseMultiplier,
    Section,
)
from neulig_fl.core.errors import InputError
from neulig_fl.privacy import accountant
from neulig_fl.privacy.accountant import Charge
from neulig_fl.records import kinds
from neulig_fl.records.kinds import Arrays
from neulig_fl.records.protections import Case, Claims, Placed, Protection, Stated

if TYPE_CHECKING:
    import numpy as np

ADJACENCY = "replace one client's model"


class GaussianOptions(Section):
    """How far rows are clipped, and how much noise is added to them."""

    clip: Clip = Field(
        description="C, the largest L2 norm of a row of outputs, or of the task vector; longer "
        "ones are scaled down to it."
    )
    delta: Delta = Field(description="The probability for which epsilon may not hold.")
    epsilon: Epsilon | None = Field(
        None,
        description="What the records of this entry come to together, over all its query sets; "
        "the noise is chosen for it. Instead of noise_multiplier.",
    )
    noise_multiplier: NoiseMultiplier | None = Field(
        None,
        description="Standard deviation of the noise over the sensitivity, which is 2 C "
        "sqrt(rows). Instead of epsilon.",
    )


class Gaussian(Protection[GaussianOptions]):
    """Clipping, and the discrete Gaussian."""

    example: Mapping[str, Any] = {"epsilon": 8.0, "clip": 1.0, "delta": 1e-5}
    noised = True
    needed = "clip, delta, and epsilon or noise_multiplier"

    def fits(self, kind: str) -> bool:
        """Noise can be added to what consists of numbers."""
        return kinds.load(kind).noisable

    def problems(self, scenario: Scenario, shares: Sequence[Placed]) -> Iterator[Problem]:
        """Noise is for what it can be added to, and its delta is one for the run."""
        first: float | None = None
        for steps, share in shares:
            for more, wrong in self._faults(scenario, share):
                yield Problem((*steps, *more), wrong)
            delta = self.given(share).delta
            first = delta if first is None else first
            if delta != first:
                what = f"another delta than before (got {quoted(delta)}, not {first:g})"
                place = (*steps, "protection", share.protection.name, "delta")
                yield Problem(place, f"{what}; what a run gives away in all has one delta")

    def _faults(self, scenario: Scenario, share: Share) -> Iterator[tuple[tuple[str, ...], str]]:
        options = ("protection", share.protection.name)
        if not self.fits(share.kind):
            what = f"no noise can be added to it (got {quoted(share.kind)})"
            yield ("kind",), f"{what}; allowed: {_noisable()}"
        if share.kind in MODEL_KINDS and scenario.experts.origin == "diverse":
            yield (
                ("protection",),
                'noise is added to the difference to a common checkpoint (got "gaussian" with '
                "origin: diverse); allowed: none, sealed; or take experts.origin: shared",
            )
        given = self.given(share)
        empty = accountant.bare(given.delta, len(scenario.clients))
        if empty is not None:
            most = "clients allow 1e-5 at most, unless their max_delta is larger"
            yield (*options, "delta"), f"{empty}; {most}"
        if (given.epsilon is None) == (given.noise_multiplier is None):
            got = "neither" if given.epsilon is None else "both"
            yield options, f"needs epsilon or noise_multiplier (got {got}); give one"

    def settings(self, share: Share, kind: str) -> dict[str, Any]:
        """The noise that a share asks for.

        Returns:
            `clip`: C, in the values' own unit; `noise_multiplier`: standard deviation over
            sensitivity. Delta decides about no byte: noise for another delta is the same noise.

        Raises:
            InputError: the share does not say enough, or is of a kind without rows of numbers.
        """
        if not self.fits(kind):
            raise InputError(
                f"protection gaussian of {kind}; allowed: {_noisable()}",
                public_reason=f"no noise can be added to {kind}",
            )
        given = self.given(share)
        multiplier = given.noise_multiplier or _multiplier(given, share)
        return {"clip": given.clip, "noise_multiplier": multiplier}

    def delta(self, share: Share) -> float:
        """The one that the share says."""
        return self.given(share).delta

    def signed(self, share: Share, kind: str) -> dict[str, Any]:
        """The noise, its delta and what it holds for. Epsilon follows from them."""
        noise = self.settings(share, kind)
        return {**noise, "delta": self.delta(share), "adjacency": ADJACENCY}

    def stated(self, case: Case) -> Stated:
        """What the record costs by itself; all together, limits and ledger say."""
        noise, delta = self.settings(case.share, case.kind), self.delta(case.share)
        own = Charge(case.kind, noise["noise_multiplier"])
        alone = accountant.spent([own], delta)
        facts = {**noise, "delta": delta, "epsilon": alone.epsilon, "adjacency": ADJACENCY}
        return Stated(Claims(charge=own, delta=delta), facts)

    def treated(self, arrays: Arrays, case: Case) -> Arrays:
        """Clipped, on a grid, with noise.

        Raises:
            InputError: parameters without a theta_0 that is public.
        """
        import numpy as np  # slow to import

        from neulig_fl.privacy.clipping import sensitivity
        from neulig_fl.privacy.discrete_gaussian import noised

        noise = self.settings(case.share, case.kind)
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


def _noisable() -> str:
    return ", ".join(kinds.those(lambda kind: kind.noisable))


def _multiplier(given: GaussianOptions, share: Share) -> float:
    """The least noise with which all records of a share keep to its epsilon."""
    if given.epsilon is None:
        raise InputError(
            f"protection gaussian of {share.kind} needs epsilon or noise_multiplier",
            public_reason="the stage does not say what noise it asks for",
        )
    return _searched(given.epsilon, given.delta, max(1, len(share.queries)))


@cache
def _searched(epsilon: float, delta: float, releases: int) -> float:
    return accountant.noise_multiplier_for(epsilon, delta, releases)


def _real(array: np.ndarray[Any, Any]) -> type[np.floating[Any]]:
    import numpy as np  # as above

    return np.float64 if array.dtype == np.float64 else np.float32


def _vector(arrays: Arrays, clip: float, sigma: float) -> Arrays:
    import numpy as np  # as above

    from neulig_fl.privacy.discrete_gaussian import noised_together

    single = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    return dict(noised_together(single, clip=clip, sigma=sigma))


def _parameters(arrays: Arrays, case: Case, clip: float, sigma: float) -> Arrays:
    """theta_0 + the noised task vector."""
    from neulig_fl.records.kinds.task_vector import difference, moved

    if case.start is None:
        raise InputError(
            "protection gaussian of parameters needs a checkpoint that all experts start from",
            public_reason="there is no public checkpoint to take the parameters' difference from",
        )
    start = case.start()
    return moved(start, _vector(difference(arrays, start), clip, sigma))


PROTECTION = Gaussian(GaussianOptions)
