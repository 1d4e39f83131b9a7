"""Versions of what a run's figures depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("neulig-fl")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0.0.0"


def versions() -> dict[str, str]:
    """Versions of what figures depend on, by name, as a report has them."""
    return {
        "neulig_fl": VERSION,
        "flwr": version("flwr"),
        "torch": version("torch"),
        "open_clip": version("open_clip_torch"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
