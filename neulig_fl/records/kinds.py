"""The kinds of record that a client can release: arrays, shapes, bytes, and how they are made.

A payload is the arrays' raw bytes (little-endian, row-major), one after the other. Shapes follow
from the kind, the model and the number of rows, so both sides know them before anything travels and
a payload of another size is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neulig_fl.config.scenario import KINDS, OUTPUT_KINDS, Scenario, Share
from neulig_fl.config.values import MIXED_KINDS, MODEL_KINDS, SERVER, TRIMMED, WHOLE_MODEL_KINDS
from neulig_fl.core.errors import BadReply, InputError
from neulig_fl.merging import fisher, gram, trimming
from neulig_fl.privacy import sealing

TOP_K = 5
"""Classes in a row of a `top-k` record; all of them where there are fewer."""

LONGEST_NAME = 60
"""Characters of a stage's name, and so of anything that a request names."""

MOST_FRACTION = 1e9
"""Above it, a number is no mistake; Python's integers have no end, and the ledger would hold it."""

MEASURED = {"gram": gram, "fisher": fisher}
"""What says of each statistic which arrays it has."""

Arrays = dict[str, NDArray[np.generic]]
Field = tuple[str, str, tuple[int, ...]]

PER_QUERY = frozenset({"inputs", *OUTPUT_KINDS})
"""Kinds with one row for every query; the others are one row."""


@dataclass(frozen=True)
class Dimensions:
    """What the shapes of records follow from.

    Args:
        dim: length of a feature.
        classes: classes in the union label space.
        image_size: height and width of a query.
        entries: shape of every floating state-dict entry, in order.
    """

    dim: int
    classes: int
    image_size: int
    entries: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Request:
    """What a server asks one client for.

    Args:
        stage: the stage that asks.
        group: whose experts, A or B.
        kind: one of `KINDS`.
        queries: the query set; None for kinds without queries.
        fraction: share of the query set, or of a trimmed task vector's numbers.
        protection: what must be done to the record before it leaves.

    Example:
        >>> Request("one", "A", "features", "pool", 1).fraction
        1.0
    """

    stage: str
    group: str
    kind: str
    queries: str | None = None
    fraction: float = 1.0
    protection: str = "none"

    def __post_init__(self) -> None:
        # One way to write a number: a fingerprint, and a signature, is of a text, and 1, 1.0 and
        # true are three; so are 0.0 and -0.0.
        object.__setattr__(self, "fraction", float(self.fraction) + 0.0)

    @classmethod
    def read(cls, said: object) -> Request:
        """The request in a message, in its one form; whatever looks at a request looks at this.

        Args:
            said: a JSON object, or whatever else was received.

        Raises:
            InputError: details that are unknown, missing, of another type or too long.

        Example:
            >>> short = {"stage": "one", "group": "A", "kind": "offset-sum"}
            >>> Request.read(short) == Request.read({**short, "queries": None, "fraction": 1})
            True
        """
        known = {each.name for each in fields(cls)}
        if not isinstance(said, Mapping) or not {"stage", "group", "kind"} <= set(said) <= known:
            raise _no_request("its details are not those of a request")
        for name, value in said.items():
            if name == "fraction":
                fits = type(value) in (int, float) and abs(value) <= MOST_FRACTION
            else:
                absent = name == "queries" and value is None
                fits = absent or _is_name(value)
            if not fits:
                raise _no_request(f"its {name} is none")
        return cls(**said)

    def same_data(self, other: Request) -> bool:
        """Whether both ask for the same bytes, in whichever stage."""
        return (self.group, self.kind, self.queries, self.fraction, self.protection) == (
            other.group, other.kind, other.queries, other.fraction, other.protection
        )  # fmt: skip


def _is_name(value: object) -> bool:
    """Whether something can stand in the ledger and in a reason; half a character cannot."""
    short = isinstance(value, str) and len(value) <= LONGEST_NAME
    return short and not any(0xD800 <= ord(each) <= 0xDFFF for each in str(value))


def answers(share: Share, queries: str | None) -> bool:
    """Whether a share is of a query set; of none, for kinds without queries."""
    return queries in share.queries if queries is not None else not share.queries


def share_of(scenario: Scenario, request: Request) -> Share | None:
    """What the stage that asks says of a record; None when it says nothing of it."""
    wanted = (request.kind, request.protection)
    found = (
        share
        for stage in scenario.stages
        if stage.name == request.stage
        for share in stage.share
        if (share.kind, share.protection.name) == wanted and answers(share, request.queries)
    )
    return next(found, None)


