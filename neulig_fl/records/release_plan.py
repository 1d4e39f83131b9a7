"""The plan: which records each stage asks of whom, before anything is loaded.

`neulig-fl plan` prints it and the server carries it out, so that what was announced is what is
done. Weights are not read. Images that are not built in are decoded once, because hashes of their
pixels decide the splits; the hashes are kept in the cache folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from neulig_fl.config.scenario import Client, Scenario, Share, Stage
from neulig_fl.config.values import MODEL_KINDS, WHOLE_MODEL_KINDS
from neulig_fl.data.query_sets import Block, blocks, class_count, open_tasks
from neulig_fl.data.sources import Task
from neulig_fl.ledger.chain import RELEASE, REPEAT, Entry
from neulig_fl.models.families import Family, open_family
from neulig_fl.records import decisions, kinds, policy_layers, protections
from neulig_fl.records.kinds import Dimensions, Request
from neulig_fl.records.protections import NOTHING_STATED, Case, Stated
from neulig_fl.records.record_spec import RecordSpec


@dataclass(frozen=True)
class Planned:
    """One record that a stage will ask one client for.

    Args:
        record: the record.
        refusal: why the client will refuse; None when it will not.
        entry: what the client's ledger will say of it, as far as that is known before the run;
            nothing where it will be refused.
    """

    record: RecordSpec
    refusal: str | None
    entry: Entry = field(default_factory=dict)

    @property
    def client(self) -> str:
        """Who is asked."""
        return self.record.client

    @property
    def request(self) -> Request:
        """What for."""
        return self.record.request

    @property
    def rows(self) -> int:
        """Rows of the record."""
        return self.record.rows

    @property
    def bytes(self) -> int:
        """Bytes of it as it leaves."""
        return self.record.bytes


@dataclass(frozen=True)
class Setting:
    """A scenario with the tasks and the model that it names, opened but not loaded."""

    scenario: Scenario
    seed: int
    tasks: dict[str, Task]
    family: Family

    @cached_property
    def sizes(self) -> Dimensions:
        """What the shapes of records follow from."""
        return Dimensions(
            dim=self.family.dim,
            classes=class_count(self.tasks),
            image_size=self.family.image_size,
            entries=self.family.entries(),
        )

    @cached_property
    def forecast(self) -> dict[str, tuple[Planned, ...]]:
        """What every stage will ask every client for, and who will refuse; by the stage's name."""
        books: dict[str, list[Entry]] = {client.name: [] for client in self.scenario.clients}
        return dict(_Forecast(self, books).stages())

    def rows(self, request: Request, client: str) -> int:
        """Rows of the record that a request asks one client for."""
        if not kinds.load(request.kind).per_query:
            return 1
        own = request.kind == "inputs"
        return sum(b.rows for b in self.blocks(request) if not own or b.owner == client)

    def record(self, request: Request, client: str) -> RecordSpec:
        """The record that a request asks one client for."""
        return RecordSpec(request, client, self.rows(request, client), self.sizes)

    def blocks(self, request: Request) -> list[Block]:
        """The queries that a request is about."""
        queries = request.queries or ""
        return blocks(self.scenario, self.tasks, queries, request.group, request.fraction)


def open_setting(scenario: Scenario, seed: int) -> Setting:
    """Open a scenario's tasks and model for one seed.

    Raises:
        DataError: a task's files are missing.
        CheckpointError: the model has no such weights.
    """
    return Setting(scenario, seed, open_tasks(scenario, seed), open_family(scenario.model, seed))


def stage_requests(scenario: Scenario, stage: Stage) -> list[Request]:
    """What a stage asks every client for, in order; what an earlier stage was given is left out."""
    known: list[tuple[Request, Share]] = []
    for earlier in scenario.stages:
        asked = _asked(earlier)
        if earlier.name == stage.name:
            return [r for r, share in asked if not any(_covers(*k, r, share) for k in known)]
        known += asked
    return [request for request, _ in _asked(stage)]


def _asked(stage: Stage) -> list[tuple[Request, Share]]:
    """Requests, each with what the stage says of it; sums are asked for by the steps."""
    shares = sorted(stage.share, key=lambda s: kinds.names().index(s.kind))
    return [
        (Request.of(stage, s, queries), s)
        for s in shares
        if not s.in_sums
        for queries in (s.queries or (None,))
    ]


