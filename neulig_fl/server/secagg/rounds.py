"""Secure sums as a stage's steps ask for them: who is invited, and what is known already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from neulig_fl.config.scenario import Stage
from neulig_fl.core.errors import ClientRefused, InputError, NotAvailable
from neulig_fl.ledger.chain import canonical
from neulig_fl.privacy.secagg import Terms
from neulig_fl.records import kinds, release_plan
from neulig_fl.records.kinds import Request
from neulig_fl.records.secagg.requests import Part, SumRequest, image_names, round_id
from neulig_fl.records.secagg.vectors import divided
from neulig_fl.server.collecting import Collector
from neulig_fl.server.secagg import kept_rounds
from neulig_fl.server.secagg.exchange import Exchange, described, put_on_record
from neulig_fl.server.secagg.kept_rounds import Sink
from neulig_fl.server.secagg.summed import Summed

Record = dict[str, Any]


class SumRounds:
    """Asks the clients for secure sums, in one stage.

    What was summed once, in this stage or an earlier one, is not asked for again; nor is, in one
    stage, what could not be summed.

    Args:
        collector: the server's side of every exchange.
        stage: that asks.
        releases: where the report's records of masked vectors go.
        refusals: where those of clients who are left out go.
    """

    def __init__(
        self,
        collector: Collector,
        stage: Stage,
        releases: list[Record],
        refusals: list[Record],
    ) -> None:
        self._collector = collector
        self._stage = stage
        self._releases = releases
        self._refusals = refusals
        self._failed: dict[tuple[object, ...], str] = {}
        self._noted: set[tuple[str, str, str | None]] = set()

    def summed(self, kind: str, queries: str | None, parts: Sequence[Part]) -> Summed:
        """The sums of one kind of record, one for each part, in one round.

        Args:
            kind: `parameters`, `features` or `logits`.
            queries: the query set; None for parameters.
            parts: what is summed under which weights.

        Raises:
            NotAvailable: the stage shares no such sums, the clients refused, or too few took part;
                the text is the report's reason.
            RunError: a client refused, failed, is missing or answered wrongly, and the scenario
                says stop.
        """
        request = self._request(kind, queries)
        text = canonical([[part.task, dict(part.weights)] for part in parts])
        key = (request.group, kind, queries, request.fraction, text)
        if key in self._failed:
            raise NotAvailable(self._failed[key])
        known: dict[tuple[object, ...], Summed] = self._collector.released.summed
        if key not in known:
            try:
                known[key] = kept_rounds.once(
                    Sink(self._collector, self._releases, self._refusals, self._noted),
                    self._stage.name,
                    key,
                    lambda: self._sum(self._asked(request, parts)),
                )
            except NotAvailable as reason:
                self._failed[key] = str(reason)
                raise
        return known[key]

    def _asked(self, request: Request, parts: Sequence[Part]) -> SumRequest:
        sent = self._collector.queries_by_value(request)
        images = hashlib.sha256(sent).hexdigest() if sent else ""
        number = round_id(self._collector.book.run, request, parts, images)
        return SumRequest(request, number, tuple(parts), images)

    def _request(self, kind: str, queries: str | None) -> Request:
        share = self._stage.summed(kind, queries)
        if share is None:
            on = f" on {queries} queries" if queries else ""
            raise NotAvailable(f"stage {self._stage.name!r} shares no secure sums of {kind}{on}")
        return Request.of(self._stage, share, queries)

    def _sum(self, whole: SumRequest) -> Summed:
        setting, run = self._collector.released.setting, self._collector.book.run
        self._collector.meet()
        self._require(whole, "")
        left_out = self._left_out(whole)
        asked = whole.restricted([name for name in whole.clients if name not in left_out])
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        self._require(asked, f" ({reasons})" if reasons else "")
        by_task, images = {}, {}
        if kinds.load(whole.request.kind).per_query:
            blocks = setting.blocks(whole.request)
            by_task = {block.task.name: block.rows for block in blocks}
            images = image_names(setting.scenario, blocks)
        try:
            terms: Terms = asked.terms(setting.scenario, setting.sizes, by_task, run)
        except InputError as error:
            raise NotAvailable(f"{described(whole.request)}: {error}") from error
        records = self._releases, self._refusals
        round_ = Exchange(self._collector, asked, terms, asked.rows(by_task), images, *records)
        total = round_.total()
        try:
            values = divided(total, asked, round_.survivors, setting.sizes, by_task)
        except InputError as error:
            raise NotAvailable(f"{described(whole.request)}: {error}") from error
        return Summed(values, round_.survivors, round_.size)

    def _require(self, asked: SumRequest, besides: str) -> None:
        problem = asked.problem(self._collector.released.setting.scenario)
        if problem is not None:
            raise NotAvailable(f"{described(asked.request)}: {problem}{besides}")

    # ------------------------------------------------------------ who is not invited

    def _left_out(self, asked: SumRequest) -> dict[str, str]:
        """Clients who are not asked, and why, in the scenario's order; each is noted once."""
        found = {}
        for name in self._collector.released.clients:
            reason = self._reason(name, asked.request) if name in asked.clients else None
            if reason is not None:
                found[name] = reason
                self._note(name, asked.request, reason)
        return found

    def _reason(self, client: str, request: Request) -> str | None:
        gone = self._collector.absent.get((client, request.group))
        if gone is not None:
            return gone
        if client not in self._collector.book.known:
            return "it never said hello, so its key is not known"
        scenario = self._collector.released.setting.scenario
        forbidden = release_plan.foreseen_refusal(scenario, client, request)
        if forbidden is not None:
            what = f"{described(request)}: {forbidden}"
            self._collector.give_up(client, ClientRefused, what)
            return f"not asked: {forbidden}"
        return None

    def _note(self, client: str, request: Request, reason: str) -> None:
        if (client, request.kind, request.queries) in self._noted:
            return
        self._noted.add((client, request.kind, request.queries))
        record = {"client": client, "kind": request.kind, "reason": reason}
        self._refusals.append(record)
        put_on_record(self._collector.book, request, record)
