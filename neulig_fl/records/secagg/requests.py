"""What a secure sum is asked for: the request, each part's weights, and the terms that follow.

One round can sum several things under several weights, its parts: each client's vector is then what
the parts ask for, one after the other. The server makes the request once for all clients. Either
side makes the terms from its own copy of the scenario, so that clients who were told different
things cannot take part in the same round.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from neulig_fl.config.scenario import Scenario
from neulig_fl.config.stages import SecureAggregationOptions
from neulig_fl.config.values import SUMS
from neulig_fl.core.errors import InputError
from neulig_fl.data.query_sets import Block, task_names
from neulig_fl.ledger.chain import canonical
from neulig_fl.ledger.handshake import RUN
from neulig_fl.privacy.leverage import MODEL, OUTPUTS, WeightedSum, participants
from neulig_fl.privacy.secagg import Terms, default_threshold
from neulig_fl.privacy.secagg.terms import LEAST_CLIENTS
from neulig_fl.records import kinds
from neulig_fl.records.image_sets import ANY, named
from neulig_fl.records.kinds import Dimensions, Field, Request

PUBLIC_QUERIES = ("pool", "evaluation")
"""Query sets whose answers can be summed: of `train`, each task has several owners."""

MOST_CHARACTERS = 40_000
"""Of the weights as text: a ledger's entry holds them, and a server reads no longer ones."""

MOST_WHOLE = 2**53
"""The largest weight without a decimal point; Python's integers have no end."""

_ROUND = re.compile(r"[0-9a-f]{32}")
_IMAGES = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True)
class Part:
    """One weighted sum of a round.

    Args:
        task: whose queries the outputs answer; None for parameters.
        weights: of every client that is invited, by name.

    Raises:
        InputError: a weight that is not finite.

    Example:
        >>> Part("digits", {"ada": 0.5, "bob": 0.0, "cyd": 0.5}).participants
        ('ada', 'cyd')
    """

    task: str | None
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        for client, weight in self.weights.items():
            if not math.isfinite(weight):
                raise InputError(
                    f"weight of client {client!r} in a secure sum is {weight}; allowed: a finite "
                    "number",
                    public_reason=f"the weight of client {client!r} in the sum is not finite",
                )
        # One way to write a number: the terms hold a hash of them, made by each side.
        floats = {name: float(weight) for name, weight in self.weights.items()}
        object.__setattr__(self, "weights", floats)

    @property
    def participants(self) -> tuple[str, ...]:
        """Clients whose vectors move the sum, sorted."""
        return participants(self.weights)

    def share(self, client: str) -> float:
        """What a client's vector is multiplied by: its weight over the sum of all |weights|.

        So every part is summed on the same grid, whatever its weights are: a part with larger ones
        would have the others rounded coarsely.

        Example:
            >>> Part("digits", {"ada": 3.0, "bob": -1.0}).share("ada")
            0.75
        """
        largest = max(map(abs, self.weights.values()), default=0.0)  # so that no sum overflows
        if not largest:
            return 0.0
        whole = math.fsum(abs(weight / largest) for weight in self.weights.values())
        return self.weights.get(client, 0.0) / largest / whole

    def restricted(self, clients: Collection[str]) -> Part:
        """The part without the weights of others."""
        kept = {name: weight for name, weight in self.weights.items() if name in clients}
        return Part(self.task, kept)


