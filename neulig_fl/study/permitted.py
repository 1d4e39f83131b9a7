"""What a plan says of one result: whether it can be had, and of a merge method why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neulig_fl.config.methods import MethodEntry
from neulig_fl.core import variants
from neulig_fl.core.errors import NotAvailable
from neulig_fl.merging.method_needs import Needs
from neulig_fl.study.method_requirements import Reach
from neulig_fl.study.mixture_inputs import Experts, MixtureInputs

UNLESS_REFUSED = "unless CoopVecs give a sum a leverage above a client's max_leverage"


@dataclass(frozen=True)
class SumOutlook:
    """What would come of asking for a sum.

    Args:
        experts: whose records would be in it, in order.
        depends: whether it depends on the CoopVecs if it is given.
    """

    experts: Experts
    depends: bool


Ask = Callable[[str, Experts], SumOutlook]
"""Asks some clients for the sum of a kind of record; raises `NotAvailable` where there is none."""


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


def of_method(inputs: MixtureInputs, entry: MethodEntry, ask: Ask, merging: bool) -> Permitted:
    """What a merge method's row would have, by the rules of the run.

    Args:
        inputs: what the stage would have released, or share within sums.
        entry: what the scenario says of the method.
        ask: asks for a sum.
        merging: whether models are merged as well as outputs.
    """
    needs: Needs = variants.load("neulig_fl.merging.methods", entry.name).NEEDS
    reach, sums = Reach(inputs), []
    experts: Experts = ()
    not_merged = not_ensembled = None
    try:
        if merging:
            experts, given = reach.collected(needs, ask)
            sums = list(given.values())
    except NotAvailable as reason:
        not_merged = str(reason)
    try:
        experts = reach.answering(needs, experts)
    except NotAvailable as reason:
        not_ensembled = str(reason)
    merge, ensemble = merging and not_merged is None, not_ensembled is None
    if not merge and not ensemble:
        lacking = not_merged if merging else not needs.outputs and reach.unmet(needs)
        return Permitted(entry.name, None, False, False, lacking or not_ensembled, entry.variant)
    unless = UNLESS_REFUSED if any(each.depends for each in sums) else None
    words = (not_merged, not_ensembled, inputs.known.without(experts), unless)
    reasons = [reason for reason in words if reason]
    return Permitted(entry.name, None, ensemble, merge, "; ".join(reasons) or None, entry.variant)
