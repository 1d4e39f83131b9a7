"""Train Portland on what was released; choose the best single expert on the same queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from neulig_fl.config.problems import quoted
from neulig_fl.core.errors import NotAvailable
from neulig_fl.study.needs import Known, Missing, single_outputs

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import Rehearsal
    from neulig_fl.study.permitted import Permitted


def needs_portland(known: Known) -> bool:  # noqa: ARG001
    """It makes one."""
    return False


def needs(known: Known) -> Iterator[Missing]:
    """Outputs, one by one; offset sums, inputs and parameters where its options ask for them."""
    options = known.options
    yield from single_outputs(known, options.queries)
    if options.alignment != "none" and not known.has("offset-sum"):
        yield "{kind: offset-sum}", ", or set portland.alignment to none"
    if options.queries == "train" and not known.has("inputs", "train"):
        yield "{kind: inputs, queries: [train]}", ", or set portland.queries to pool"
    if options.objective_on != "ensemble" and not known.has("parameters"):
        otherwise = (
            f", or set portland.objective_on to ensemble (got {quoted(options.objective_on)})"
        )
        if known.only_sums("parameters"):
            otherwise = f" with another protection than secure-aggregation{otherwise}"
        yield "{kind: parameters}", otherwise


def rehearse(rehearsal: Rehearsal) -> Iterator[Permitted]:
    """No row, but a Portland for what follows; where there would be none, the run ends."""
    from neulig_fl.study import coopvec_needs
    from neulig_fl.study.outlook import PlannedPortland

    yield from ()
    stage, known = rehearsal.stage, rehearsal.known
    try:
        names = coopvec_needs.learners(known, stage.group)
        coopvec_needs.require_queries(known, stage.group)
    except NotAvailable as reason:
        rehearsal.outlook.stops = str(reason)
    else:
        queries = known.scenario.portland.queries
        rehearsal.portland = PlannedPortland(stage.name, queries, names, names[0])
        with suppress(NotAvailable):  # without answers for every task there is no CoopVec Map
            coopvec_needs.map_queries(known, rehearsal.portland, stage.group, names)


def run(run: StageRun) -> None:
    """Train Portland on the stage's group, as `training.train` does."""
    from neulig_fl.study import training

    training.train(run)
