"""Versions of what a run's figures depend on."""

from __future__ import annotations

from functools import cache


@cache
def own() -> str:
    """The version of neulig-fl; 0.0.0 in a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version("neulig-fl")
    except PackageNotFoundError:
        return "0.0.0"


def versions() -> dict[str, str]:
    """Versions of what figures depend on, by name, as a report has them."""
    import platform
    from importlib.metadata import version

    return {
        "neulig_fl": own(),
        "flwr": version("flwr"),
        "torch": version("torch"),
        "open_clip": version("open_clip_torch"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
