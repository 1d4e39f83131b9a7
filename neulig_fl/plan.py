"""The plan: which records each stage asks of whom, before anything is loaded.

`neulig-fl plan` prints it and the server carries it out, so that what was announced is what is
done. Weights are not read. Pictures that are not built in are decoded once, because hashes of their
pixels decide the splits; the hashes are kept in the cache folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from neulig_fl import gate, records
from neulig_fl.families import Family, open_family
from neulig_fl.queries import blocks, class_count, open_tasks
from neulig_fl.records import Dimensions, Request
from neulig_fl.scenario import Client, Scenario, Stage
from neulig_fl.tasks import Task

ORDER = ("inputs", "offset-sum", "features", "logits", "parameters")
"""The order in which a stage asks: answers to `train` queries need their inputs first."""


@dataclass(frozen=True)
class Planned:
    """One record that a stage will ask one client for.

    Args:
        client: who is asked.
        request: what for.
        rows: rows of the record.
        bytes: bytes of its payload before protection.
        refusal: why the client will refuse; None when it will not.
    """

    client: str
    request: Request
    rows: int
    bytes: int
    refusal: str | None


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

    def rows(self, request: Request, client: str) -> int:
        """Rows of the record that a request asks one client for."""
        if request.kind not in records.PER_QUERY:
            return 1
        found = blocks(
            self.scenario, self.tasks, request.queries or "", request.group, request.fraction
        )
        own = request.kind == "inputs"
        return sum(b.rows for b in found if not own or b.owner == client)


def open_setting(scenario: Scenario, seed: int) -> Setting:
    """Open a scenario's tasks and model for one seed.

    Raises:
        DataError: a task's files are missing.
        CheckpointError: the model has no such weights.
    """
    return Setting(scenario, seed, open_tasks(scenario, seed), open_family(scenario.model, seed))


def stage_requests(scenario: Scenario, stage: Stage) -> list[Request]:
    """What a stage asks every client for, in order; what an earlier stage was given is left out."""
    known: list[Request] = []
    for earlier in scenario.stages:
        asked = _asked(earlier)
        if earlier.name == stage.name:
            return [r for r in asked if not any(_covers(k, r) for k in known)]
        known += asked
    return _asked(stage)


def _asked(stage: Stage) -> list[Request]:
    shares = sorted(stage.share, key=lambda s: ORDER.index(s.kind))
    return [
        Request(stage.name, stage.group, s.kind, queries, s.fraction, s.protection)
        for s in shares
        for queries in (s.queries or (None,))
    ]


def _covers(known: Request, request: Request) -> bool:
    """Whether what is known holds what is asked for: the same record, on as many queries."""
    return (known.group, known.kind, known.queries) == (
        request.group, request.kind, request.queries
    ) and known.fraction >= request.fraction  # fmt: skip


def stage_plan(setting: Setting, stage: Stage) -> Iterator[Planned]:
    """The records of one stage: every request, every client, in the scenario's order."""
    for request in stage_requests(setting.scenario, stage):
        for client in setting.scenario.clients:
            yield _planned(setting, client, request)


def _planned(setting: Setting, client: Client, request: Request) -> Planned:
    rows = setting.rows(request, client.name)
    size = records.byte_count(request.kind, rows, setting.sizes)
    return Planned(
        client.name, request, rows, size, gate.refusal(setting.scenario, client, request)
    )
