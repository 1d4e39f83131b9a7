"""Ensembling: mix the experts' outputs with NeuLig's CoopVecs, and with every control's."""

from __future__ import annotations

from neulig_fl.study.baseline_rows import StageRun, run_rows
from neulig_fl.study.method_rows import run_methods


def run(run: StageRun) -> None:
    """Score the ensembles of every client that answered the evaluation queries.

    Where the answers leave within secure sums only, sums are asked for, of all clients.
    """
    run_rows(run, merging=False)
    if "merge" not in run.stage.run:  # it computes both sides of every merge method's row
        run_methods(run, merging=False)
