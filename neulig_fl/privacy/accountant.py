"""Epsilon: what all noised releases of a run cost together, from a library's accountant.

Each release is a Gaussian mechanism with a noise multiplier, sigma / sensitivity. Its Renyi
divergence of order a is at most a / (2 multiplier^2); these add up over queries, stages and runs,
whatever the server chose to ask next. dp-accounting adds them and turns the sum into (epsilon,
delta). It is what Flower's `RdpAccountant` wraps.

The discrete Gaussian has the same bound on the divergence as the continuous one of the same sigma,
where the values that it is added to lie on its grid (arXiv 2004.00010, Theorem 4), and so the same
epsilon here. The tighter account that is exact for the continuous Gaussian does not carry over to a
small sigma and is not used. The sampler's own distance from the discrete Gaussian is below 2^-3700
a value; delta cannot hold it and nothing is added.

The adjacency is "replace one client's model", and the client adds the noise itself: epsilon is a
client's own, local, and other clients' releases do not count towards it. What depends on the data
and has no noise has no finite epsilon, nor has the run then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from neulig_fl.core.errors import InputError

MULTIPLIERS = (1e-100, 1e9)
"""Between which a noise multiplier can be accounted for, and is searched for."""

PRECISION = 1e-6
"""Share by which a multiplier that was searched for may be larger than it has to be."""

Pairs = tuple[tuple[float, int], ...]
"""Noise multipliers, each with how often it was used."""


@dataclass(frozen=True)
class Charge:
    """One release, or several of the same, of data that depend on the client's model.

    Args:
        name: what was released, as the report and the errors name it.
        noise_multiplier: sigma / sensitivity; None where there is no noise.
        count: how often with fresh noise. The same bytes again are no further release.
    """

    name: str
    noise_multiplier: float | None
    count: int = 1

    def __post_init__(self) -> None:
        noise = self.noise_multiplier
        least, most = MULTIPLIERS
        if noise is not None and not least <= noise <= most:  # NaN is not within them
            raise InputError(
                f"{self.name}: noise multiplier is {noise}; allowed: a number from {least:g} to "
                f"{most:g}, or none at all for a release without noise"
            )
        if self.count < 1:
            raise InputError(f"{self.name}: count is {self.count}; allowed: 1 or more")


@dataclass(frozen=True)
class Spent:
    """What charges cost together.

    Args:
        epsilon: in nats; infinite where something had no noise, 0 without a charge.
        delta: the probability for which epsilon may not hold.
        unprotected: names of what had no noise, in order, each once.
    """

    epsilon: float
    delta: float
    unprotected: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The figure in words, for a report or a refusal.

        Example:
            >>> Spent(math.inf, 1e-5, ("offset-sum",)).sentence()
            'epsilon is infinite: without noise went offset-sum'
        """
        if self.unprotected:
            return f"epsilon is infinite: without noise went {', '.join(self.unprotected)}"
        return f"epsilon is {self.epsilon:.4g} at delta {self.delta:g}"


def spent(charges: Sequence[Charge], delta: float) -> Spent:
    """Epsilon of all charges together.

    Args:
        charges: over all stages, queries and runs of one client's model; the order is free.
        delta: above 0 and below 1; below 1 / clients to mean anything (`bare`).

    Raises:
        InputError: a delta that is none.

    Example:
        >>> round(spent([Charge("logits", 2.0), Charge("features", 2.0)], 1e-5).epsilon, 3)
        3.189
        >>> spent([Charge("logits", 2.0), Charge("offset-sum", None)], 1e-5).unprotected
        ('offset-sum',)

    Source: Mironov 2017, arXiv 1702.07476; conversion: arXiv 2004.00010, Proposition 12.
    """
    require_delta(delta)
    bare = tuple(dict.fromkeys(c.name for c in charges if c.noise_multiplier is None))
    if bare:
        return Spent(math.inf, delta, bare)
    return Spent(_epsilon(_pairs(charges), delta), delta)


