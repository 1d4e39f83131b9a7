"""Asks the clients for what the plan says, and checks every reply before it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neulig_fl.config.scenario import Scenario, Stage
from neulig_fl.config.values import MODEL_KINDS, SERVER
from neulig_fl.core.errors import (
    BadReply,
    ClientFailed,
    ClientMissing,
    ClientRefused,
    NeuligError,
    RunError,
)
from neulig_fl.core.progress import Progress
from neulig_fl.ledger import closing
from neulig_fl.ledger.chain import Entry
from neulig_fl.ledger.opening import OPENING, Opening
from neulig_fl.ledger.receipts import Receipts
from neulig_fl.privacy.keys import Identity
from neulig_fl.privacy.sealing import Seen
from neulig_fl.records import entry_check, kinds, payloads, release_plan
from neulig_fl.records.kinds import Request
from neulig_fl.records.record_spec import RecordSpec
from neulig_fl.records.release_plan import Planned
from neulig_fl.records.signed_requests import SignedTransport
from neulig_fl.records.transport import Answer, Ask, Transport
from neulig_fl.server import asking
from neulig_fl.server.released_records import ReleasedRecords
from neulig_fl.server.unfinished import Unfinished

ERRORS: dict[str, type[RunError]] = {
    "refused": ClientRefused,
    "failed": ClientFailed,
    "missing": ClientMissing,
}


@dataclass
class Collector:
    """The server's side of every exchange with the clients.

    Args:
        transport: who carries the messages.
        released: where accepted records go.
        progress: takes progress events.
        trust: the public key that each client is pinned to; others are trusted when first seen.
        identity: the server's own keys; records are sealed to them.
        absent: clients that are left out from now on, per group, and why.
        kept: what is kept of the run until it ends; None where nothing is.
        book: the server's own ledger of what it received and what it was refused.
    """

    transport: Transport
    released: ReleasedRecords
    progress: Progress
    trust: Mapping[str, str] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity.new, repr=False)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)
    kept: Unfinished | None = field(default=None, repr=False)
    book: Receipts = field(init=False)
    _met: bool = field(init=False, default=False)
    _silent: set[str] = field(init=False, default_factory=set)
    _seen: Seen = field(init=False, default_factory=Seen, repr=False)

    def __post_init__(self) -> None:
        pins = {name: key for name, key in self.trust.items() if name != SERVER}
        self.book = Receipts(pins) if self.kept is None else Receipts(pins, self.kept.run)

    @cached_property
    def clients(self) -> Transport:
        """Those behind `transport`, asked with signed requests."""
        if self.kept is None:
            return SignedTransport(self.transport, self.identity, self.book.run)
        return self.kept.clients(self.transport)

    @property
    def receipts(self) -> list[Entry]:
        """What was received and what was refused so far."""
        return self.book.entries

    @property
    def _scenario(self) -> Scenario:
        return self.released.setting.scenario

    def meet(self) -> None:
        """Open the run at every client, once, with what the server signs of it; learn their keys.

        Who does not answer is told of when it is asked for something.

        Raises:
            ClientRefused: a client does not take part, and the scenario says stop.
            BadReply: a client hello is forged or its key is not the pinned one, and the scenario
                says stop.
        """
        if self._met:
            return
        self._met = True
        carrier = self.clients.carrier
        opening = Opening.of(self._scenario, self.book.run, carrier, self.identity)
        if self.kept is not None:
            opening = self.kept.opening(opening)
        said = {OPENING: opening.signed(self.identity)}
        asks = [Ask(name, "hello", said) for name in self.released.clients]
        answers = self.clients.ask(asks, self._scenario.timeouts.hello)
        for answer in answers if self.kept is None else self.kept.greeted(answers):
            if answer.status == "missing":
                continue
            if answer.status != "ok":
                self._not_met(answer.client, ERRORS[answer.status], str(answer.reason))
                continue
            try:
                self.book.meet(answer.client, answer.body)
            except BadReply as error:
                self._not_met(answer.client, BadReply, str(error))

    def _not_met(self, client: str, error: type[RunError], why: str) -> None:
        """Leave a client out of every group, or end the run."""
        reason = f"saying hello: {why}"
        self.give_up(client, error, reason)
        for stage in self._scenario.stages:
            self.absent[(client, stage.group)] = reason

    def memory(self) -> dict[str, Any]:
        """What is remembered of the clients besides receipts and records, as JSON has it."""
        return {"latest": self.book.last(), "silent": sorted(self._silent)}

    def remember(self, said: Mapping[str, Any]) -> None:
        """Take over receipts, and what `memory` gave after them."""
        self.book.take(said["receipts"], said["latest"])
        self._silent = set(said["silent"])

    def close(self) -> dict[str, dict[str, Any]]:
        """Ask every client that said hello for the end of its ledger, now that the run ends.

        Nobody is waited for who fell silent before, and nothing that goes wrong ends the run.

        Returns:
            By client: its closing (`neulig_fl.ledger.closing`), or the `reason` why there is none.
        """
        found: dict[str, dict[str, Any]] = {
            name: {"reason": "it did not answer before"} for name in self.book.known
        }
        asks = [Ask(name, "close") for name in found if name not in self._silent]
        try:
            for answer in self.clients.ask(asks, self._scenario.timeouts.hello):
                found[answer.client] = self._closing(answer)
        except NeuligError as error:
            self.progress.note(f"not every client could be asked for its ledger's end: {error}")
        return found

    def _closing(self, answer: Answer) -> dict[str, Any]:
        client = answer.client
        if answer.status != "ok":
            return {"reason": f"{answer.status}: {answer.reason}"}
        key, latest = self.book.known[client].key, self.book.latest(client)
        wrong = closing.problem(answer.body, client, self.book.run, self.identity.key, key, latest)
        return {"reason": f"wrong reply: its closing {wrong}"} if wrong else dict(answer.body)

    def prepare(self, group: str) -> dict[str, bool]:
        """Have every client train or load its expert; which of them trained one now.

        Raises:
            RunError: a client failed or is missing and the scenario says stop.
        """
        self.meet()
        present = [n for n in self.released.clients if (n, group) not in self.absent]
        asks = [Ask(name, "prepare", {"group": group}) for name in present]
        bar = self.progress.task(f"experts of group {group}", len(asks))
        trained = {}
        for answer in asking.answers(self.clients, asks, self._scenario.timeouts.prepare, bar):
            if answer.status == "ok":
                trained[answer.client] = bool(answer.body.get("trained"))
            else:
                reason = f"preparing its expert of group {group}: {answer.reason}"
                self.give_up(answer.client, ERRORS[answer.status], reason)
                self.absent[(answer.client, group)] = reason
        return trained

    def collect(self, stage: Stage) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Ask for everything that a stage shares.

        Returns:
            The stage's releases and refusals, as the report has them, in the plan's order.

        Raises:
            RunError: a client refused, failed, is missing or answered wrongly, and the scenario
                says stop.
        """
        releases: list[dict[str, Any]] = []
        refusals: list[dict[str, Any]] = []
        self.meet()
        setting = self.released.setting
        for request in release_plan.stage_requests(setting.scenario, stage):
            planned = [p for p in release_plan.stage_plan(setting, stage) if p.request == request]
            outcome = self._ask_all(stage, request, planned)
            for item in planned:
                record = outcome[item.client]
                (refusals if "reason" in record else releases).append(record)
        return releases, refusals

    def _ask_all(
        self, stage: Stage, request: Request, planned: Sequence[Planned]
    ) -> dict[str, dict[str, Any]]:
        """One request to all clients; parameters one client at a time, to hold one copy each."""
        label = f"{stage.name}: {request.kind} {request.queries or ''}".strip()
        bar = self.progress.task(label, len(planned))
        payload = self.queries_by_value(request)
        output = kinds.load(request.kind).output
        unknown = request.queries == "train" and output and not payload
        outcome: dict[str, dict[str, Any]] = {}
        asks = []
        for item in planned:
            left_out = self.absent.get((item.client, request.group))
            if unknown:
                left_out = "no client released its training inputs"
            if left_out is None:
                asks.append(Ask(item.client, "release", asdict(request), payload))
            else:
                outcome[item.client] = self._refusal(item, left_out)
                bar.advance()
        try:
            large, timeout = _is_large(request.kind), self._scenario.timeouts.answer
            for answer in asking.answers(self.clients, asks, timeout, bar, one_by_one=large):
                item = next(p for p in planned if p.client == answer.client)
                outcome[answer.client] = self._refusal(item, "it ended the run")
                outcome[answer.client] = self._accept(item, answer)
                del answer  # its payload must not live on while the next one comes
        finally:  # what was received stays on record, also when the run ends here
            for item in planned:
                if item.client in outcome:
                    self._receipt(item, outcome[item.client])
        return outcome

    def _accept(self, item: Planned, answer: Answer) -> dict[str, Any]:
        """Check a reply and remember its record; what is wrong ends the run or is left out."""
        if answer.status != "ok":
            self.give_up(item.client, ERRORS[answer.status], f"{_what(item)}: {answer.reason}")
            return self._refusal(item, f"{answer.status}: {answer.reason}")
        try:
            return self._checked(item, answer)
        except NeuligError as error:
            reason = str(error).removeprefix(f"client {item.client!r}, ")
            self.give_up(item.client, BadReply, reason)
            return self._refusal(item, f"wrong reply: {reason}")

    def _checked(self, item: Planned, answer: Answer) -> dict[str, Any]:
        setting, request, spec = self.released.setting, item.request, self._spec(item)
        who = f"client {item.client!r}, {_what(item)}"
        try:
            facts = received(answer, spec.rows)
        except BadReply as error:
            raise BadReply(f"{who}: {error}") from error
        payload = self._opened(spec, answer.payload, who)
        arrays = payloads.unpack(payload, spec.fields, who)
        if request.kind == "inputs":
            self._check_labels(item.client, np.asarray(arrays["labels"], np.int64), who)
        wrong = spec.kind.problem(arrays, setting.sizes)
        if wrong is not None:
            raise BadReply(f"{who}: {wrong}")
        entry = self._signed(item, facts, answer.body.get("entry"), who)
        wrong = entry_check.problem(setting.scenario, entry)
        if wrong is not None:
            raise BadReply(f"{who}: its signed entry {wrong}")
        self.released.take(item.client, request, arrays, len(answer.payload))
        return released(item.client, request, facts, entry)

    def _opened(
        self, spec: RecordSpec, payload: bytes | memoryview, who: str
    ) -> bytes | memoryview:
        """The record in a payload, as its protection gives it back."""
        way = spec.way(self.book.run)
        try:
            return spec.guard.opened(payload, way, self.identity, self._seen)
        except BadReply as error:
            raise BadReply(f"{who}: {error}") from error

    def _signed(self, item: Planned, facts: dict[str, Any], entry: Any, who: str) -> Entry:
        """The client's own signed entry, which must say what was asked and what came."""
        try:
            return self.book.check(item.client, asdict(item.request), facts, entry)
        except BadReply as error:
            raise BadReply(f"{who}: {error}") from error

    def _spec(self, item: Planned) -> RecordSpec:
        """What a reply must hold; of `train`, answers to the queries whose owners gave them."""
        request = item.request
        if request.queries != "train" or not item.record.kind.output:
            return item.record
        given = self.released.questions_at(request.group, request.queries, request.fraction)
        return replace(item.record, rows=sum(len(q.labels) for q in given))

    def _check_labels(self, client: str, labels: NDArray[np.int64], who: str) -> None:
        setting = self.released.setting
        task = next(c.task for c in setting.scenario.clients if c.name == client)
        classes = len(setting.tasks[task].source.class_names)
        wrong = int(((labels < 0) | (labels >= classes)).sum())
        if wrong:
            raise BadReply(f"{who}: {wrong} labels are not among the {classes} classes of {task!r}")

    def queries_by_value(self, request: Request) -> bytes:
        """The queries' images when they travel by value; training inputs always do."""
        if not kinds.load(request.kind).output or request.queries is None:
            return b""
        if request.queries != "train" and self._scenario.queries.travel == "reference":
            return b""
        questions = self.released.questions_at(request.group, request.queries, request.fraction)
        return np.concatenate([q.images for q in questions]).tobytes() if questions else b""

    def give_up(self, client: str, error: type[RunError], reason: str) -> None:
        """Go on without a client's record, or end the run, as the scenario says.

        Raises:
            RunError: the scenario says stop; of the class that is given.
        """
        if error is ClientMissing:
            self._silent.add(client)
        if self._scenario.on_refusal == "stop":
            raise error(
                f"client {client!r}, {reason}; the scenario says `on_refusal: stop` "
                "(`continue` goes on without this client's record)"
            )
        self.progress.note(f"client {client}, {reason}; the run goes on without this record")

    def _refusal(self, item: Planned, reason: str) -> dict[str, Any]:
        return {"client": item.client, "kind": item.request.kind, "reason": reason}

    def _receipt(self, item: Planned, record: dict[str, Any]) -> None:
        """Note what came of a request; of a refusal, what was asked for too."""
        request = item.request
        asked = {"stage": request.stage, "group": request.group, "queries": request.queries}
        client = None if "reason" in record else item.client
        self.book.add({**asked, **record}, client)


