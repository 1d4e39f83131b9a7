"""The gate for secure sums: a client's part in one is a release, and is made here alone.

What `gate` asks of every request holds for a sum too. Besides, the sum must leave the client's
vector, and those of clients who take no part, undetermined: with who was invited, with who is still
there when the vector leaves, and with who survived when its masks are taken off. The vector is
charged on the disk before it leaves; it is not stored, so a reply that is lost is lost.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from neulig_fl import gate, policy, records, secure_sum, sum_history
from neulig_fl.client_store import Released
from neulig_fl.errors import RunError
from neulig_fl.gate import Fault, Held, Side
from neulig_fl.limits import Candidate, Claims
from neulig_fl.sum_requests import SumRequest
from neulig_fl.sum_state import SumInProgress
from neulig_fl.sum_vectors import weighted


class SumHoldings(Held, Protocol):
    """What a vector is made of, and what is known of that before the expert is loaded."""

    @property
    def rows_by_task(self) -> Mapping[str, int]:
        """Queries of each task in the query set, in the order of the record's rows."""
        ...


def admit(side: Side, asked: SumRequest, fault: Fault = lambda: None) -> None:
    """Let a message of a sum pass, or refuse it and note that; no data are touched.

    Args:
        side: who is asked.
        asked: what is summed.
        fault: what else is wrong with the message.

    Raises:
        ClientRefused: with the rule that forbids it.
    """
    gate.admit(side, asked.request, lambda: asked.problem(side.scenario) or fault())


@contextmanager
def refusing(side: Side, asked: SumRequest) -> Iterator[None]:
    """What goes wrong in a sum is refused, and noted.

    Raises:
        ClientRefused: for any RunError.
    """
    try:
        yield
    except RunError as error:
        reason = error.public_reason or type(error).__name__
        gate.refuse(side, reason, asked.request)


def join(
    side: Side, asked: SumRequest, present: Collection[str], *, size: int, rows: int, expert: str
) -> dict[str, Any]:
    """Let a client's vector into a sum with these clients, or refuse it and note that.

    Args:
        side: who is asked.
        asked: what is summed.
        present: whose vectors can be in the sum.
        size: bytes of the masked vector.
        rows: rows of the vector.
        expert: identifies the expert, whose sums add up.

    Returns:
        What the ledger's entry of the vector says of the sum.

    Raises:
        ClientRefused: a limit of a policy, or the round is over.
    """
    store, request, name = side.store, asked.request, side.client.name
    sums = asked.restricted(present).statistics()
    with store.exclusive():
        admit(side, asked)
        entries, tag = store.entries(), store.tag("expert", expert)
        past = sum_history.history(entries, tag)
        claims = sum_history.claims(past, sums, name)
        counted = rows if request.kind in records.PER_QUERY else None
        candidate = Candidate(tag, request.kind, request.protection, counted, size, claims)
        reason = (
            _over(side, asked)
            or sum_history.refusal(side.layers, past, sums, name)
            or policy.over_limit(side.layers, entries, candidate)
        )
        if reason is not None:
            gate.refuse(side, reason, request)
    return gate.fact(
        side,
        request,
        round=asked.round,
        expert=tag,
        leverage=claims.leverage,
        group_size=claims.group_size,
        sums=[{"of": each.statistic, "weights": dict(each.weights)} for each in sums],
    )


def _over(side: Side, asked: SumRequest) -> str | None:
    """A round that the ledger knows is over: its masks hide one vector, not two."""
    left = sum_history.released(side.store.entries(), asked.round)
    return None if left is None else "in this round its vector has left already"


def contribute(side: Side, held: SumInProgress, delivery: bytes, holdings: SumHoldings) -> Released:
    """Answer with the masked vector: a release, or a refusal. Both are in the ledger on return.

    Args:
        side: who is asked.
        held: the sum, after the second step; its next state is stored.
        delivery: the server's message.
        holdings: what the vector is made of; not touched by a refusal.

    Raises:
        ClientRefused: the effective policy does not allow it, the message is wrong, or the vector
            is not what it must be.
    """
    asked, terms, name = held.asked, held.state.terms, side.client.name
    request, sizes, by_task = asked.request, holdings.sizes, holdings.rows_by_task
    rows = asked.rows(by_task)
    vector = weighted(
        lambda: records.build(request.kind, holdings), asked, name, sizes, by_task, terms.clip
    )
    size = 4 * terms.entries
    room = io.BytesIO(bytes(size))  # written in place, and taken as bytes without a copy
    with side.store.exclusive():
        with refusing(side, asked):
            most = asked.most_weight(name)
            after, chunks = secure_sum.mask(held.state, delivery, vector, most, room.getbuffer())
        fact = join(side, asked, after.peers, size=size, rows=rows, expert=holdings.expert)
        fact["data"] = side.store.tag("data", holdings.data_hash)
        problem = gate.other_pictures(side, request, fact)
        if problem is not None:
            gate.refuse(side, problem, request)
        with refusing(side, asked):
            for _ in chunks:  # one tensor of the vector is held at a time
                pass
        payload = room.getvalue()
        # The seeds are forgotten first: whatever happens now, no second vector gets these masks.
        side.store.keep_sum(replace(held, state=after).to_bytes())
        return side.store.charge(payload, rows, fact)


def witness(side: Side, asked: SumRequest, survivors: Sequence[str]) -> None:
    """Let a client confirm who survived, or refuse it; what it confirms is in its ledger on return.

    Args:
        side: who is asked.
        asked: what was summed.
        survivors: whose vectors are said to be in the sum.

    Raises:
        ClientRefused: with these alone, the sum would tell too much; or others were confirmed.
    """
    store, request = side.store, asked.request
    with store.exclusive():
        entries = store.entries()
        said = sum_history.confirmed(entries, asked.round)
        if said is not None and said["survivors"] == list(survivors):
            return
        reason = "it has confirmed other survivors" if said else None
        reason = reason or _with_survivors(side, asked, survivors)
        if reason is not None:
            gate.refuse(side, reason, request)
        said = gate.fact(side, request, round=asked.round, survivors=list(survivors))
        store.note_outcome(said)


def _with_survivors(side: Side, asked: SumRequest, survivors: Sequence[str]) -> str | None:
    """Why the sum of these vectors would tell too much; its rows and bytes are charged already."""
    entries = side.store.entries()
    own = sum_history.released(entries, asked.round)
    if own is None:
        return "in this round no vector of its own has left"
    sums, name = asked.restricted(survivors).statistics(), side.client.name
    past = sum_history.history([e for e in entries if e is not own], own["expert"])
    reason = sum_history.refusal(side.layers, past, sums, name)
    if reason is not None:
        return reason
    claims: Claims = sum_history.claims(past, sums, name)
    request = asked.request
    again = Candidate(own["expert"], request.kind, request.protection, 0, 0, claims)
    return policy.over_limit(side.layers, [], again)