@dataclass(frozen=True)
class SumRequest:
    """What all clients of one round are asked for.

    Args:
        request: stage, group, kind and queries, with protection `secure-aggregation`.
        round: 32 hexadecimal digits, never the same twice.
        parts: what is summed, in this order.
        images: SHA-256 of the images that travel by value with it, the same for all; empty where
            none do. With other images for one client, two sums would differ by its answers alone.
    """

    request: Request
    round: str
    parts: tuple[Part, ...]
    images: str = ""

    @property
    def clients(self) -> tuple[str, ...]:
        """Who is invited, sorted."""
        return tuple(sorted({name for part in self.parts for name in part.weights}))

    def to_body(self) -> dict[str, Any]:
        """As it travels."""
        parts = [{"task": p.task, "weights": dict(p.weights)} for p in self.parts]
        said = {"request": asdict(self.request), "round": self.round, "parts": parts}
        return {**said, "images": self.images}

    @classmethod
    def from_body(cls, body: object) -> SumRequest:
        """The request in what `to_body` made, or in whatever else came.

        Raises:
            InputError: it is no such body. What it asks for is judged by `problem`.
        """
        if not isinstance(body, dict) or set(body) != {"request", "round", "parts", "images"}:
            raise _malformed("it does not hold a request, a round, parts and images")
        said, number, parts = body["request"], body["round"], body["parts"]
        if not isinstance(number, str) or not _ROUND.fullmatch(number):
            raise _malformed("its round is not 32 hexadecimal digits")
        if not isinstance(parts, list):
            raise _malformed("its parts are no list")
        images = body["images"]
        if not isinstance(images, str) or not _IMAGES.fullmatch(images):
            raise _malformed("its images are no SHA-256")
        return cls(Request.read(said), number, tuple(_part(each) for each in parts), images)

    def problem(self, scenario: Scenario) -> str | None:
        """What is wrong with it, whoever asks; None when nothing is."""
        request, known = self.request, [client.name for client in scenario.clients]
        summed = kinds.those(lambda kind: kind.summed)
        if request.protection not in SUMS or request.kind not in summed:
            allowed = ", ".join(summed)
            return f"{request.kind} with protection {request.protection} is not summed; {allowed}"
        if kinds.load(request.kind).per_query and request.queries not in PUBLIC_QUERIES:
            return f"answers to {request.queries} queries are not summed"
        strange = [name for name in self.clients if name not in known]
        if strange:
            return f"{strange[0]!r} is invited and is no client of this scenario"
        if not self.parts or any(set(part.weights) != set(self.clients) for part in self.parts):
            return "not every part of the sum has a weight for each client that is invited"
        return (
            self._wrong_tasks(scenario)
            or self.too_few()
            or self._too_long()
            or self._too_many(len(known))
        )

    def _wrong_tasks(self, scenario: Scenario) -> str | None:
        allowed = task_names(scenario) if kinds.load(self.request.kind).per_query else [None]
        wrong = [part.task for part in self.parts if part.task not in allowed]
        return f"task {wrong[0]!r} is not one that {self.request.kind} are of" if wrong else None

    def too_few(self) -> str | None:
        """Why its vectors are too few to hide one another; None when they are not."""
        fewest = min(len(part.participants) for part in self.parts)
        if fewest >= LEAST_CLIENTS:
            return None
        return f"a sum over {fewest} clients tells too much of each; allowed: {LEAST_CLIENTS}"

    def _too_long(self) -> str | None:
        length = len(canonical([dict(part.weights) for part in self.parts]))
        if length <= MOST_CHARACTERS:
            return None
        return f"its weights are {length} characters long; at most {MOST_CHARACTERS} are read"

    def _too_many(self, most: int) -> str | None:
        """A vector is as long as all parts; more rows than clients say nothing new."""
        tasks = [part.task for part in self.parts]
        found = max(tasks.count(task) for task in tasks)
        if found <= most:
            return None
        return f"{found} sums of the same vectors are asked for at once; at most {most} are made"

    def restricted(self, clients: Collection[str]) -> SumRequest:
        """The request with these clients alone."""
        return replace(self, parts=tuple(part.restricted(clients) for part in self.parts))

    def statistics(
        self, images: Mapping[str, str], versions: Mapping[str, str] | None = None
    ) -> list[WeightedSum]:
        """What it adds to the sums that a server knows, a row for each part.

        Args:
            images: names of the sets of images that each task's queries are.
            versions: tags of the experts whose vectors they are, by client.
        """
        kind, queries = self.request.kind, self.request.queries
        tags = versions or {}
        return [
            WeightedSum(
                MODEL if part.task is None else f"{OUTPUTS} {images[part.task]}",
                part.weights,
                kind if part.task is None else f"{kind} of {queries} queries of {part.task}",
                {name: tags[name] for name in part.weights if name in tags},
            )
            for part in self.parts
        ]

    def rows(self, rows_by_task: Mapping[str, int]) -> int:
        """Rows of a client's vector: of all parts together for answers, else 1.

        Args:
            rows_by_task: queries of each task in the query set.
        """
        if not kinds.load(self.request.kind).per_query:
            return 1
        return sum(rows_by_task[part.task or ""] for part in self.parts)

    def fields(self, sizes: Dimensions, rows_by_task: Mapping[str, int]) -> list[list[Field]]:
        """Name, dtype and shape of every array of each part.

        Args:
            sizes: what shapes follow from.
            rows_by_task: queries of each task in the query set.
        """
        kind = self.request.kind
        return [
            kinds.layout(kind, rows_by_task[part.task] if part.task else 1, sizes)
            for part in self.parts
        ]

    def most_share(self, client: str) -> float:
        """The largest |share| of one client."""
        return max(abs(part.share(client)) for part in self.parts)

    def terms(
        self, scenario: Scenario, sizes: Dimensions, rows_by_task: Mapping[str, int], run: str
    ) -> Terms:
        """The terms of the round, as this side makes them.

        Args:
            scenario: this side's own copy.
            sizes: what shapes follow from.
            rows_by_task: queries of each task in the query set.
            run: the run's id.

        Raises:
            InputError: they are no possible terms; the message says what is allowed.
        """
        options, names = scenario.secure_aggregation, self.clients
        fields = self.fields(sizes, rows_by_task)
        return Terms(
            context=self._context(run),
            clients=names,
            threshold=threshold(options, len(names)),
            entries=sum(math.prod(shape) for part in fields for _, _, shape in part),
            clip=options.clip,
        )

    def _context(self, run: str) -> bytes:
        parts = hashlib.sha256(canonical(self.to_body()["parts"]).encode()).hexdigest()
        said = {RUN: run, "round": self.round, **asdict(self.request), "parts": parts}
        said |= {"images": self.images}
        return canonical(said).encode()


