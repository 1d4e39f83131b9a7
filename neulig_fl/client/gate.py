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
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, Protocol

from neulig_fl.client.server_identity import Recipient
from neulig_fl.client.store import ClientStore, Released, Wrap
from neulig_fl.config.scenario import Client, Scenario
from neulig_fl.core.errors import ClientRefused, InputError, RunError, plain
from neulig_fl.ledger import chain
from neulig_fl.privacy.keys import PublicIdentity
from neulig_fl.records import decisions, kinds, payloads, policy_layers
from neulig_fl.records.image_sets import ANY, ImageSets
from neulig_fl.records.kinds import Dimensions, Holdings, Request
from neulig_fl.records.policy_layers import Layer
from neulig_fl.records.protections import Case, Way
from neulig_fl.records.record_spec import RecordSpec

LONGEST_REASON = 300
"""Characters of a refusal's reason, which may quote what was asked."""

Fault = Callable[[], str | None]
"""What is wrong with a message; None when nothing is."""


class Held(Holdings, Protocol):
    """What a client holds, and what is known of that before the expert is loaded."""

    @property
    def rows(self) -> int:
        """Queries in the set; 1 for kinds without queries."""
        ...

    @property
    def sizes(self) -> Dimensions:
        """What shapes follow from."""
        ...

    @property
    def expert(self) -> str:
        """Identifies the expert, whose releases add up."""
        ...

    @property
    def data_hash(self) -> str:
        """Identifies the expert and the queries' images, whatever they are called."""
        ...

    @property
    def record_hash(self) -> str:
        """Identifies all that the record's numbers follow from besides its kind and shape."""
        ...

    @property
    def images_by_task(self) -> Mapping[str, Sequence[str] | None]:
        """Content ids of each task's images; None where the server sends what it likes."""
        ...

    def fault(self) -> str | None:
        """What is wrong with queries that came by value; None when nothing is."""
        ...


@dataclass(frozen=True)
class Side:
    """A client that is asked, and whose rules count.

    Args:
        scenario: the client's own copy.
        client: who is asked.
        store: the client's own folder.
        node: the policy of the node that it runs on.
        server: who asks, and gets what is sealed.
    """

    scenario: Scenario
    client: Client
    store: ClientStore
    node: Sequence[Layer] = ()
    server: Recipient = field(default_factory=Recipient)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every policy that counts besides the stage's."""
        return (*policy_layers.of_client(self.client.name, self.client.policy), *self.node)


def understood(side: Side, body: Mapping[str, Any]) -> Request:
    """The request that a message holds; anything else is refused and noted.

    Raises:
        ClientRefused: unknown, missing or misshapen details.
    """
    try:
        return Request.read(body)
    except InputError as error:
        refuse(side, error.public_reason or "the request is malformed")


def admit_preparing(side: Side, body: Mapping[str, Any]) -> str:
    """The group whose expert a message asks to prepare, or a refusal before anything is trained.

    Where no record would leave, no expert is trained for one. That is not entered in the ledger:
    no record was asked for.

    Raises:
        ClientRefused: the group is none of the scenario's, or the message holds more; or the run
            was refused too often, its server is not the known one, or a policy's time is over.
    """
    group = body.get("group")
    known = isinstance(group, str) and group in side.scenario.experts.groups
    if set(body) != {"group"} or not known:
        refuse(side, "the request is not one that neulig-fl makes")
    if _is_silent(side):
        raise ClientRefused.public(plain(chain.SILENT, LONGEST_REASON))
    require_open(side, None)
    return str(group)


def require_open(side: Side, request: Request | None) -> None:
    """See that a client still deals with this server, now, and by its node's rules of today.

    Args:
        side: of the client.
        request: the record that is to be given once more; None where it is none.

    Raises:
        ClientRefused: this server, this time, or by the node's rules this record, is refused now.
    """
    reason = (
        side.server.problem()
        or policy_layers.time_over(side.layers)
        or (policy_layers.denial(side.node, request) if request else None)
    )
    if reason is not None:
        raise ClientRefused.public(plain(reason, LONGEST_REASON))


