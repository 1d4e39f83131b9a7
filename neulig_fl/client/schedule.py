"""The learning-rate schedule that fine-tuning and pre-training share."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine to 0.

    Args:
        step: steps done, 0 ... steps - 1.
        steps: all steps.
        warmup: share of the steps, 0 ... 1, in which the rate rises.

    Returns:
        A factor in (0, 1] for the largest learning rate.

    Example:
        >>> [round(warmup_cosine(s, 10, 0.2), 2) for s in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