def image_ids(scenario: Scenario, blocks: Sequence[Block]) -> dict[str, list[str] | None]:
    """Content ids of each task's images; None where a server sends what it likes.

    Args:
        scenario: this side's own copy.
        blocks: the queries that are answered.
    """
    if scenario.queries.travel == "value":
        return {block.task.name: None for block in blocks}
    found: dict[str, list[str] | None] = {}
    for block in blocks:
        ids = block.task.source.ids()
        found[block.task.name] = [ids[int(i)] for i in block.indices]
    return found


def public_outputs(scenario: Scenario) -> list[Request]:
    """A request for outputs on each part of a public query set that some stage shares, once."""
    found = {
        (queries, share.fraction): Request.of(stage, share, queries)
        for stage in scenario.stages
        for share in stage.share
        for queries in share.queries
        if queries in PUBLIC_QUERIES and kinds.load(share.kind).output
    }
    return list(found.values())


def image_names(scenario: Scenario, blocks: Sequence[Block]) -> dict[str, str]:
    """Names of each task's set of images, as every client makes them."""
    ids = image_ids(scenario, blocks)
    return {task: ANY if known is None else named(known) for task, known in ids.items()}


def threshold(options: SecureAggregationOptions, clients: int) -> int:
    """How many clients must stay to the end of a sum.

    What the scenario says, or else two thirds of them, rounded up. Never fewer than 3: in a sum of
    two, each of them knows the other's vector.

    Example:
        >>> [threshold(SecureAggregationOptions(), n) for n in (3, 5, 20, 100)]
        [3, 4, 14, 67]
    """
    return options.threshold or max(LEAST_CLIENTS, default_threshold(clients))


def round_id(run: str, request: Request, parts: Sequence[Part], images: str) -> str:
    """A round's id, 128 bits, hex: of the run, whose id is random, and of what is asked in it.

    A server that is resumed goes on with the round that it was in, and cannot begin another for the
    same sum: its clients let one vector into a round.
    """
    said = [run, asdict(request), [[part.task, dict(part.weights)] for part in parts], images]
    return hashlib.sha256(canonical(said).encode()).hexdigest()[:32]


def _part(said: object) -> Part:
    if not isinstance(said, dict) or set(said) != {"task", "weights"}:
        raise _malformed("a part does not hold a task and weights")
    task, weights = said["task"], said["weights"]
    if not (task is None or isinstance(task, str)) or not isinstance(weights, dict):
        raise _malformed("a part's task is no name, or its weights are no mapping")
    return Part(task, {str(name): _number(weight) for name, weight in weights.items()})


def _number(value: object) -> float:
    """A weight; one that is not finite is refused where the part is made."""
    if type(value) is float:
        return value
    if type(value) is not int or abs(value) > MOST_WHOLE:
        raise _malformed("a weight is no number")
    return float(value)


def _malformed(problem: str) -> InputError:
    return InputError(
        f"the request for a secure sum is malformed: {problem}; make it with SumRequest.to_body",
        public_reason=f"the request for a sum is malformed: {problem}",
    )
