"""What a client lets in: runs whose opening it can hold against what it knows, and signed requests.

Everything else is refused before anything of the client's is touched. Such refusals are noted
without a run, because the run that they name is anybody's word; so all of them together are limited
as those of one run are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from neulig_fl.client import gate
from neulig_fl.client.gate import Side
from neulig_fl.client.server_identity import Servers
from neulig_fl.core.errors import BadReply
from neulig_fl.ledger.chain import canonical
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.records import budgets, policy_layers, signed_requests
from neulig_fl.records.signed_requests import Signed, run_named


@dataclass(frozen=True)
class Admitted:
    """A request that is let in.

    Args:
        opening: of its run.
        request: as its server signed it.
        digest: identifies what is asked.
        since: entries of the ledger when the same was asked before, by a server that has been
            resumed since, or of a client whose process died; None where it is asked once.
    """

    opening: Opening
    request: Signed
    digest: str
    since: int | None


def begin(side: Side, body: Mapping[str, Any], carrier: str) -> tuple[Opening, bool]:
    """Let a run begin, or refuse it and note that.

    Args:
        side: who is asked, in no run yet.
        body: of `hello`.
        carrier: Flower's id of the run, as the client has it.

    Returns:
        The run's opening, which is kept on return, and whether it is new here.

    Raises:
        ClientRefused: it is not what the client knows the run to be, its server is not the one
            that it knows, or a policy does not take part in it.
    """
    servers = Servers(side.store.root)
    with side.store.exclusive():
        if set(body) != {OPENING}:
            gate.refuse(side, "the request is not one that neulig-fl makes")
        try:
            opening = Opening.read(body[OPENING])
            new = servers.recall(opening.run) is None
            reason = (
                opening.problem(side.scenario, carrier)
                or replace(side.server, identity=opening.server).problem()
                or (_unwanted(side, opening, servers.runs()) if new else None)
            )
            if reason is not None:
                gate.refuse(side, reason)
            servers.begin(body[OPENING])
        except BadReply as error:
            gate.refuse(side, error.public_reason or "the run's opening is malformed")
    return opening, new


def _unwanted(side: Side, opening: Opening, before: int | None) -> str | None:
    """Why a policy takes no part in a run of this scenario; None when all of them do.

    Args:
        side: whose policies.
        opening: of the run.
        before: runs that began before it; None for one that has begun already.
    """
    return policy_layers.first_refusal(
        side.layers, lambda rules: budgets.run_refusal(rules, opening.scenario, before)
    )


def admitted(
    side: Side, action: str, body: Mapping[str, Any], payload: bytes | memoryview, carrier: str
) -> Admitted:
    """What is asked in a run, if its server signed that for this client, and now; or a refusal.

    Args:
        side: who is asked, in no run yet.
        action: what for.
        body: of the message.
        payload: of the message.
        carrier: Flower's id of the run, as the client has it.

    Returns:
        The request, with the run's opening.

    Raises:
        ClientRefused: the run did not begin here, or under another id of Flower's; the request is
            not signed by its server for this client, or was answered before.
    """
    servers = Servers(side.store.root)
    with side.store.exclusive():
        try:
            opening = servers.recall(run_named(body))
            if opening is None:
                gate.refuse(side, "no server has begun this run here")
            reason = opening.problem(side.scenario, carrier) or _unwanted(side, opening, None)
            if reason is not None:
                gate.refuse(side, reason)
            request = signed_requests.opened(
                body, opening.server, side.client.name, action, payload
            )
            if request.resumed != opening.resumed:
                gate.refuse(side, "the request is not of the server's process that goes on here")
            asked = digest(action, request.asked, payload)
            entries = len(side.store.entries())
            since = servers.count(request, asked, entries, action == "close")
        except BadReply as error:
            gate.refuse(side, error.public_reason or "the request is malformed")
    return Admitted(opening, request, asked, since)


def digest(action: str, asked: Mapping[str, Any], payload: bytes | memoryview) -> str:
    """Identifies what is asked, whatever number it comes under.

    Args:
        action: what for.
        asked: its details, as JSON has them.
        payload: of the message.
    """
    said = {"action": action, "asked": asked, "payload": hashlib.sha256(payload).hexdigest()}
    return hashlib.sha256(canonical(said).encode()).hexdigest()


def answered(side: Side, request: Signed) -> None:
    """Note that a request that was admitted is answered; another may be by now.

    Args:
        side: who was asked.
        request: what `admitted` returned.
    """
    with side.store.exclusive():
        Servers(side.store.root).answered(request)
