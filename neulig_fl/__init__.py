"""neulig-fl: model merging and ensembling with one CoopVec, as a privacy study under Flower.

Example:
    report = neulig_fl.run("scenarios/quickstart.yaml", engine="local")
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neulig_fl.report import Report as Report
    from neulig_fl.runs import run as run

try:
    __version__ = version("neulig-fl")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"

__all__ = ["Report", "__version__", "run"]


def __getattr__(name: str) -> Any:
    """`run` and `Report` on first use: importing the package loads neither torch nor Flower."""
    if name == "run":
        from neulig_fl.runs import run

        return run
    if name == "Report":
        from neulig_fl.report import Report

        return Report
    raise AttributeError(f"module 'neulig_fl' has no attribute {name!r}")
