"""BatchNorm's running statistics, which rules on task vectors leave out: they are averaged.

They describe what a model has seen and are no parameters. Scaled, trimmed or added up they describe
nothing that any model has seen, and a variance can come near 0 or below, so that one channel drowns
all others. The papers' models have no BatchNorm, and their code takes every entry of a state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neulig_fl.merging.methods._given import Entries, Given
from neulig_fl.merging.running_statistics import is_statistic


@dataclass(frozen=True)
class _Parameters(Given):
    """What a method is given, but for running statistics."""

    @property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every parameter, in order."""
        found = self.source.entries
        return {name: shape for name, shape in found.items() if not is_statistic(name)}


def parameters(given: Given) -> Given:
    """The same without running statistics: its entries are the parameters."""
    return _Parameters(given.source, given.needs, given.method, given.on_step)


def with_statistics(given: Given, entries: Entries) -> Entries:
    """Put averaged running statistics among merged parameters.

    Args:
        given: the mean of every entry.
        entries: the merged parameters, in order.

    Yields:
        Every entry of the merged model, in order.
    """
    for name in given.entries:
        yield (name, given.mean(name)) if is_statistic(name) else next(entries)
