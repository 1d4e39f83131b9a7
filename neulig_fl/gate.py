"""The gate: the only code that makes a release.

A request passes when three allow exactly that: the scenario's stage, as the client's own copy of
the scenario has it; the client's policy there; the policy of the node that it runs on. Everything
else is refused: what nobody allowed is denied. What has left counts towards the policies' limits. A
release is charged on the disk before it leaves; the same request again gets the stored bytes and is
charged once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NoReturn

from neulig_fl import ledger, limits, policy, records, variants
from neulig_fl.client_store import ClientStore, Released
from neulig_fl.errors import ClientRefused
from neulig_fl.ledger import Entry
from neulig_fl.limits import Candidate, Claims
from neulig_fl.policy import Layer
from neulig_fl.records import Dimensions, Holdings, Request
from neulig_fl.scenario import Client, Scenario, Stage

LONGEST_NAME = 60
"""Characters of a stage's name, and so of anything that a request names."""

MOST_FRACTION = 1e9
"""Above it, a number is no mistake; Python's integers have no end, and the ledger would hold it."""


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
    if request.kind not in records.KINDS:
        return f"kind {request.kind!r} is not known"
    own = policy.refusal(policy.of_client(client.name, client.policy), request)
    if own is not None:
        return own
    stage = next((s for s in scenario.stages if s.name == request.stage), None)
    if stage is None:
        return f"the scenario has no stage {request.stage!r}"
    return _stage_refusal(stage, request, exact=_by_value(scenario, request))


def _by_value(scenario: Scenario, request: Request) -> bool:
    """Whether the server sends the pictures; those of `train` queries are other clients'."""
    sent = scenario.queries.travel == "value" or request.queries == "train"
    return sent and request.kind in records.OUTPUT_KINDS


def _stage_refusal(stage: Stage, request: Request, exact: bool) -> str | None:
    """The stage's own rules.

    Args:
        stage: as the client has it.
        request: for this stage.
        exact: only a fraction that is shared, not less: each fraction may be asked about other
            pictures, where they come by value.
    """
    where = f"stage {stage.name!r}"
    if request.group != stage.group:
        return f"{where} is for group {stage.group}, not {request.group}"
    of_kind = [s for s in stage.share if s.kind == request.kind]
    if not of_kind:
        return f"{where} does not share {request.kind}"
    if request.queries is None:
        fitting = [s for s in of_kind if not s.queries]
    else:
        fitting = [s for s in of_kind if request.queries in s.queries]
    if not fitting:
        return f"{where} does not share {request.kind} on queries {request.queries}"
    if request.protection not in {s.protection for s in fitting}:
        allowed = ", ".join(dict.fromkeys(s.protection for s in fitting))
        return f"{where} shares {request.kind} with protection {allowed}, not {request.protection}"
    shared = {s.fraction for s in fitting if s.protection == request.protection}
    most = max(shared)
    if not 0 < request.fraction <= most or (exact and request.fraction not in shared):
        return f"{where} shares a fraction of {most} of {request.kind}, not {request.fraction}"
    return None


def understood(body: Mapping[str, Any], client: Client, store: ClientStore) -> Request:
    """The request that a message holds; anything else is refused and noted.

    Raises:
        ClientRefused: unknown, missing or misshapen details.
    """
    known = {field.name for field in fields(Request)}
    rest = {k: v for k, v in body.items() if k in known}
    whole = {"stage", "group", "kind"} <= set(rest) == set(body)
    named = all(_is_name(rest.get(k, "")) for k in ("stage", "group", "kind", "protection"))
    asked = rest.get("queries") is None or _is_name(rest["queries"])
    share = rest.get("fraction", 1.0)
    number = type(share) in (int, float) and abs(share) <= MOST_FRACTION
    if not (whole and named and asked and number):
        _refuse({"client": client.name}, "the request is not one that neulig-fl makes", store)
    return Request(**rest)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def over_limit(
    layers: Sequence[Layer], entries: Sequence[Entry], candidate: Candidate
) -> str | None:
    """Which limit of which policy a record would exceed; None when it is within all of them.

    Args:
        layers: every policy that counts.
        entries: the client's own ledger.
        candidate: the record.
    """
    for layer in layers:
        if layer.rules is None:
            return f"{layer.name} cannot be read"
        reason = limits.refusal(layer.rules.limits, entries, candidate)
        if reason is not None:
            return f"{layer.name}: {reason}"
    return None


def admit(
    scenario: Scenario,
    client: Client,
    request: Request,
    store: ClientStore,
    fault: Callable[[], str | None] = lambda: None,
    node: Sequence[Layer] = (),
) -> None:
    """Let a request pass, or refuse it and note that; no data are touched.

    Args:
        scenario: the client's own copy.
        client: who is asked.
        request: what is asked for.
        store: the client's own folder.
        fault: what else is wrong with it; asked only when the policies allow the request.
        node: the policy of the node that the client runs on. It is asked last, so that nobody
            learns its rules by asking for what the scenario does not share.

    Raises:
        ClientRefused: with the rule that forbids it.
    """
    reason = (
        refusal(scenario, client, request)
        or _stale(scenario, request, store)
        or policy.refusal(node, request)
        or fault()
    )
    _stop(reason, _fact(client, request), store)


