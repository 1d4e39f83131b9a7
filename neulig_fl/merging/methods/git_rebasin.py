"""Git Re-Basin: give each expert's units the order that matches the others', then average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from neulig_fl.config.values import Count
from neulig_fl.core.lazy import torch
from neulig_fl.merging.methods import Entries, Given, Needs, _units
from neulig_fl.merging.methods._assignment import best_orders, total
from neulig_fl.merging.methods._units import Axis, Bundle, Units, reordered, units_of
from neulig_fl.merging.running_statistics import is_statistic

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv:2209.04836"
NEEDS = Needs(each=("parameters",))
SYMMETRIC = False  # two experts: the first's order of units; more: whose turn is when; local optima
RE_ESTIMATES = True

Sweeps = Annotated[Count, Field(description="Sweeps over all units, at most, of one matching.")]

LEAST_GAIN = 1e-9
"""What counts as better, relative to the similarities; less is rounding."""


def merge(given: Given, *, sweeps: Sweeps = 100) -> Entries:
    """Permute, then average: theta = mean_t pi_t(theta_t), pi_t a permutation of t's units.

    Two experts: pi_1 is the identity and pi_2 maximises <theta_1, pi_2(theta_2)>, one set of units
    after the other in random order, each by linear assignment, until none gets better. More: each
    expert in random order is matched so to the mean of the others, until none gets better
    (MergeMany). Units are those of a vision transformer (the residual stream, every MLP's hidden
    units, every attention's) or of CLIP's ResNet (every stream between downsamplings, the units
    inside of blocks, the attention pool's). Of an attention, whole heads change places by the sum
    of the similarities inside of them, and units inside of heads by assignment; the paper has
    neither attention nor heads.

    Norms' weights and biases are matched and permuted with their units, as in the official code;
    BatchNorm's running statistics are permuted and averaged and match nothing; a run, and
    `neulig_fl.merging.methods.merged`, estimate them again for the merged model. Coordinate descent
    ends in a local optimum, which depends on the scenario's seed. Beside the experts a matching
    holds the similarities of one set's units, (units, units).

    Args:
        given: each client's parameters.
        sweeps: the most that one matching takes, and the most rounds of MergeMany.

    Yields:
        Every entry of the merged model.

    Source: arXiv:2209.04836, section 3.2, algorithms 1 (weight matching) and 3 (MergeMany).
    """
    units = units_of(given)
    search = _Search(given, units, [_unchanged(units) for _ in given.experts], sweeps)
    search.run()
    for name in given.entries:
        yield name, _mean(list(given.own(name)), units.axes[name], search.orders)


def unfit(entries: Mapping[str, tuple[int, ...]]) -> str | None:
    """Why the units of a model with these entries are not known; None where they are."""
    return _units.unfit("git-rebasin", entries)


@dataclass(frozen=True)
class _Search:
    """The search for every expert's orders of units; `orders` has what was found so far."""

    given: Given
    units: Units
    orders: list[dict[str, Tensor]]
    sweeps: int

    @cached_property
    def beside(self) -> dict[Bundle, list[Bundle]]:
        """For every bundle, the others with which it shares an entry."""
        of_set = {name: bundle for bundle in self.units.bundles for name in bundle.sets}
        found: dict[Bundle, dict[Bundle, None]] = {bundle: {} for bundle in self.units.bundles}
        for axes in self.units.axes.values():
            here = [of_set[name] for axis in axes for name in axis.sets]
            for bundle in here:
                found[bundle].update(dict.fromkeys(b for b in here if b != bundle))
        return {bundle: list(others) for bundle, others in found.items()}

    def run(self) -> None:
        """Match two experts, or more."""
        generator = self.given.generator()
        if len(self.orders) == 2:
            self.match(1, generator)
            return
        for _ in range(self.sweeps):
            turns = torch.randperm(len(self.orders), generator=generator).tolist()
            improved = [self.match(expert, generator) for expert in turns]
            if not any(improved):
                return

    def match(self, expert: int, generator: torch.Generator) -> bool:
        """Match one expert to the mean of the others; whether it got any better."""
        open_ = dict.fromkeys(self.units.bundles, True)
        for sweep in range(self.sweeps):
            turns = torch.randperm(len(open_), generator=generator).tolist()
            improved = [self.turn(expert, self.units.bundles[turn], open_) for turn in turns]
            if not any(improved):
                return sweep > 0
        return True

    def turn(self, expert: int, bundle: Bundle, open_: dict[Bundle, bool]) -> bool:
        """Improve a bundle, unless nothing that it depends on changed since the last time."""
        improved = open_[bundle] and self.improve(expert, bundle)
        open_[bundle] = False
        if improved:
            open_.update(dict.fromkeys(self.beside[bundle], True))
        return improved

    def improve(self, expert: int, bundle: Bundle) -> bool:
        """Give one expert's units of a bundle their best order; whether it got better."""
        similar = [self.similar(expert, name) for name in bundle.sets]
        found = best_orders(similar, bundle.heads)
        orders = self.orders[expert]
        before = sum(total(s, orders[name]) for s, name in zip(similar, bundle.sets, strict=True))
        after = sum(total(s, order) for s, order in zip(similar, found, strict=True))
        if after - before <= LEAST_GAIN * (abs(after) + abs(before)):
            return False
        orders.update(zip(bundle.sets, found, strict=True))
        return True

    def similar(self, expert: int, units: str) -> Tensor:
        """Of a set, inner products of the others' mean units (rows) and one expert's (columns)."""
        size = self.units.sizes[units]
        found = torch.zeros(size, size)
        for name, axes in self.units.axes.items():
            axis = next((axis for axis in axes if units in axis.sets), None)
            if axis is not None and not is_statistic(name):
                found += self._products(expert, name, axis, units)
        return found

    def _products(self, expert: int, name: str, axis: Axis, units: str) -> Tensor:
        axes, own = self.units.axes[name], self.given.own(name)
        others = [i for i in range(len(own)) if i != expert]
        wanted = _mean([own[i] for i in others], axes, [self.orders[i] for i in others])
        rest = tuple(other for other in axes if other is not axis)
        moving = reordered(own[expert], rest, self.orders[expert])
        count = len(axis.sets)
        pairs = zip(wanted.chunk(count, axis.number), moving.chunk(count, axis.number), strict=True)
        found = torch.zeros(())
        for name_, (left, right) in zip(axis.sets, pairs, strict=True):
            if name_ == units:
                found = found + _flat(left, axis) @ _flat(right, axis).T
        return found


def _unchanged(units: Units) -> dict[str, Tensor]:
    return {name: torch.arange(size) for name, size in units.sizes.items()}


def _mean(own: list[Tensor], axes: tuple[Axis, ...], orders: list[dict[str, Tensor]]) -> Tensor:
    """The mean of one entry over experts, each in its order of units."""
    found = torch.zeros_like(own[0])
    for value, order in zip(own, orders, strict=True):
        found += reordered(value, axes, order)
    return found.div_(len(own))


def _flat(value: Tensor, axis: Axis) -> Tensor:
    return value.movedim(axis.number, 0).flatten(1) if value.dim() > 1 else value[:, None]
