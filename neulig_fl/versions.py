"""Versions of what a run's figures depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Versions of what figures depend on, by name, as a report has them."""
    return {
        "neulig_fl": version("neulig-fl"),
        "flwr": version("flwr"),
        "torch": version("torch"),
        "open_clip": version("open_clip_torch"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
