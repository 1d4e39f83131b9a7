"""The plan of secure sums: which sums a row will ask for, how large they are, who will refuse.

The weights of a simple average are certain, and so is its leverage, together with the averages
before it. CoopVecs are not known before Portland is trained: with them the largest leverage of a
client is anything from one over the clients to 1, and the clients decide when they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from neulig_fl.config.scenario import Client, Stage
from neulig_fl.ledger.chain import OUTCOME, RELEASE, Entry
from neulig_fl.privacy.leverage import MODEL, OUTPUTS, WeightedSum, predicted
from neulig_fl.privacy.secagg import colluders
from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS
from neulig_fl.records import decisions, kinds, policy_layers
from neulig_fl.records.budgets import Candidate
from neulig_fl.records.image_sets import ANY
from neulig_fl.records.kinds import Request
from neulig_fl.records.protections import Claims
from neulig_fl.records.release_plan import Planned, Setting, expert_name
from neulig_fl.records.secagg import alone, history, requests
from neulig_fl.records.secagg.accounts import Sums

_Left = Mapping[str, Sequence[Entry]]
"""What would have left in no sum, by client."""

RowName = tuple[str, str | None]
"""Method and granularity."""

NEULIG = "neulig"


@dataclass(frozen=True)
class PlannedSum:
    """The sums of one kind of record that a row will ask for, all in one round.

    Args:
        method: `neulig`, a control, or a merge method.
        granularity: how finely it mixes; None where that does not apply.
        kind: kind of record.
        queries: the query set; None for kinds without queries.
        experts: whose experts the row would mix, in the scenario's order.
        clients: who of them would take part.
        sums: how many weight vectors there are, at most.
        bytes: bytes of each client's masked vector.
        leverage: the largest leverage of a client after it: at least, and at most.
        colluders: how many clients may work together with the server without learning another's
            record; None where there will be no sum.
        refusals: who will refuse, and why.
        refusal: why there will be no sum; None where that is not foreseen.
    """

    method: str
    granularity: str | None
    kind: str
    queries: str | None
    experts: tuple[str, ...]
    clients: tuple[str, ...]
    sums: int
    bytes: int
    leverage: tuple[float, float]
    colluders: int | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    refusal: str | None = None


@dataclass
class SumPlan:
    """The sums of a run gone through in order, as far as they are known before it.

    Args:
        setting: the scenario, opened.
    """

    setting: Setting
    _books: dict[str, list[Entry]] = field(init=False, default_factory=dict)
    _unknown: set[tuple[str, str]] = field(init=False, default_factory=set)
    _given: dict[tuple[object, ...], PlannedSum] = field(init=False, default_factory=dict)

    def ask(
        self,
        stage: Stage,
        row: RowName,
        record: tuple[str, str | None],
        experts: Sequence[str],
        portland: str | None,
    ) -> tuple[PlannedSum, bool]:
        """What comes of asking for a row's sums; what is given counts for the next.

        Args:
            stage: the stage that asks.
            row: method and granularity.
            record: kind and query set.
            experts: whose experts the row mixes, in order.
            portland: the stage that trained Portland, if one did.

        Returns:
            The sums, and whether they are asked for now: what an earlier step or stage got under
            the same weights is there.
        """
        asked = _Asked(self.setting, stage, row, record)
        trained = None if asked.certain else portland
        weights = "uniform" if asked.certain else row
        same = (stage.group, record, asked.request.fraction, weights, tuple(experts), trained)
        if same in self._given:
            return self._given[same], False
        planned = self._answered(asked, experts)
        if planned.refusal is None:
            self._given[same] = planned
            self._enter(asked, planned.clients)
        return planned, True

    def _answered(self, asked: _Asked, experts: Sequence[str]) -> PlannedSum:
        """Who takes part and who does not; each refusal can bring about others."""
        refusals: dict[str, str] = {}
        left = self._left(asked.request)
        while True:
            taking = tuple(name for name in experts if name not in refusals)
            found = {name: self._refusal(name, asked, taking, left) for name in taking}
            new = {name: reason for name, reason in found.items() if reason is not None}
            if not new:
                break
            refusals |= new
        return PlannedSum(
            *asked.row,
            *asked.record,
            tuple(experts),
            taking,
            asked.count,
            asked.bytes,
            self._leverage(asked, taking, left),
            self._colluders(taking),
            refusals,
            self._too_few(taking),
        )

    def _refusal(self, name: str, asked: _Asked, taking: Sequence[str], left: _Left) -> str | None:
        """Why a client will take no part, whatever the CoopVecs are; None when it may."""
        scenario, request = self.setting.scenario, asked.request
        client = next(c for c in scenario.clients if c.name == name)
        forbidden = decisions.refusal(scenario, client, request)
        if forbidden is not None:
            return forbidden
        layers, entries = (
            policy_layers.of_client(name, client.policy),
            self._entries(client, request),
        )
        expert, new = expert_name(client, request.group), asked.sums(taking)
        claims = Claims(leverage=0.0, group_size=len(taking), sums=asked.count)
        if new:
            sums = self._sums(name, asked, taking, left)
            claims, told = sums.claims(), sums.refusal(layers)
            if told is not None:
                return told
        counted = asked.rows if kinds.load(request.kind).per_query else None
        candidate = Candidate(
            expert, request.kind, request.protection, counted, asked.bytes, claims
        )
        return policy_layers.over_limit(layers, entries, candidate)

    def _entries(self, client: Client, request: Request) -> list[Entry]:
        """What the client's ledger would hold by then."""
        found = [
            planned.entry for planned in self._released(request) if planned.client == client.name
        ]
        return found + self._books.get(client.name, [])

    def _released(self, request: Request) -> list[Planned]:
        """What would have left in no sum, in the stages that have begun."""
        order = [stage.name for stage in self.setting.scenario.stages]
        begun = order[: order.index(request.stage) + 1]
        found = (planned for name in begun for planned in self.setting.forecast[name])
        return [planned for planned in found if planned.refusal is None]

    def _sums(self, name: str, asked: _Asked, taking: Sequence[str], left: _Left) -> Sums:
        """What is asked for, beside all sums that a client will know of, and what left alone.

        As on the client, who guards nothing where it gave the same itself.
        """
        new, request, within = asked.sums(taking), asked.request, self._past(asked.request.group)
        excused = alone.excused(
            left.get(name, ()), request.kind, request.fraction, [each.statistic for each in new]
        )
        others = {
            n: alone.counted(history.events(said, n), None, excused, excused)
            for n, said in left.items()
            if n != name
        }
        past = [[*within, *history.rows(others, "", list(others))], within]
        theirs, _ = policy_layers.max_leverages(self.setting.scenario.clients)
        return Sums(past, new, name, asked.overlap, theirs=theirs)

    def _left(self, request: Request) -> _Left:
        """What will have left of each client's expert in no sum, as its ledger would hold it."""
        found: dict[str, list[Entry]] = {}
        clients = {client.name: client for client in self.setting.scenario.clients}
        images: dict[Request, list[str]] = {}
        for number, planned in enumerate(self._released(request)):
            client, said = clients[planned.client], planned.request
            entry = _entry(client, said, planned.rows, planned.bytes)
            if entry["expert"] != expert_name(client, request.group) or not alone.told_alone(entry):
                continue
            if said not in images:
                images[said] = self._images(said)
            entry |= {"hash": str(number), "images": images[said]}
            found.setdefault(client.name, []).append(entry)
        return found

    def _images(self, request: Request) -> list[str]:
        """The sets of images that outputs are of, as `_Asked.statistics` names them."""
        if not kinds.load(request.kind).output:
            return []
        if decisions.by_value(self.setting.scenario, request):
            return [ANY]
        return [f"{request.queries} {b.task.name}" for b in self.setting.blocks(request) if b.rows]

    def _past(self, group: str) -> list[WeightedSum]:
        """The sums of one group's experts that the clients will remember together."""
        known = {}
        for client in self.setting.scenario.clients:
            own, tag = self._books.get(client.name, []), expert_name(client, group)
            known[client.name] = history.events(e for e in own if e["expert"] == tag)
        return history.rows(known, "", list(known))

    def _leverage(self, asked: _Asked, taking: Sequence[str], left: _Left) -> tuple[float, float]:
        """The largest leverage of a client after it, at least and at most."""
        own, group = [0.0 if not taking else 1.0 / len(taking)], asked.request.group
        for after in predicted([*self._past(group), *asked.sums(taking)]).values():
            own += [after.get(name, 0.0) for name in taking]
        if asked.certain and left:
            claims = (self._sums(name, asked, taking, left).claims() for name in taking)
            own += [each.leverage or 0.0 for each in claims]
        known = asked.certain and not any((group, s) in self._unknown for s in asked.statistics)
        return max(own), max(own) if known else 1.0

    def _colluders(self, taking: Sequence[str]) -> int | None:
        if self._too_few(taking) is not None:
            return None
        least = requests.threshold(self.setting.scenario.secure_aggregation, len(taking))
        return colluders(len(taking), least)

    def _too_few(self, taking: Sequence[str]) -> str | None:
        least = max(LEAST_CLIENTS, self.setting.scenario.secure_aggregation.threshold or 0)
        if len(taking) >= least:
            return None
        who = ", ".join(taking) or "nobody"
        return f"a secure sum needs {least} clients here, and would have {len(taking)} ({who})"

    def _enter(self, asked: _Asked, taking: Sequence[str]) -> None:
        request = asked.request
        rows = [each.record() for each in asked.sums(taking)]
        number = f"planned {len(self._given)}"
        for client in self.setting.scenario.clients:
            if client.name in taking:
                entry = _entry(client, request, asked.rows, asked.bytes)
                said = {**entry, "round": number, "sums": rows}
                word = {**entry, "event": OUTCOME, "round": number, "survivors": list(taking)}
                self._books.setdefault(client.name, []).extend([said, word])
        if not asked.certain:
            self._unknown |= {(request.group, statistic) for statistic in asked.statistics}