def _is_large(kind: str) -> bool:
    """Whether a kind is asked for one client after the other, so that one copy of one is held."""
    return kind in MODEL_KINDS or kinds.load(kind).measured


def received(answer: Answer, rows: int) -> dict[str, Any]:
    """What came of a release: `rows`, `bytes` and `sha256`, as the client says and the bytes do.

    Raises:
        BadReply: other rows than wanted, or another hash than the client says.
    """
    said = answer.body.get("rows")
    if type(said) is not int or said != rows:  # true is 1 to Python
        raise BadReply(f"{said!r} rows instead of {rows}")
    digest = hashlib.sha256(answer.payload).hexdigest()
    if digest != answer.body.get("sha256"):
        raise BadReply("the payload's SHA-256 is not the one in the receipt")
    return {"rows": said, "bytes": len(answer.payload), "sha256": digest}


def released(
    client: str, request: Request, facts: Mapping[str, Any], entry: Entry
) -> dict[str, Any]:
    """A release as the report has it.

    Args:
        client: whose.
        request: what was asked for.
        facts: `received`.
        entry: as the client signed it.
    """
    return {
        "client": client,
        "kind": request.kind,
        "queries": request.queries,
        "protection": request.protection,
        **facts,
        **{name: entry.get(name) for name in ("epsilon", "delta", "adjacency")},
    }


def _what(item: Planned) -> str:
    queries = f" on {item.request.queries} queries" if item.request.queries else ""
    return f"stage {item.request.stage!r}, {item.request.kind}{queries}"