class Holdings(Protocol):
    """What a client holds that a record can be made of."""

    def inputs(self) -> Arrays:
        """The client's own training queries: `images` and `labels`."""
        ...

    def offset_sum(self) -> Arrays:
        """The sum of all floating state-dict entries: `sum`."""
        ...

    def features(self) -> Arrays:
        """The expert's features of the queries: `features`."""
        ...

    def logits(self) -> Arrays:
        """The expert's logits of the queries over all tasks' classes: `logits`."""
        ...

    def parameters(self) -> Arrays:
        """Every floating state-dict entry, by its name."""
        ...

    def task_vector(self) -> Arrays:
        """The difference of every floating entry to theta_0's."""
        ...

    def trimmed_task_vector(self) -> Arrays:
        """As much of it as is asked for: its largest numbers (`trimming.trimmed`)."""
        ...

    def gram(self) -> Arrays:
        """Gram matrices of every weight's inputs, and their moments (`gram.measured`)."""
        ...

    def fisher(self) -> Arrays:
        """Diagonal Fisher information, and its moments (`fisher.measured`)."""
        ...

    def start(self) -> Arrays:
        """Every floating entry of theta_0, which all experts start from and everybody knows."""
        ...


def layout(kind: str, rows: int, sizes: Dimensions, fraction: float = 1.0) -> list[Field]:
    """Name, dtype and shape of every array in a record.

    Args:
        kind: of the record.
        rows: queries; 1 for kinds without queries.
        sizes: what shapes follow from.
        fraction: of a trimmed task vector, the share of its numbers that is kept.

    Example:
        >>> layout("features", 3, Dimensions(2, 5, 32, {}))
        [('features', '<f4', (3, 2))]
    """
    if kind == TRIMMED:
        return trimming.layout(sizes.entries, fraction)
    if kind in WHOLE_MODEL_KINDS:
        return _floats(sizes.entries)
    if kind in MEASURED:
        return _floats(MEASURED[kind].layout(sizes.entries))
    images = (rows, 3, sizes.image_size, sizes.image_size)
    most_likely = (rows, min(TOP_K, sizes.classes))
    fields: dict[str, list[Field]] = {
        "inputs": [("images", "|u1", images), ("labels", "<i8", (rows,))],
        "offset-sum": [("sum", "<f8", (1,))],
        "features": [("features", "<f4", (rows, sizes.dim))],
        "logits": [("logits", "<f4", (rows, sizes.classes))],
        "probabilities": [("probabilities", "<f4", (rows, sizes.classes))],
        "top-k": [("classes", "<i4", most_likely), ("probabilities", "<f4", most_likely)],
        "labels": [("labels", "<i4", (rows,))],
    }
    return fields[kind]


def _floats(shapes: Mapping[str, tuple[int, ...]]) -> list[Field]:
    return [(name, "<f4", shape) for name, shape in shapes.items()]


def byte_count(kind: str, rows: int, sizes: Dimensions, fraction: float = 1.0) -> int:
    """Bytes of a record's payload; the arguments are those of `layout`.

    Example:
        >>> byte_count("features", 3, Dimensions(2, 5, 32, {}))
        24
    """
    fields = layout(kind, rows, sizes, fraction)
    return sum(math.prod(shape) * int(dtype[-1]) for _, dtype, shape in fields)


def binding(request: Request, rows: int, sizes: Dimensions, *, client: str, run: str) -> bytes:
    """What a record on its way to the server is bound to; both sides compute it for themselves.

    Args:
        request: what was asked for.
        rows: of the record.
        sizes: what its shapes follow from.
        client: who was asked.
        run: the run's id.
    """
    return sealing.binding(
        run=run,
        stage=request.stage,
        client=client,
        recipient=SERVER,
        group=request.group,
        kind=request.kind,
        queries=request.queries,
        fraction=request.fraction,
        shapes=layout(request.kind, rows, sizes, request.fraction),
    )


def difference(own: Arrays, start: Arrays) -> Arrays:
    """A task vector: a model's entries less those of theta_0, float32."""
    return {name: np.subtract(own[name], start[name], dtype=np.float32) for name in own}


