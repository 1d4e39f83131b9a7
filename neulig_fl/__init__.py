"""neulig-fl: model merging and ensembling with one CoopVec, as a privacy study under Flower.

Example:
    report = neulig_fl.run("scenarios/quickstart.yaml", engine="local")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neulig_fl.core.versions import VERSION

if TYPE_CHECKING:
    from neulig_fl.report import Report as Report
    from neulig_fl.study.runs import run as run

__version__ = VERSION
__all__ = ["Report", "__version__", "run"]


def __getattr__(name: str) -> Any:
    """`run` and `Report` on first use: importing the package loads neither torch nor Flower."""
    if name == "run":
        from neulig_fl.study.runs import run

        return run
    if name == "Report":
        from neulig_fl.report import Report

        return Report
    raise AttributeError(f"module 'neulig_fl' has no attribute {name!r}")
