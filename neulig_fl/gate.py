"""The gate: the only code that makes a release.

A request passes when the scenario's stage, as the client's own copy of the scenario has it, allows
exactly that, and when the client's own policy does not forbid it. Everything else is refused:
what nobody allowed is denied. A release is charged on the disk before it leaves; the same request
again gets the stored bytes and is charged once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, NoReturn

from neulig_fl import records, variants
from neulig_fl.client_store import ClientStore, Released
from neulig_fl.errors import ClientRefused
from neulig_fl.records import Dimensions, Holdings, Request
from neulig_fl.scenario import Client, Scenario, Stage


def refusal(scenario: Scenario, client: Client, request: Request) -> str | None:
    """Why a client refuses a request; None when it allows it. Needs no data.

    Args:
        scenario: the client's own copy.
        client: whose policy counts.
        request: what is asked for.

    Returns:
        One line that names the rule.
    """
    if request.kind not in records.KINDS:
        return f"kind {request.kind!r} is not known"
    if request.kind in client.policy.never:
        return f"policy of client {client.name!r}: never {request.kind}"
    if client.policy.only is not None and request.kind not in client.policy.only:
        return (
            f"policy of client {client.name!r}: only {', '.join(client.policy.only) or 'nothing'}"
        )
    stage = next((s for s in scenario.stages if s.name == request.stage), None)
    if stage is None:
        return f"the scenario has no stage {request.stage!r}"
    return _stage_refusal(stage, request)


def _stage_refusal(stage: Stage, request: Request) -> str | None:
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
    most = max(s.fraction for s in fitting if s.protection == request.protection)
    if not 0 < request.fraction <= most:
        return f"{where} shares a fraction of {most} of {request.kind}, not {request.fraction}"
    return None


def understood(body: Mapping[str, Any], client: Client, store: ClientStore) -> Request:
    """The request that a message holds; anything else is refused and noted.

    Raises:
        ClientRefused: unknown, missing or misshapen details.
    """
    known = {field.name for field in fields(Request)}
    rest = {k: v for k, v in body.items() if k in known}
    texts = all(isinstance(rest.get(k, ""), str) for k in ("stage", "group", "kind", "protection"))
    share = rest.get("fraction", 1.0)
    number = isinstance(share, int | float) and math.isfinite(share)
    named = rest.get("queries") is None or isinstance(rest["queries"], str)
    whole = {"stage", "group", "kind"} <= set(rest) == set(body)
    if not (whole and texts and number and named):
        _refuse({"client": client.name}, "the request is not one that neulig-fl makes", store)
    return Request(**rest)


def admit(
    scenario: Scenario,
    client: Client,
    request: Request,
    store: ClientStore,
    fault: Callable[[], str | None] = lambda: None,
) -> None:
    """Let a request pass, or refuse it and note that; no data are touched.

    Args:
        scenario: the client's own copy.
        client: who is asked.
        request: what is asked for.
        store: the client's own folder.
        fault: what else is wrong with it; asked only when the policy allows the request.

    Raises:
        ClientRefused: with the rule that forbids it.
    """
    reason = refusal(scenario, client, request) or fault()
    if reason is not None:
        _refuse(_fact(client, request), reason, store)


def _fact(client: Client, request: Request) -> dict[str, Any]:
    asked = {k: v if v == v and abs(v) != math.inf else str(v) for k, v in _numbers(request)}
    return {"client": client.name, **asdict(request), **asked}


def _numbers(request: Request) -> Iterator[tuple[str, float]]:
    return ((k, v) for k, v in asdict(request).items() if isinstance(v, float))


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

    Raises:
        ClientRefused: the effective policy does not allow it.
        BadReply: the record is not what its kind must be, or not finite.
    """
    admit(scenario, client, request, store)
    fingerprint = store.fingerprint(request, data_hash)
    stored = store.find(fingerprint)
    if stored is not None:
        return stored
    arrays = records.build(request.kind, holdings)
    who = f"client {client.name!r}, {request.kind}"
    payload = records.pack(arrays, records.layout(request.kind, rows, sizes), who)
    protection = variants.load("neulig_fl.protections", request.protection)
    fact = {"time": round(time.time(), 3), **_fact(client, request)}
    return store.keep(fingerprint, protection.protect(payload), rows, fact)
