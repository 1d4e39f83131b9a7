"""The gate for secure sums: a client's part in one is a release, and is made here alone.

What `gate` asks of every request holds for a sum too. Besides, the sum must leave the client's
vector, and all others, undetermined by what the clients in it remember together: with who is
still there when the vector leaves, and with who survived when its masks are taken off. The vector
is charged on the disk before it leaves. It is kept as it left until other bytes leave, so that a
server which is resumed and asks the same again gets the same vector, and never a second one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from neulig_fl.client import gate
from neulig_fl.client.asked_again import GONE
from neulig_fl.client.gate import Fault, Held, Side
from neulig_fl.client.secagg.state import SumInProgress
from neulig_fl.client.store import Released
from neulig_fl.core.errors import NeuligError
from neulig_fl.ledger.chain import Entry
from neulig_fl.privacy import secagg
from neulig_fl.privacy.leverage import WeightedSum
from neulig_fl.records import kinds, policy_layers
from neulig_fl.records.budgets import Candidate
from neulig_fl.records.image_sets import ImageSets
from neulig_fl.records.secagg import accounts as sum_accounts
from neulig_fl.records.secagg import alone, history
from neulig_fl.records.secagg.accounts import Sums
from neulig_fl.records.secagg.peers import Peers, Statement, column
from neulig_fl.records.secagg.requests import SumRequest
from neulig_fl.records.secagg.vectors import weighted

UNKNOWN = "?"
"""The expert of a client that has not said yet which one it puts in: perhaps a new one."""


class SumHoldings(Held, Protocol):
    """What a vector is made of, and what is known of that before the expert is loaded."""

    @property
    def rows_by_task(self) -> Mapping[str, int]:
        """Queries of each task in the query set, in the order of the record's rows."""
        ...

    @property
    def sent_images(self) -> str:
        """SHA-256 of the images that came by value; empty where none did."""
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
        ClientRefused: for any error of ours.
    """
    try:
        yield
    except NeuligError as error:
        reason = error.public_reason or type(error).__name__
        gate.refuse(side, reason, asked.request)


@dataclass(frozen=True)
class Weighed:
    """A client's vector on its way into a sum.

    Args:
        size: bytes of the masked vector.
        rows: rows of the vector.
        expert: tag of the expert, whose sums add up.
    """

    size: int
    rows: int
    expert: str


def join(
    side: Side, held: SumInProgress, present: Collection[str], vector: Weighed
) -> dict[str, Any]:
    """Let a client's vector into a sum with these clients, or refuse it and note that.

    Args:
        side: who is asked.
        held: the sum.
        present: whose vectors can be in it.
        vector: the client's own.

    Returns:
        What the ledger's entry of the vector says of the sum.

    Raises:
        ClientRefused: a limit of a policy, or the round is over.
    """
    store, asked, request = side.store, held.asked, held.asked.request
    with store.exclusive():
        admit(side, asked)
        with refusing(side, asked):
            sums = _sums(side, held, present, vector.expert)
        claims = sums.claims()
        counted = vector.rows if kinds.load(request.kind).per_query else None
        candidate = Candidate(
            vector.expert, request.kind, request.protection, counted, vector.size, claims
        )
        reason = (
            _over(side, asked)
            or asked.restricted(present).too_few()
            or sums.refusal(side.layers)
            or policy_layers.over_limit(side.layers, store.entries(), candidate)
        )
        if reason is not None:
            gate.refuse(side, reason, request)
    return gate.fact(
        side,
        request,
        round=asked.round,
        expert=vector.expert,
        leverage=claims.leverage,
        group_size=claims.group_size,
        sums=[each.record() for each in sums.asked],
        who={name: column for name, column in held.columns.items() if name in present},
    )


def meet(side: Side, held: SumInProgress, statements: Mapping[str, Statement]) -> SumInProgress:
    """Hear what the others in the roster remember, or refuse the sum and note that.

    Args:
        side: who is asked.
        held: the sum, with the roster.
        statements: of all in the roster, by client; may be any.

    Returns:
        The sum, with the experts whose vectors the others put in.

    Raises:
        ClientRefused: a history is missing, is not the one that its owner signed, or is shorter or
            other than one before; or with what they remember, the sum would tell too much.
    """
    asked, columns, own = held.asked, held.columns, side.client.name
    signed = held.state.said
    for name, digest in signed.items():
        if name not in statements or statements[name].digest != digest:
            gate.refuse(side, f"the history of {name!r} is not the one it signed", asked.request)
        if statements[name].column != columns[name]:
            gate.refuse(side, f"keys of {name!r} came without its hand-overs", asked.request)
    others = {columns[n]: statements[n] for n in signed if n != own}
    with side.store.exclusive(), refusing(side, asked):
        Peers(side.store.root).hear(others)
    experts = {**{n: statements[n].expert for n in signed}, own: held.experts[own]}
    return replace(held, experts=experts)


def statement(side: Side, expert: str, invited: Collection[str]) -> Statement:
    """What a client tells the others of a sum: its history, and which expert it puts in.

    Args:
        side: the client.
        expert: its expert's tag.
        invited: columns of all clients that the sum asks; of others it tells what it heard.

    Raises:
        InputError: what it heard of others is damaged.
    """
    own = column(side.store.identity.public)
    mine = tuple(history.events(side.store.entries(), own))
    return Statement(expert, mine, own, tuple(Peers(side.store.root).hearsay({*invited, own})))


def _sums(side: Side, held: SumInProgress, present: Collection[str], expert: str) -> Sums:
    """What is asked for, beside all sums that this client knows of.

    Raises:
        InputError: what it heard of others is damaged.
    """
    store, asked, name, columns = side.store, held.asked, side.client.name, held.columns
    met = [other for other in held.experts if other != name]
    own = columns[name]
    peers = Peers(store.root)
    mine, heard = history.events(store.entries(), own), peers.known()
    hearsay = [e for e in peers.hearsay([*heard, own]) if e["round"] != asked.round]
    mine = alone.bare(mine)  # what left of its own alone says nothing of the others
    experts = {**dict.fromkeys(present, UNKNOWN), **held.experts, name: expert}
    new = asked.restricted(present).statistics(held.images, experts)
    now, ever = (
        alone.excused(
            entries, asked.request.kind, asked.request.fraction, [s.statistic for s in new]
        )
        for entries in (_of(store.entries(), expert), store.entries())
    )
    tags = {columns[n]: tag for n, tag in held.experts.items()}
    heard = {c: alone.counted(said, tags.get(c), now, ever) for c, said in heard.items()}
    hearsay = alone.counted(hearsay, None, now, ever)
    if not met:  # whether an open round went on without it, others will say
        mine, heard = history.settled(mine), {}
    histories = {**heard, own: mine}
    before = {
        column: [event for event in said if event["round"] != asked.round]
        for column, said in histories.items()
    }
    labels = history.names(store.entries())
    labels |= {column: client for client, column in columns.items()}
    whole = [columns[other] for other in met]
    past = sum_accounts.accounts(before, own, whole, labels, hearsay)
    theirs, _ = policy_layers.max_leverages(side.scenario.clients)
    return Sums(past, new, name, ImageSets(store.root).overlap, theirs=theirs)


def _of(entries: Sequence[Entry], expert: str) -> list[Entry]:
    return [entry for entry in entries if entry.get("expert") == expert]


def _over(side: Side, asked: SumRequest) -> str | None:
    """A round that the ledger knows is over: its masks hide one vector, not two."""
    left = history.released(side.store.entries(), asked.round)
    return None if left is None else "in this round its vector has been released already"


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
        lambda: kinds.build(request.kind, holdings), asked, name, sizes, by_task, terms.clip
    )
    size = 4 * terms.entries
    room = io.BytesIO(bytes(size))  # written in place, and taken as bytes without a copy
    with side.store.exclusive():
        with refusing(side, asked):
            most = asked.most_share(name)
            after, chunks = secagg.mask(held.state, delivery, vector, most, room.getbuffer())
        fact = _joining(side, held, after.peers, holdings, size)
        with refusing(side, asked):
            for _ in chunks:  # one tensor of the vector is held at a time
                pass
        payload = room.getvalue()
        side.store.keep_sent(payload)
        # The seeds are forgotten first: whatever happens now, no second vector gets these masks.
        last = {**held.last, "sha256": hashlib.sha256(payload).hexdigest()}
        side.store.keep_sum(replace(held, state=after, last=last).to_bytes())
        return side.store.charge(payload, rows, fact)


def charge_again(side: Side, held: SumInProgress, holdings: SumHoldings) -> Released:
    """Charge a masked vector whose process died before that, as `contribute` would have.

    Args:
        side: who is asked.
        held: the sum, after the third step.
        holdings: what the vector was made of.

    Raises:
        ClientRefused: the effective policy does not allow it any more, or the vector is gone.
    """
    with side.store.exclusive():
        admit(side, held.asked, holdings.fault)
        payload = side.store.sent({"sha256": held.last.get("sha256")})
        if payload is None:
            gate.refuse(side, GONE, held.asked.request)
        fact = _joining(side, held, held.state.peers, holdings, len(payload))
        return side.store.charge(payload, held.asked.rows(holdings.rows_by_task), fact)


def _joining(
    side: Side, held: SumInProgress, present: Collection[str], holdings: SumHoldings, size: int
) -> dict[str, Any]:
    """What the entry of a masked vector says, or a refusal: of the sum, or of other images."""
    asked, rows = held.asked, held.asked.rows(holdings.rows_by_task)
    tag = side.store.tag("expert", holdings.expert)
    fact = join(side, held, present, Weighed(size, rows, tag))
    fact["data"] = side.store.tag("data", holdings.data_hash)
    problem = gate.other_images(side, asked.request, fact)
    if problem is None and holdings.sent_images != asked.images:
        problem = "other images came than all clients of the sum agreed on"
    if problem is not None:
        gate.refuse(side, problem, asked.request)
    return fact


def witness(side: Side, held: SumInProgress, survivors: Sequence[str]) -> None:
    """Let a client confirm who survived, or refuse it; what it confirms is in its ledger on return.

    Args:
        side: who is asked.
        held: the sum.
        survivors: whose vectors are said to be in it.

    Raises:
        ClientRefused: with these alone, the sum would tell too much; or others were confirmed.
    """
    store, asked, request = side.store, held.asked, held.asked.request
    with store.exclusive():
        entries = store.entries()
        said = history.confirmed(entries, asked.round)
        if said is not None and said["survivors"] == list(survivors):
            return
        reason = "it has confirmed other survivors" if said else None
        with refusing(side, asked):
            reason = reason or _with_survivors(side, held, survivors)
        if reason is not None:
            gate.refuse(side, reason, request)
        said = gate.fact(side, request, round=asked.round, survivors=list(survivors))
        store.note_outcome(said)


def _with_survivors(side: Side, held: SumInProgress, survivors: Sequence[str]) -> str | None:
    """Why the sum of these vectors would tell too much; its rows and bytes are charged already."""
    asked = held.asked
    own = history.released(side.store.entries(), asked.round)
    if own is None:
        return "in this round no vector of its own has been released"
    reason = asked.restricted(survivors).too_few()
    if reason is not None:
        return reason
    agreed = [WeightedSum(row["of"], row["weights"]) for row in own["sums"]]
    sums = replace(_sums(side, held, survivors, own["expert"]), agreed=agreed)
    reason = sums.refusal(side.layers)
    if reason is not None:
        return reason
    request = asked.request
    again = Candidate(own["expert"], request.kind, request.protection, 0, 0, sums.claims())
    return policy_layers.over_limit(side.layers, [], again)
