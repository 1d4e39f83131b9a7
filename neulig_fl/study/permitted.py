"""What a plan says of one result: whether it can be had, and of a merge method why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neulig_fl.config.methods import MethodEntry
from neulig_fl.core.errors import NotAvailable
from neulig_fl.merging import methods
from neulig_fl.merging.methods import Needs
from neulig_fl.records.secagg.plan import PlannedSum
from neulig_fl.study.baseline_rows import StageRun
from neulig_fl.study.method_inputs import Reach

UNLESS_REFUSED = "unless CoopVecs give a sum a leverage above a client's max_leverage"

Ask = Callable[[str, tuple[str, ...]], PlannedSum]
"""What comes of asking some clients for the sum of a kind of record."""


@dataclass(frozen=True)
class Permitted:
    """One result that a stage would have.

    Args:
        method: `neulig`, a control, or a merge method.
        granularity: how finely it mixes; None where that does not apply.
        ensemble: whether its ensemble accuracy could be computed.
        merge: whether its merge accuracy could be.
        reason: why something is missing, or None.
        variant: how a merge method's options differ from its defaults.
    """

    method: str
    granularity: str | None
    ensemble: bool
    merge: bool
    reason: str | None
    variant: str | None = None


def of_method(run: StageRun, entry: MethodEntry, ask: Ask, merging: bool) -> Permitted:
    """What a merge method's row would have, by the rules of the run.

    Args:
        run: the stage, with what would be known.
        entry: what the scenario says of the method.
        ask: asks for a sum.
        merging: whether models are merged as well as outputs.
    """
    needs, reach = methods.load(entry.name).NEEDS, Reach(run.sources, run.sums)
    experts, not_merged, depends = _merged(needs, reach, ask) if merging else ((), None, False)
    ensemble, not_ensembled = True, None
    try:
        experts = reach.answering(needs, experts)
    except NotAvailable as reason:
        ensemble, not_ensembled = False, str(reason)
    merge = merging and not_merged is None
    if not merge and not ensemble:
        lacking = not_merged if merging else not needs.outputs and reach.refusal(needs)
        return Permitted(entry.name, None, False, False, lacking or not_ensembled, entry.variant)
    missing = [name for name in run.knowledge.clients if name not in experts]
    without = f"without {', '.join(missing)}" if missing else None
    unless = UNLESS_REFUSED if depends else None
    reasons = [reason for reason in (not_merged, not_ensembled, without, unless) if reason]
    return Permitted(entry.name, None, ensemble, merge, "; ".join(reasons) or None, entry.variant)


def _merged(needs: Needs, reach: Reach, ask: Ask) -> tuple[tuple[str, ...], str | None, bool]:
    """Whose experts would be merged, or why none would be; and whether CoopVecs decide that."""
    refusal = reach.refusal(needs)
    if refusal is not None:
        return (), refusal, False
    experts, depends = reach.experts(needs), False
    for at, kind in enumerate(reach.summed_kinds(needs)):
        planned = ask(kind, experts)
        if planned.refusal is not None:
            return (), planned.refusal, False
        if at and planned.clients != experts:
            return (), f"not everybody whose record is in another sum gives {kind}", False
        experts = planned.clients
        depends = depends or planned.leverage[0] < planned.leverage[1]
    return experts, None, depends
