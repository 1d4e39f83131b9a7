"""Merging: mix the experts' parameters with the CoopVecs that mix their outputs."""

from __future__ import annotations

from neulig_fl.study.baseline_rows import StageRun, run_rows
from neulig_fl.study.method_rows import run_methods


def run(run: StageRun) -> None:
    """Score merged models beside their ensembles.

    The clients that share both their outputs and their parameters take part; where one of them
    shares outputs alone, the ensemble leaves it out too, so that both sides mix the same experts.
    What leaves within secure sums only is asked for row by row.
    """
    run_rows(run, merging=True)
    run_methods(run, merging=True)
