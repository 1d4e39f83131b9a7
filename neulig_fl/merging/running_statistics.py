"""Running statistics: the entries of a normalising layer that describe what the model has seen."""

from __future__ import annotations

RUNNING = ("running_mean", "running_var")
"""They are no parameters."""


def is_statistic(name: str) -> bool:
    """Whether an entry is a running statistic.

    Example:
        >>> is_statistic("layer1.0.bn1.running_var"), is_statistic("layer1.0.bn1.weight")
        (True, False)
    """
    return name.rpartition(".")[2] in RUNNING