def admit(side: Side, request: Request, fault: Fault) -> None:
    """Let a request pass, or refuse it and note that; no data are touched.

    The node's policy is asked after the scenario's, so that nobody learns its rules by asking for
    what the scenario does not share.

    Args:
        side: who is asked.
        request: what is asked for.
        fault: what else is wrong with it; asked only when the policies allow the request.

    Raises:
        ClientRefused: with the rule that forbids it.
    """
    reason = (
        (chain.SILENT if _is_silent(side) else None)
        or decisions.refusal(side.scenario, side.client, request)
        or side.server.problem()
        or _stale(side, request)
        or policy_layers.denial(side.node, request)
        or decisions.too_likely(side.scenario, side.node, request)
        or fault()
    )
    if reason is not None:
        refuse(side, reason, request)


def admit_closing(side: Side, details: Mapping[str, Any], payload: Sized) -> PublicIdentity:
    """Let the question for the end of the ledger pass, or refuse it and note that.

    It asks for nothing else, and the server that the client knows in this run alone gets it: also
    of a run that was refused too often, and after a policy's time. It tells how many entries the
    ledger has and the hash of the last, no more, and without it nobody could check what the run,
    and its refusals, came to.

    Args:
        side: who is asked.
        details: of the message, without the run's id.
        payload: of the message.

    Returns:
        The server's keys.

    Raises:
        ClientRefused: it is another's question, or asks for more.
    """
    server = side.server.identity
    if side.store.run is None or details or len(payload):
        refuse(side, "the request is not one that neulig-fl makes")
    reason = side.server.problem()
    if server is None or reason is not None:
        refuse(side, reason or "the server said no key in this run")
    return server


def _stale(side: Side, request: Request) -> str | None:
    """Stages go one way: once the rules have moved on, nobody asks under the old ones."""
    order = [stage.name for stage in side.scenario.stages]
    said = [e.get("stage") for e in side.store.entries() if e.get("run") == side.store.run]
    reached = max((order.index(name) for name in said if name in order), default=0)
    if order.index(request.stage) < reached:
        return f"stage {request.stage!r} is over: stage {order[reached]!r} has begun"
    return None


def fact(side: Side, request: Request, **more: Any) -> dict[str, Any]:
    """What an entry of the ledger says of a request, as far as JSON has words for it."""
    said = {"time": round(time.time(), 3), "client": side.client.name, **asdict(request), **more}
    return {k: v if _has_a_word(v) else str(v) for k, v in said.items()}


def _has_a_word(value: object) -> bool:
    """Whether JSON has one: it has none for infinity and NaN."""
    return not isinstance(value, float) or math.isfinite(value)


def _is_silent(side: Side) -> bool:
    """Whether so many requests of this run were refused that nothing of it is answered any more.

    Each refusal is an entry, and is waited for until it is on the disk. Other runs are answered.
    """
    entries, run = side.store.entries(), side.store.run
    refused = [e for e in entries if e["event"] == chain.REFUSAL and e.get("run") == run]
    return len(refused) >= chain.MOST_REFUSALS


def refuse(side: Side, reason: str, request: Request | None = None, **more: Any) -> NoReturn:
    """Refuse, and note it in the client's ledger, as long as that is not full of this run.

    Args:
        side: who is asked.
        reason: one line; it goes to the server.
        request: what was asked for, where that is understood.
        **more: what else the entry says.

    Raises:
        ClientRefused: always.
    """
    said = {"time": round(time.time(), 3), "client": side.client.name}
    with side.store.exclusive():  # two messages at once must not both be the last that is entered
        if _is_silent(side):
            raise ClientRefused.public(chain.SILENT)
        reason = plain(reason, LONGEST_REASON)
        side.store.note_refusal(fact(side, request, **more) if request else said, reason)
    raise ClientRefused.public(reason)


