"""What a scenario and its policies decide of a request: the rules alone, without data or a ledger.

A request passes when the stage of the scenario and the client's policy there both allow exactly
that; what nobody allowed is denied. The plan and the gate ask here.
"""

from __future__ import annotations

from collections.abc import Sequence

from neulig_fl.config.scenario import Client, Scenario, Stage
from neulig_fl.privacy import accountant
from neulig_fl.records import budgets, kinds, policy_layers, protections
from neulig_fl.records.kinds import Request
from neulig_fl.records.policy_layers import Layer


def refusal(scenario: Scenario, client: Client, request: Request) -> str | None:
    """Why a client refuses a request by what the scenario says; None when that allows it.

    Needs no data. What has left before, and a node's own policy, are not looked at.

    Args:
        scenario: the client's own copy.
        client: whose policy counts.
        request: what is asked for.

    Returns:
        One line that names the rule.
    """
    if request.kind not in kinds.names():
        return f"kind {request.kind!r} is not known"
    own = policy_layers.denial(policy_layers.of_client(client.name, client.policy), request)
    if own is not None:
        return own
    stage = next((s for s in scenario.stages if s.name == request.stage), None)
    if stage is None:
        return f"the scenario has no stage {request.stage!r}"
    share = kinds.share_of(scenario, request)  # each fraction would get noise of its own
    noised = share is not None and protections.load(share.protection.name).noised
    reason = _stage_refusal(stage, request, exact=noised or by_value(scenario, request))
    layers = policy_layers.of_client(client.name, client.policy)
    return reason or too_likely(scenario, layers, request)


def too_likely(scenario: Scenario, layers: Sequence[Layer], request: Request) -> str | None:
    """Why the delta of the noise that is asked for is too large; None where it is not."""
    share = kinds.share_of(scenario, request)
    delta = None if share is None else protections.load(share.protection.name).delta(share)
    if delta is None:
        return None
    clients = len(scenario.clients)
    return accountant.bare(delta, clients) or policy_layers.first_refusal(
        layers, lambda rules: budgets.delta_refusal(rules.budgets, delta, clients)
    )


def by_value(scenario: Scenario, request: Request) -> bool:
    """Whether the server sends the images; those of `train` queries are other clients'."""
    sent = scenario.queries.travel == "value" or request.queries == "train"
    return sent and kinds.load(request.kind).output


def _stage_refusal(stage: Stage, request: Request, exact: bool) -> str | None:
    """The stage's own rules.

    Args:
        stage: as the client has it.
        request: for this stage.
        exact: only a fraction that is shared, not less: each fraction may be asked about other
            images, where they come by value, and is another record, where there is noise.
    """
    where = f"stage {stage.name!r}"
    if request.group != stage.group:
        return f"{where} is for group {stage.group}, not {request.group}"
    of_kind = [s for s in stage.share if s.kind == request.kind]
    if not of_kind:
        return f"{where} does not share {request.kind}"
    fitting = [share for share in of_kind if kinds.answers(share, request.queries)]
    if not fitting:
        return f"{where} does not share {request.kind} on queries {request.queries}"
    if request.protection not in {s.protection.name for s in fitting}:
        allowed = ", ".join(dict.fromkeys(s.protection.name for s in fitting))
        return f"{where} shares {request.kind} with protection {allowed}, not {request.protection}"
    if request.fraction != 1 and not kinds.load(request.kind).divisible:
        return f"{request.kind} leaves whole or not at all, not a fraction of {request.fraction}"
    shared = {s.fraction for s in fitting if s.protection.name == request.protection}
    most = max(shared)
    if not 0 < request.fraction <= most or (exact and request.fraction not in shared):
        return f"{where} shares a fraction of {most} of {request.kind}, not {request.fraction}"
    return None
