"""Running variances of merged models: a rule that goes beyond the experts can push them below 0."""

from __future__ import annotations

from neulig_fl.merges._given import Entries

VARIANCE = "running_var"


def not_below_zero(entries: Entries) -> Entries:
    """The same entries; BatchNorm's running variances are at least 0.

    Args:
        entries: of a merged model.

    Yields:
        Every entry.

    Example:
        >>> import torch
        >>> entries = {"bn.running_mean": torch.tensor(-1.0), "bn.running_var": torch.tensor(-1.0)}
        >>> [float(value) for _, value in not_below_zero(iter(entries.items()))]
        [-1.0, 0.0]
    """
    for name, value in entries:
        yield name, value.clamp(min=0) if name.rpartition(".")[2] == VARIANCE else value