def noise_multiplier_for(
    epsilon: float, delta: float, releases: int = 1, before: Sequence[Charge] = ()
) -> float:
    """The smallest noise multiplier with which some further releases keep to an epsilon.

    Args:
        epsilon: for everything together, in nats.
        delta: as for `spent`.
        releases: how many there will be, all with this multiplier.
        before: what was charged already.

    Returns:
        Larger than it has to be by 1e-6 of itself at most; never smaller.

    Raises:
        InputError: figures that are none, or an epsilon that is spent already.

    Example:
        >>> round(noise_multiplier_for(1.0, 1e-5), 2)
        4.05
    """
    _require_target(epsilon, delta, releases, before)

    # Imported here: it brings scipy, which takes seconds.
    from dp_accounting import ExplicitBracketInterval, calibrate_dp_mechanism
    from dp_accounting.rdp import RdpAccountant

    pairs = _pairs(before)
    least, most = (math.log(end) for end in MULTIPLIERS)
    try:
        # Over the logarithm, so that the tolerance is a share of the multiplier. What the library
        # gives back is a point whose epsilon it has computed, and which is not above the target.
        found = calibrate_dp_mechanism(
            lambda: RdpAccountant(_orders()),
            lambda logarithm: _together((*pairs, (math.exp(logarithm), releases))),
            epsilon,
            delta,
            ExplicitBracketInterval(least, most),
            tol=PRECISION / 2.0,
        )
    except ValueError:
        raise _spent_already(epsilon, delta, before) from None
    return math.exp(found)


def require_delta(delta: float) -> float:
    """The delta, if it is above 0 and below 1.

    Raises:
        InputError: anything else; a Gaussian has no finite epsilon at delta 0.
    """
    if not 0.0 < delta < 1.0:
        raise InputError(
            f"delta is {delta}; allowed: above 0 and below 1, such as 1e-5. "
            "It has no default: state it"
        )
    return delta


def bare(delta: float | None, clients: int) -> str | None:
    """What noise for a delta does not rule out; None when it protects every model.

    The adjacency replaces one client's model, so what is protected are the clients' models, one
    each. A mechanism that hands out one of n models, as it is, keeps any epsilon at a delta of 1/n.

    Args:
        delta: as a stage or a policy says it; None where nobody says it.
        clients: of the scenario.

    Example:
        >>> bare(0.5, 3)
        "delta 0.5 is not below 1/3: one of 3 clients' models may leave bare"
        >>> bare(1e-5, 3)
    """
    if delta is not None and 0.0 < delta * clients < 1.0:
        return None
    told = f"one of {clients} clients' models may leave bare"
    return f"delta {delta} is not below 1/{clients}: {told}"


def _require_target(epsilon: float, delta: float, releases: int, before: Sequence[Charge]) -> None:
    require_delta(delta)
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise InputError(f"epsilon is {epsilon}; allowed: a number above 0")
    if releases < 1:
        raise InputError(f"releases is {releases}; allowed: 1 or more")
    if spent(before, delta).epsilon >= epsilon:
        raise _spent_already(epsilon, delta, before)


def _spent_already(epsilon: float, delta: float, before: Sequence[Charge]) -> InputError:
    return InputError(
        f"no noise keeps to epsilon {epsilon} at delta {delta}: "
        f"{spent(before, delta).sentence()} already. Allow more, or release less"
    )


@cache
def _orders() -> tuple[float, ...]:
    """Renyi orders close enough that the best of them is the best of all to 1e-3 of epsilon.

    From 1.0125, below which the library's conversion is not stable, to a million.
    """
    return tuple(1.0 + 10.0 ** (k / 60.0 - 1.9) for k in range(475))


def _pairs(charges: Sequence[Charge]) -> Pairs:
    return tuple((c.noise_multiplier, c.count) for c in charges if c.noise_multiplier)


def _together(pairs: Pairs) -> Any:
    """The releases as one event of the library."""
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, SelfComposedDpEvent

    return ComposedDpEvent([SelfComposedDpEvent(GaussianDpEvent(m), n) for m, n in pairs])


@lru_cache(maxsize=4096)
def _epsilon(pairs: Pairs, delta: float) -> float:
    # Imported here: it brings scipy.stats and scipy.signal, which take seconds.
    from dp_accounting.rdp import RdpAccountant

    return float(RdpAccountant(_orders()).compose(_together(pairs)).get_epsilon(delta))
