"""One round of a secure sum, on the server's side: five exchanges with the clients, then the sum.

Masked vectors are added one after the other, and none is kept. What a client sends wrongly, or not
at all, leaves it out of the sum, or ends the run, as the scenario says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neulig_fl.core.errors import BadReply, NeuligError, NotAvailable, RunError
from neulig_fl.core.progress import Bar
from neulig_fl.ledger.receipts import Receipts
from neulig_fl.privacy.secagg import Server, Terms
from neulig_fl.privacy.secagg.fixed_point import WORD
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg import keys, peers
from neulig_fl.records.secagg.peers import Statement
from neulig_fl.records.secagg.requests import SumRequest
from neulig_fl.records.transport import Answer, Ask
from neulig_fl.server import asking
from neulig_fl.server.collecting import ERRORS, Collector, received, released

STEPS = 5

Record = dict[str, Any]
"""A release or a refusal, as the report has it."""

Take = Callable[[str, Answer], Record | None]
"""Takes what one client sent; a record of it, if that is a release."""

Closed = TypeVar("Closed")


@dataclass
class Exchange:
    """One round.

    Args:
        collector: the server's side of every exchange.
        asked: what is summed; all its clients are asked.
        terms: of the round.
        rows: rows of a client's vector.
        images: names of each task's set of images.
        releases: where the report's records of masked vectors go.
        refusals: where those of clients who are left out go.
        size: bytes of all masked vectors so far.
        lost: clients who are left out since the round began, and why.
    """

    collector: Collector
    asked: SumRequest
    terms: Terms
    rows: int
    images: Mapping[str, str]
    releases: list[Record]
    refusals: list[Record]
    size: int = field(init=False, default=0)
    lost: dict[str, str] = field(init=False, default_factory=dict)
    _server: Server = field(init=False)
    _bar: Bar = field(init=False)
    _peers: tuple[str, ...] = field(init=False, default=())
    _histories: dict[str, Statement] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._server = Server(self.terms, keys.verifier(self.collector.book.known))
        label = f"{self._request.stage}: {self._request.kind} {self._request.queries or ''}"
        steps = STEPS * len(self.terms.clients)
        self._bar = self.collector.progress.task(f"{label.strip()}, secure sum", steps)

    @property
    def _request(self) -> Request:
        return self.asked.request

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose vectors are in the sum, in the scenario's order."""
        return self._ordered(self._server.survivors)

    def _ordered(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.collector.released.clients if name in names)

    def total(self) -> NDArray[np.float32]:
        """The sum of the survivors' vectors, float32 of shape (entries,).

        Raises:
            NotAvailable: fewer clients than the threshold were left, or what they sent is no sum.
            RunError: a client refused, failed, is missing or answered wrongly, and the scenario
                says stop.
        """
        server, book = self._server, self.collector.book
        known = {name: book.known[name].record() for name in self.asked.clients}
        first = {"sum": self.asked.to_body(), "identities": known}
        self._ask("advertise", lambda _: first, self._take_advert)
        roster = self._closed(server.roster).hex()
        histories = {name: self._histories[name] for name in server.expected}
        said = {"message": roster, "histories": peers.packed(histories)}
        self._ask("share", lambda _: said, self._took(server.add_shares))
        boxes = self._closed(server.deliveries)
        self._peers = server.expected
        self._ask("mask", lambda name: {"message": boxes[name].hex()}, self._take_masked)
        outcome = self._closed(server.outcome).hex()
        self._ask("confirm", lambda _: {"message": outcome}, self._took(server.add_confirmation))
        request = self._closed(server.request).hex()
        self._ask("reveal", lambda _: {"message": request}, self._took(server.add_reveal))
        if self._bar.done < self._bar.total:
            self._bar.advance(self._bar.total - self._bar.done)
        return self._closed(self._opened)

    def _opened(self) -> NDArray[np.float32]:
        """The sum without masks; where they do not cancel, nobody knows whose fault it is."""
        try:
            total: NDArray[np.float32] = self._server.total(np.float32)
        except BadReply as error:
            if self.collector.released.setting.scenario.on_refusal == "stop":
                raise BadReply(f"{self._what()}: {error}") from error
            raise NotAvailable(f"{self._what()}: {error}") from error
        return total

    def _closed(self, close: Callable[[], Closed]) -> Closed:
        """Close a step; below the threshold there is no sum."""
        try:
            return close()
        except BadReply:
            raise
        except RunError as error:
            need, all_ = self.terms.threshold, len(self.terms.clients)
            raise NotAvailable(
                f"{self._what()}: {all_ - len(self.lost)} of {all_} clients are left, below the "
                f"threshold of {need} ({self._why_lost()})"
            ) from error

    def _why_lost(self) -> str:
        """Why clients are lost: the first one's reason; each has its own among the refusals."""
        first, *others = self._ordered([*self.lost])
        more = f"; and {len(others)} more, see the refusals" if others else ""
        return f"{first}: {self.lost[first]}{more}"

    # ------------------------------------------------------------ one step

    def _ask(self, step: str, said: Callable[[str], Mapping[str, Any]], take: Take) -> None:
        """Ask everyone who is left; what was received stays on record, whatever happens."""
        about = {"step": step} | ({} if step == "advertise" else {"round": self.asked.round})
        payload = self.collector.queries_by_value(self._request) if step == "mask" else b""
        asks = [
            Ask(name, "sum", {**about, **said(name)}, payload)
            for name in self._ordered(self._server.expected)
            if name not in self.lost
        ]
        records: dict[str, Record | None] = {}
        timeout = self.collector.released.setting.scenario.timeouts.answer
        large = step == "mask" and self._request.kind == "parameters"
        clients, bar = self.collector.clients, self._bar
        try:
            for answer in asking.answers(clients, asks, timeout, bar, one_by_one=large):
                records[answer.client] = self._refusal(answer.client, "it ended the run")
                records[answer.client] = self._accepted(answer, take)
                del answer  # its payload must not live on while the next one comes
        finally:
            for name in self._ordered([*records]):
                self._note(records[name], name)

    def _accepted(self, answer: Answer, take: Take) -> Record | None:
        """Take what came; who sent nothing that can be used is lost to the round."""
        client = answer.client
        if answer.status != "ok":
            self.lost[client] = f"{answer.status}: {answer.reason}"
            error = ERRORS[answer.status]
            self.collector.give_up(client, error, f"{self._what()}: {answer.reason}")
            return self._refusal(client, self.lost[client])
        try:
            return take(client, answer)
        except NeuligError as error:
            problem = error.public_reason or str(error)
            self.lost[client] = f"wrong reply: {self._what()}: {problem}"
            self.collector.give_up(client, BadReply, f"{self._what()}: {problem}")
            return self._refusal(client, self.lost[client])

    def _took(self, add: Callable[[str, bytes], None]) -> Take:
        """Takes a message of the protocol."""

        def take(client: str, answer: Answer) -> None:
            text = answer.body.get("message")
            try:
                message = bytes.fromhex(text) if isinstance(text, str) else None
            except ValueError:
                message = None
            if message is None:
                raise BadReply("it holds no message of a secure sum")
            add(client, message)

        return take

    def _take_advert(self, client: str, answer: Answer) -> None:
        """Take a client's keys, and what it remembers of sums, which the others are told."""
        statement = Statement.read(answer.body.get("history"))
        self._took(self._server.add_advert)(client, answer)
        self._histories[client] = statement

    def _take_masked(self, client: str, answer: Answer) -> Record:
        """Check a masked vector and the entry that charges it, then add it to the sum."""
        facts, size = received(answer, self.rows), WORD.itemsize * self.terms.entries
        if facts["bytes"] != size:
            raise BadReply(f"{facts['bytes']} bytes instead of {size}")
        book, entry = self.collector.book, answer.body.get("entry")
        sums = self.asked.restricted(self._peers).statistics(self.images)
        rest = {
            "round": self.asked.round,
            "sums": [each.record() for each in sums],
            "who": {name: peers.column(book.known[name]) for name in self._peers},
        }
        signed = book.check(client, asdict(self._request), {**facts, **rest}, entry)
        self._server.add_masked(client, answer.payload)
        self.size += size
        return released(client, self._request, facts, signed)

    def _note(self, record: Record | None, client: str) -> None:
        if record is None:
            return
        refused = "reason" in record
        (self.refusals if refused else self.releases).append(record)
        put_on_record(self.collector.book, self._request, record, None if refused else client)

    def _refusal(self, client: str, reason: str) -> Record:
        return {"client": client, "kind": self._request.kind, "reason": reason}

    def _what(self) -> str:
        return described(self._request)


def put_on_record(
    book: Receipts, request: Request, record: Record, client: str | None = None
) -> None:
    """Have a receipt say what came of a request.

    Args:
        book: the receipts.
        request: what was asked for.
        record: a release or a refusal, as the report has it.
        client: whose signed entry goes with it; None for a refusal.
    """
    asked = {"stage": request.stage, "group": request.group, "queries": request.queries}
    book.add({**asked, **record}, client)


def described(request: Request) -> str:
    """What is summed, in words."""
    queries = f" on {request.queries} queries" if request.queries else ""
    return f"stage {request.stage!r}, a secure sum of {request.kind}{queries}"
