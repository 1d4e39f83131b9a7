"""Merging: mix the experts' parameters with the CoopVecs that mix their outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.study.needs import Known, Missing, asked_elsewhere
from neulig_fl.study.steps import ensemble

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import Rehearsal
    from neulig_fl.study.permitted import Permitted


def needs_portland(known: Known) -> bool:
    """Whether a Portland has to be trained first; a simple average within sums needs none."""
    return ensemble.needs_portland(known) or not known.only_sums("parameters")


def needs(known: Known) -> Iterator[Missing]:
    """What an ensemble needs, and parameters."""
    yield from ensemble.needs(known)
    if not known.has("parameters") and not known.sums_of("parameters"):
        yield "{kind: parameters}", asked_elsewhere(known, "parameters", None)


def rehearse(rehearsal: Rehearsal) -> Iterator[Permitted]:
    """The rows that it would give."""
    from neulig_fl.study.outlook import rows

    yield from rows(rehearsal, merging=True)


def run(run: StageRun) -> None:
    """Score merged models beside their ensembles.

    The clients that share both their outputs and their parameters take part; where one of them
    shares outputs alone, the ensemble leaves it out too, so that both sides mix the same experts.
    What leaves within secure sums only is asked for row by row.
    """
    from neulig_fl.study.baseline_rows import run_rows
    from neulig_fl.study.method_rows import run_methods

    run_rows(run, merging=True)
    run_methods(run, merging=True)