def moved(start: Arrays, vector: Arrays) -> Arrays:
    """theta_0 plus a task vector; noise must not bring a running variance below 0.

    Example:
        >>> one = np.ones(1, np.float32)
        >>> {k: float(v[0]) for k, v in moved({"a": one}, {"a": -3 * one}).items()}
        {'a': -2.0}
    """
    whole = {name: np.add(start[name], vector[name], dtype=np.float32) for name in vector}
    return {
        name: np.maximum(value, 0.0) if name.endswith("running_var") else value
        for name, value in whole.items()
    }


def build(kind: str, holdings: Holdings) -> Arrays:
    """Make a record's arrays. Only the gate calls this.

    Raises:
        BadReply: logits from which probabilities or labels are made are not finite.
    """
    makers: dict[str, Callable[[], Arrays]] = {
        "inputs": holdings.inputs,
        "offset-sum": holdings.offset_sum,
        "features": holdings.features,
        "logits": holdings.logits,
        "probabilities": lambda: {"probabilities": _probabilities(holdings)},
        "top-k": lambda: _top_k(_probabilities(holdings)),
        "labels": lambda: {"labels": _top_k(_probabilities(holdings))["classes"][:, 0]},
        "parameters": holdings.parameters,
        "task-vector": holdings.task_vector,
        TRIMMED: holdings.trimmed_task_vector,
        "gram": holdings.gram,
        "fisher": holdings.fisher,
    }
    return makers[kind]()


def _probabilities(holdings: Holdings) -> NDArray[np.float64]:
    """Softmax over the classes of all tasks, float64 of shape (rows, classes)."""
    logits = np.asarray(holdings.logits()["logits"], dtype=np.float64)
    _require_finite(logits, "logits", "what probabilities are made of")
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = scaled / scaled.sum(axis=1, keepdims=True)
    return probabilities


def _top_k(probabilities: NDArray[np.float64]) -> Arrays:
    """The most likely classes, most likely first; of equal ones the first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP_K]
    return {"classes": order, "probabilities": np.take_along_axis(probabilities, order, axis=1)}


def pack(arrays: Arrays, fields: Sequence[Field], who: str) -> bytes:
    """The payload of a record.

    Args:
        arrays: the record's arrays, by name.
        fields: what they must be (`layout`).
        who: whose record it is, for errors.

    Raises:
        BadReply: an array is missing, has another shape, or is not finite.
    """
    parts = []
    for name, dtype, shape in fields:
        array = arrays.get(name)
        if array is None or array.shape != shape:
            found = "nothing" if array is None else str(array.shape)
            raise _bad(who, f"{name} has shape {found} instead of {shape}")
        _require_finite(array, name, who)
        with np.errstate(over="ignore"):
            sent = np.ascontiguousarray(array, dtype=dtype)
        _require_finite(sent, name, who)  # a float64 can be too large for a float32
        parts.append(sent.tobytes())
    return b"".join(parts)


def unpack(payload: memoryview | bytes, fields: Sequence[Field], who: str) -> Arrays:
    """A payload's arrays: read-only views, no copies.

    Raises:
        BadReply: the payload has another size than the fields, or holds a value that is not finite.
    """
    needed = sum(math.prod(shape) * int(dtype[-1]) for _, dtype, shape in fields)
    if len(payload) != needed:
        raise _bad(who, f"{len(payload)} bytes instead of {needed}")
    arrays: Arrays = {}
    offset = 0
    for name, dtype, shape in fields:
        count = math.prod(shape)
        array = np.frombuffer(payload, dtype=dtype, count=count, offset=offset).reshape(shape)
        _require_finite(array, name, who)
        arrays[name] = array
        offset += array.nbytes
    return arrays


def _require_finite(array: NDArray[np.generic], name: str, who: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise _bad(who, f"{name} holds {bad} values that are not finite")


def _no_request(problem: str) -> InputError:
    return InputError(
        f"the request is malformed: {problem}; make it with records.Request",
        public_reason="the request is not one that neulig-fl makes",
    )


def _bad(who: str, problem: str) -> BadReply:
    return BadReply(f"{who}: {problem}", public_reason=problem)


__all__ = [
    "KINDS", "LONGEST_NAME", "MIXED_KINDS", "MODEL_KINDS", "OUTPUT_KINDS", "PER_QUERY", "SERVER",
    "TOP_K",
    "Arrays", "Dimensions", "Holdings", "Request",
    "answers", "binding", "build", "byte_count", "difference", "layout", "moved", "pack",
    "share_of", "unpack",
]  # fmt: skip
