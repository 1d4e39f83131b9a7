"""neulig-fl: model merging and ensembling with one CoopVec, as a privacy study under Flower.

Example:
    report = neulig_fl.run("scenarios/quickstart.yaml", engine="local")
    study = neulig_fl.run_study("scenarios/studies/alignment.yaml", engine="local")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neulig_fl.report import Report as Report
    from neulig_fl.report.study_report import StudyReport as StudyReport
    from neulig_fl.study.from_python import run as run
    from neulig_fl.study.studies import run_study as run_study

    __version__: str

__all__ = ["Report", "StudyReport", "__version__", "run", "run_study"]


def __dir__() -> list[str]:
    """What is there to be used."""
    return list(__all__)


def __getattr__(name: str) -> Any:
    """The names of `__all__`, on first use: importing the package loads next to nothing."""
    if name == "__version__":
        from neulig_fl.core.versions import own

        return own()
    if name == "run":
        from neulig_fl.study.from_python import run

        return run
    if name == "run_study":
        from neulig_fl.study.studies import run_study

        return run_study
    if name == "StudyReport":
        from neulig_fl.report.study_report import StudyReport

        return StudyReport
    if name == "Report":
        from neulig_fl.report import Report

        return Report
    raise AttributeError(f"module 'neulig_fl' has no attribute {name!r}")
