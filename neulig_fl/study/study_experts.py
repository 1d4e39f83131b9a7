"""Experts of a study: which runs need which, and which of them lie in the cache already."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neulig_fl.client import experts
from neulig_fl.records.release_plan import Setting, open_setting
from neulig_fl.study.study_files import StudyRun


def of_run(run: StudyRun) -> frozenset[Path]:
    """Files of the cache that a run's trained experts are or will be; equal ones are shared.

    Raises:
        InputError: a task or the model cannot be opened.
    """
    return of_setting(open_setting(run.opened.resolved, run.seed))


def of_setting(setting: Setting) -> frozenset[Path]:
    """As `of_run`, of a scenario that is opened."""
    scenario = setting.scenario
    return frozenset(
        experts.cached_path(
            experts.recipe(
                scenario, client, group, setting.family, setting.tasks[client.task], setting.seed
            )
        )
        for client in scenario.clients
        for group in scenario.experts.groups
        if client.checkpoint is None
    )


def missing(files: Iterable[Path]) -> frozenset[Path]:
    """Those that have to be trained."""
    return frozenset(file for file in files if not file.is_file())
