"""Scientific randomness: every generator derives from (seed, purpose, name), not global state.

Secrets (keys, nonces, masks, noise) never come from here; they come from the operating system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.lazy import torch


def derived_seed(seed: int, purpose: str, name: str = "") -> int:
    """A 63-bit seed for one purpose, independent of every other purpose and name.

    Example:
        >>> derived_seed(0, "portland") == derived_seed(0, "portland")
        True
        >>> derived_seed(0, "portland") == derived_seed(1, "portland")
        False
    """
    text = "\x1f".join((str(seed), purpose, name)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def numpy_generator(seed: int, purpose: str, name: str = "") -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derived_seed(seed, purpose, name))


def torch_generator(seed: int, purpose: str, name: str = "") -> torch.Generator:
    """A torch CPU generator for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, name))


def uniform_positions(seed: int, purpose: str, names: Sequence[str]) -> NDArray[np.float64]:
    """A number in [0, 1) for every name that depends on nothing but (seed, purpose, name).

    It does not depend on how many names there are or on their order, so that a source image keeps
    its place when a collection grows, shrinks, or is used again by another task.

    Returns:
        float64 array of shape (names,), read-only; kept for the next one who asks.
    """
    return _positions(seed, purpose, tuple(names))


@lru_cache(maxsize=64)
def _positions(seed: int, purpose: str, names: tuple[str, ...]) -> NDArray[np.float64]:
    prefix = f"{seed}\x1f{purpose}\x1f".encode()
    digests = b"".join(hashlib.sha256(prefix + n.encode()).digest()[:8] for n in names)
    positions = np.frombuffer(digests, dtype="<u8").astype(np.float64) / 2.0**64
    positions.flags.writeable = False
    return positions