def release(side: Side, request: Request, holdings: Held) -> Released:
    """Answer a request: a release, or a refusal. Both are in the client's ledger on return.

    Args:
        side: who is asked.
        request: what is asked for.
        holdings: what the record is made of; not touched by a refusal.

    Raises:
        ClientRefused: the effective policy does not allow it.
        BadReply: the record is not what its kind must be, or not finite.
    """
    store = side.store
    with store.exclusive():  # two messages at once must not both pass a limit with room for one
        admit(side, request, holdings.fault)
        share = kinds.share_of(side.scenario, request)
        spec = RecordSpec(request, side.client.name, holdings.rows, holdings.sizes)
        guard, way = spec.guard, spec.way(store.run or "", side.server.agreement)
        problem = "no stage shares it" if share is None else spec.problem or guard.problem(way)
        if share is None or problem is not None:
            refuse(side, str(problem), request)
        treatment = [request.protection, guard.settings(share, share.kind)]
        fingerprint = store.fingerprint(request.kind, spec.fields, treatment, holdings.record_hash)
        found, wrap = store.find(fingerprint), _wrapping(spec, way)
        expert, data = store.tag("expert", holdings.expert), store.tag("data", holdings.data_hash)
        case = Case(request.kind, spec.rows, share, holdings.start)
        stated = guard.stated(case)
        said = fact(side, request, expert=expert, data=data, **stated.facts)
        said |= {"images": _images(side, holdings)} if spec.kind.output else {}
        reason = other_images(side, request, said)
        if found is not None and reason is None:
            return store.receipted(found, said, wrap)
        asked = spec.candidate(expert, stated.claims)
        reason = reason or policy_layers.over_limit(side.layers, store.entries(), asked)
        if reason is not None:
            refuse(side, reason, request, expert=expert, data=data)
        who = f"client {side.client.name!r}, {request.kind}"
        arrays = guard.treated(kinds.build(request.kind, holdings), case)
        payload = payloads.pack(arrays, spec.fields, who)
        return store.keep(fingerprint, payload, spec.rows, said, wrap)


def _images(side: Side, holdings: Held) -> list[str]:
    """Names of the sets of images that a record answers, whose members are on the disk on return.

    Those that the server sends may be any, whatever they are called.
    """
    by_task, sets = holdings.images_by_task, ImageSets(side.store.root)
    return sorted({ANY if ids is None else sets.remember(ids) for ids in by_task.values()}) or [ANY]


def _wrapping(spec: RecordSpec, way: Way) -> Wrap:
    """What makes the bytes that leave; as many as the limits were asked about, or none."""

    def wrap(payload: bytes) -> bytes:
        sent = spec.guard.wrapped(payload, way)
        if len(sent) != spec.bytes:
            problem = f"a protected record has {len(sent)} bytes instead of {spec.bytes}"
            raise RunError(f"{spec.request.protection}: {problem}", public_reason=problem)
        return sent

    return wrap


def other_images(side: Side, request: Request, said: Mapping[str, Any]) -> str | None:
    """Why a record is of other images than before; None when it is not, or may be.

    A query set that comes by value is what it was when it first came in the run, or it would be
    any. A statistic of an expert is measured on the same images in all runs, or the difference of
    two would be that of a few images, one perhaps. What is rounded or trimmed against theta_0 is so
    against the same one, or several would add up to the whole.
    """
    left = (e for e in side.store.entries() if e["event"] in (chain.RELEASE, chain.REPEAT))
    kind = kinds.load(request.kind)
    if kind.measured or kind.against_start:
        what = "measured on other images" if kind.measured else "of another start"
        told = f"{request.kind} was {what} before"
        before = [e for e in left if (e["kind"], e["expert"]) == (request.kind, said["expert"])]
    elif decisions.by_value(side.scenario, request):
        told = f"other images than before came as queries {request.queries}"
        same = ("run", "expert", "group", "queries", "fraction")
        asked, outputs = {**said, "run": side.store.run}, kinds.those(lambda each: each.output)
        before = [
            entry
            for entry in left
            if entry["kind"] in outputs and all(entry[key] == asked[key] for key in same)
        ]
    else:
        return None
    return None if all(entry["data"] == said["data"] for entry in before) else told
