"""Train Portland on what was released; choose the best single expert on the same queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from neulig_fl.config.problems import shown
from neulig_fl.study.needs import Known, Missing, single_outputs

if TYPE_CHECKING:
    from neulig_fl.study.baseline_rows import StageRun
    from neulig_fl.study.outlook import DrySums
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
            f", or set portland.objective_on to ensemble (got {shown(options.objective_on)})"
        )
        if known.only_sums("parameters"):
            otherwise = f" with another protection than secure-aggregation{otherwise}"
        yield "{kind: parameters}", otherwise


def rehearse(run: StageRun, sums: DrySums) -> Iterator[Permitted]:
    """No row, but a blank Portland; where there would be none, the run ends."""
    from neulig_fl.study import training

    yield from ()
    group, queries = run.stage.group, run.knowledge.setting.scenario.portland.queries
    names = training.consenting(run.knowledge, group)
    if len(names) < 2:
        who = ", ".join(names) or "nobody"
        needed = f"Portland needs two clients or more on {queries} queries"
        sums.outlook.stops = f"{needed}; shared by: {who}"
    else:
        run.fitted = training.blank(names, group, queries, run.stage.name)


def run(run: StageRun) -> None:
    """Train Portland on the stage's group, as `training.train` does."""
    from neulig_fl.study import training

    training.train(run)
