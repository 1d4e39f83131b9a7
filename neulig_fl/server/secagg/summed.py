"""What a secure sum gave."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Summed:
    """What a secure sum gave.

    Args:
        values: of each part, over the survivors' weights in it: parameters by name, or
            `{kind: (rows, width)}`; float32.
        experts: whose vectors are in it, in the scenario's order.
        bytes: of all masked vectors.
    """

    values: tuple[dict[str, NDArray[np.float32]], ...] = field(repr=False)
    experts: tuple[str, ...]
    bytes: int
