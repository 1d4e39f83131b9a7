"""Ensembling: mix the experts' outputs with NeuLig's CoopVecs, and with every control's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.study.needs import Known, Missing, asked_elsewhere, why_not_mixed

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import Rehearsal
    from neulig_fl.study.permitted import Permitted


def needs_portland(known: Known) -> bool:
    """Whether a Portland has to be trained first; a simple average within sums needs none."""
    return known.trains or not known.only_sums(known.options.outputs, "evaluation")


def needs(known: Known) -> Iterator[Missing]:
    """Outputs on the evaluation queries, as single records or within sums."""
    kind = known.options.outputs
    if not known.has(kind, "evaluation") and not known.sums_of(kind, "evaluation"):
        otherwise = why_not_mixed(known, "evaluation") or asked_elsewhere(known, kind, "evaluation")
        yield f"{{kind: {kind}, queries: [evaluation]}}", otherwise


def rehearse(rehearsal: Rehearsal) -> Iterator[Permitted]:
    """The rows that it would give."""
    from neulig_fl.study.outlook import rows

    yield from rows(rehearsal, merging=False)


def run(run: StageRun) -> None:
    """Score the ensembles of every client that answered the evaluation queries.

    Where the answers leave within secure sums only, sums are asked for, of all clients.
    """
    from neulig_fl.study.baseline_rows import run_rows
    from neulig_fl.study.method_rows import run_methods

    run_rows(run, merging=False)
    if "merge" not in run.stage.run:  # it computes both sides of every merge method's row
        run_methods(run, merging=False)