def _stale(scenario: Scenario, request: Request, store: ClientStore) -> str | None:
    """Stages go one way: once the rules have moved on, nobody asks under the old ones."""
    order = [stage.name for stage in scenario.stages]
    said = [e.get("stage") for e in store.entries() if e.get("run") == store.run]
    reached = max((order.index(name) for name in said if name in order), default=0)
    if order.index(request.stage) < reached:
        return f"stage {request.stage!r} is over: stage {order[reached]!r} has begun"
    return None


def _fact(client: Client, request: Request, **more: Any) -> dict[str, Any]:
    said = {"client": client.name, **asdict(request), **more}
    return {k: v if _has_a_word(v) else str(v) for k, v in said.items()}


def _has_a_word(value: object) -> bool:
    """Whether JSON has one: it has none for infinity and NaN."""
    return not isinstance(value, float) or math.isfinite(value)


def _refuse(fact: dict[str, Any], reason: str, store: ClientStore) -> NoReturn:
    store.note_refusal({"time": round(time.time(), 3), **fact}, reason)
    raise ClientRefused(reason, public_reason=reason)


def release(
    scenario: Scenario,
    client: Client,
    request: Request,
    *,
    rows: int,
    sizes: Dimensions,
    data_hash: str,
    holdings: Holdings,
    store: ClientStore,
    expert: str = "",
    node: Sequence[Layer] = (),
    claims: Claims = Claims(),  # noqa: B008 (frozen)
) -> Released:
    """Answer a request: a release, or a refusal. Both are in the client's ledger on return.

    Args:
        scenario: the client's own copy.
        client: who is asked.
        request: what is asked for.
        rows: queries in the set; 1 for kinds without queries.
        sizes: what the record's shapes follow from.
        data_hash: identifies the expert and the queries, for identical requests.
        holdings: what the record is made of; not touched by a refusal.
        store: the client's own folder.
        expert: identifies the expert, whose releases add up; without it, all experts of the group
            count as one.
        node: the policy of the node that the client runs on.
        claims: what the request's protection says of the release, for limits.

    Raises:
        ClientRefused: the effective policy does not allow it.
        BadReply: the record is not what its kind must be, or not finite.
    """
    own = (*policy.of_client(client.name, client.policy), *node)
    with store.exclusive():  # two messages at once must not both pass a limit with room for one
        admit(scenario, client, request, store, node=node)
        fingerprint = store.fingerprint(request, data_hash)
        stored = store.find(fingerprint)
        if stored is not None:
            return store.receipted(stored, request.stage)
        expert_tag = store.tag("expert", expert or f"any of group {request.group}")
        data_tag = store.tag("data", data_hash)
        candidate = _candidate(expert_tag, request, rows, sizes, claims)
        fact = _fact(client, request, expert=expert_tag, data=data_tag, **_said(claims))
        reason = _other_pictures(scenario, request, fact, store)
        _stop(reason or over_limit(own, store.entries(), candidate), fact, store)
        payload = _payload(client, request, rows, sizes, holdings)
        candidate = replace(candidate, bytes=len(payload))
        _stop(over_limit(own, store.entries(), candidate), fact, store)
        return store.keep(fingerprint, payload, rows, {"time": round(time.time(), 3), **fact})


def _candidate(
    expert: str, request: Request, rows: int, sizes: Dimensions, claims: Claims
) -> Candidate:
    counted = rows if request.kind in records.PER_QUERY else None
    size = records.byte_count(request.kind, rows, sizes)
    return Candidate(expert, request.kind, request.protection, counted, size, claims)


def _said(claims: Claims) -> dict[str, Any]:
    return {k: v for k, v in asdict(claims).items() if v is not None}


def _other_pictures(
    scenario: Scenario, request: Request, fact: Mapping[str, Any], store: ClientStore
) -> str | None:
    """A query set that comes by value is what it was when it first came, or it would be any."""
    if not _by_value(scenario, request):
        return None
    same = ("run", "expert", "group", "queries", "fraction")
    asked = {**fact, "run": store.run}
    answered = [e for e in store.entries() if e["event"] != ledger.REFUSAL]
    before = [
        entry
        for entry in answered
        if entry["kind"] in records.OUTPUT_KINDS and all(entry[key] == asked[key] for key in same)
    ]
    if all(entry["data"] == asked["data"] for entry in before):
        return None
    return f"other pictures than before came as queries {request.queries}"


def _stop(reason: str | None, fact: dict[str, Any], store: ClientStore) -> None:
    if reason is not None:
        _refuse(fact, reason, store)


def _payload(
    client: Client, request: Request, rows: int, sizes: Dimensions, holdings: Holdings
) -> bytes:
    """The record as it leaves."""
    who = f"client {client.name!r}, {request.kind}"
    arrays = records.build(request.kind, holdings)
    payload = records.pack(arrays, records.layout(request.kind, rows, sizes), who)
    protection = variants.load("neulig_fl.protections", request.protection)
    protected: bytes = protection.protect(payload)
    return protected
