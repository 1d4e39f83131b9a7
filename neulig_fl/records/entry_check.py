"""Whether a signed entry's protection and noise are those that its stage asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields

from neulig_fl.config.scenario import Scenario
from neulig_fl.core.errors import InputError
from neulig_fl.ledger import expert_account
from neulig_fl.ledger.chain import Entry, Fault
from neulig_fl.ledger.handshake import RUN
from neulig_fl.records import kinds, protections
from neulig_fl.records.kinds import Request

_CLOSE = 1e-5
"""Share by which multipliers may differ that two machines searched for the same epsilon."""


def problem(scenario: Scenario, entry: Entry) -> str | None:
    """What an entry says otherwise than its stage; None when it says the same.

    More noise than asked for is a departure as well: nobody can see whether it is there.

    Args:
        scenario: of the entry's run.
        entry: of a release or a repeat, signed by its client.

    Returns:
        The rest of a sentence that begins with the entry.
    """
    try:
        request = Request.read({each.name: entry.get(each.name) for each in fields(Request)})
    except InputError:
        return "is of what nobody can ask for"
    share = kinds.share_of(scenario, request)
    if share is None:
        return _unshared(scenario, request)
    try:
        wanted = protections.load(request.protection).signed(share, request.kind)
    except InputError as error:
        return f"claims noise, and stage {request.stage!r} says none that can be: {error}"
    for name, value in wanted.items():
        if not _same(entry.get(name), value):
            told = str(entry.get(name))[:60]
            return f"says {name} {told}, and stage {request.stage!r} asks for {value}"
    return None


def fault(scenario: Scenario, own: Sequence[Entry], run: object) -> Fault | None:
    """The first release of one run in a client's own ledger that is not what its stage asks for.

    Args:
        scenario: of the run.
        own: the client's ledger.
        run: the run's id.
    """
    for index, entry in enumerate(own):
        if entry.get(RUN) == run and entry.get("event") in expert_account.LEFT:
            found = problem(scenario, entry)
            if found is not None:
                return Fault(index, found)
    return None


def _unshared(scenario: Scenario, request: Request) -> str:
    shared = dict.fromkeys(
        share.protection.name
        for stage in scenario.stages
        if stage.name == request.stage
        for share in stage.share
        if share.kind == request.kind and kinds.answers(share, request.queries)
    )
    what = f"{request.kind} of {request.queries}" if request.queries else request.kind
    if not shared:
        return f"is of {what}, which stage {request.stage!r} does not share"
    told = f"says protection {request.protection} of {what}"
    return f"{told}, and stage {request.stage!r} asks for {', '.join(shared)}"


def _same(said: object, wanted: object) -> bool:
    if isinstance(wanted, str) or isinstance(said, bool) or not isinstance(said, float | int):
        return said == wanted
    return isinstance(wanted, float | int) and math.isclose(said, wanted, rel_tol=_CLOSE)