@dataclass(frozen=True)
class _Asked:
    """What a row asks for, before it is known who takes part.

    Args:
        setting: the scenario, opened.
        stage: the stage that asks.
        row: method and granularity.
        record: kind and query set.
    """

    setting: Setting
    stage: Stage
    row: RowName
    record: tuple[str, str | None]

    @property
    def certain(self) -> bool:
        """Whether the weights are known before the run: uniform, but for CoopVecs."""
        return self.row[0] != NEULIG

    @cached_property
    def request(self) -> Request:
        """As the stage shares it."""
        share = self.stage.summed(*self.record)
        assert share is not None  # whoever asks has looked
        return Request.of(self.stage, share, self.record[1])

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that have queries."""
        evaluated = Request(self.stage.name, self.stage.group, "features", "evaluation")
        return [block.task.name for block in self.setting.blocks(evaluated) if block.rows]

    @property
    def statistics(self) -> list[str]:
        """Names of the vectors that are summed, as far as they are known before images are read."""
        queries = self.record[1]
        return [f"{OUTPUTS} {queries} {t}" for t in self.tasks] if queries else [MODEL]

    def overlap(self, first: str, second: str) -> bool:
        """Whether two sets of images may share one; those that the server sends may be any."""
        sent = self.setting.scenario.queries.travel == "value"
        return sent or first == second or ANY in (first, second)

    @property
    def count(self) -> int:
        """How many sums there are, at most: tasks with the same CoopVec share a merged model."""
        return len(self.tasks) if self.record[1] or self.row[1] == "task" else 1

    @property
    def rows(self) -> int:
        """Rows of a client's vector."""
        return self.setting.rows(self.request, "")

    @property
    def bytes(self) -> int:
        """Bytes of a client's masked vector: an entry takes 4, as in a float32."""
        one = kinds.byte_count(self.request.kind, self.rows, self.setting.sizes)
        return one if self.record[1] else one * self.count

    def sums(self, taking: Sequence[str]) -> list[WeightedSum]:
        """The sums over those who take part; none where the weights are not known."""
        if not self.certain:
            return []
        weights = dict.fromkeys(taking, 1.0 / len(taking)) if taking else {}
        kind, queries = self.record
        words = [f"{kind} of {queries} queries of {t}" for t in self.tasks] if queries else [kind]
        return [
            WeightedSum(statistic, weights, label)
            for statistic, label in zip(self.statistics, words, strict=True)
        ]


def _entry(client: Client, request: Request, rows: int, size: int) -> Entry:
    return {
        "event": RELEASE,
        "expert": expert_name(client, request.group),
        "kind": request.kind,
        "fraction": request.fraction,
        "protection": request.protection,
        "rows": rows,
        "bytes": size,
    }