def foreseen_refusal(scenario: Scenario, client: str, request: Request) -> str | None:
    """Why a client would refuse a request by what the scenario says; None when it would not."""
    owner = next(each for each in scenario.clients if each.name == client)
    return decisions.refusal(scenario, owner, request)


def _covers(known: Request, known_share: Share, request: Request, share: Share) -> bool:
    """Whether what is known holds what is asked for: the same record, on as many queries.

    What has noise holds what has the same noise; of parameters and task vectors, each holds both,
    and what is trimmed. What is trimmed holds what is trimmed as far or further.
    """
    same = (known.group, known.kind, known.queries) == (
        request.group, request.kind, request.queries
    )  # fmt: skip
    guard = protections.load(known.protection)
    if guard.noised:
        same_noise = known.same_data(request) and guard.given(known_share) == guard.given(share)
        return same and same_noise
    if known.kind in WHOLE_MODEL_KINDS and request.kind in MODEL_KINDS:
        return known.group == request.group
    return same and known.fraction >= request.fraction


def stage_plan(setting: Setting, stage: Stage) -> Iterator[Planned]:
    """The records of one stage: every request, every client, in the scenario's order.

    A node's own policy file, and what a client released in earlier runs, are not known here.
    """
    yield from setting.forecast[stage.name]


@dataclass
class _Forecast:
    """The stages gone through in order, with what each client would have released by then.

    Args:
        setting: the scenario, opened.
        books: each client's releases, as its ledger would have them.
    """

    setting: Setting
    books: dict[str, list[Entry]]

    def stages(self) -> Iterator[tuple[str, tuple[Planned, ...]]]:
        """Every stage's name and records."""
        scenario = self.setting.scenario
        for stage in scenario.stages:
            asked = stage_requests(scenario, stage)
            pairs = ((request, client) for request in asked for client in scenario.clients)
            yield stage.name, tuple(self._planned(client, request) for request, client in pairs)

    def _planned(self, client: Client, request: Request) -> Planned:
        setting, book = self.setting, self.books[client.name]
        record = setting.record(request, client.name)
        refusal = decisions.refusal(setting.scenario, client, request) or record.problem
        if refusal is not None:
            return Planned(record, refusal)
        left, stated = self._answered(record), self._stated(record)
        expert = expert_name(client, request.group)
        entry = {**_entry(left, expert), **stated.facts}
        if any(_is_repeat(entry, before) for before in book):  # it is not charged again
            return Planned(record, None, {**entry, "event": REPEAT})
        layers = policy_layers.of_client(client.name, client.policy)
        refusal = policy_layers.over_limit(layers, book, left.candidate(expert, stated.claims))
        if refusal is not None:
            return Planned(record, refusal)
        book.append(entry)
        return Planned(record, None, entry)

    def _answered(self, record: RecordSpec) -> RecordSpec:
        """The record as it would leave; of `train`, about the queries whose owners give them."""
        request = record.request
        if request.queries != "train" or not record.kind.output:
            return record
        given = self._givers(request.group)
        blocks = self.setting.blocks(request)
        return replace(record, rows=sum(b.rows for b in blocks if b.owner in given))

    def _stated(self, record: RecordSpec) -> Stated:
        """What the record's protection will promise."""
        share = kinds.share_of(self.setting.scenario, record.request)
        if share is None:
            return NOTHING_STATED
        return record.guard.stated(Case(record.request.kind, record.rows, share))

    def _givers(self, group: str) -> set[str]:
        """Clients whose training inputs would be known."""
        given = {"kind": "inputs", "group": group}
        return {
            name
            for name, book in self.books.items()
            if any(given.items() <= e.items() for e in book)
        }


def expert_name(client: Client, group: str) -> str:
    """Which expert of a client a group means; one checkpoint for both is one expert."""
    return client.brought(group) or group


def _entry(record: RecordSpec, expert: str) -> Entry:
    """What the ledger would say of a release."""
    return {
        **asdict(record.request),
        "event": RELEASE,
        "client": record.client,
        "expert": expert,
        "rows": record.rows,
        "bytes": record.bytes,
    }


def _is_repeat(entry: Entry, before: Entry) -> bool:
    """Whether a record is the one that left before, by another stage's or group's name."""
    own_half = entry["queries"] == "train" or kinds.load(entry["kind"]).measured
    names = {"event", "stage"} | (set() if own_half else {"group"})
    return all(before.get(key) == value for key, value in entry.items() if key not in names)
