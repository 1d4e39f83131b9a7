"""The kinds of record that a client can release: one file each.

A payload is the arrays' raw bytes (little-endian, row-major), one after the other. Shapes follow
from the kind, the model and the number of rows, so both sides know them before anything travels and
a payload of another size is refused.

A file defines `KIND`, of a class below `Kind`, which says in what it is not told of a whole model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Protocol, TypeAlias

from neulig_fl.config.scenario import Scenario, Share, Stage
from neulig_fl.config.stages import EXAMPLES
from neulig_fl.core import variants
from neulig_fl.core.errors import InputError

if TYPE_CHECKING:  # slow to import, and `check` does not need it
    import numpy as np
    from numpy.typing import NDArray

LONGEST_NAME = 60
"""Characters of a stage's name, and so of anything that a request names."""

MOST_FRACTION = 1e9
"""Above it, a number is no mistake; Python's integers have no end, and the ledger would hold it."""

Arrays: TypeAlias = "dict[str, NDArray[np.generic]]"
Field = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of an array."""


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
        kind: name of one.
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
    def of(cls, stage: Stage, share: Share, queries: str | None) -> Request:
        """What a stage asks for under one entry of its `share`, on one of its query sets."""
        protection = share.protection.name
        return cls(stage.name, stage.group, share.kind, queries, share.fraction, protection)

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


class Kind(ABC):
    """A kind of record. What a file does not say is that it is told of a whole model, once.

    Attributes:
        rank: place among the kinds that a stage asks for, lowest first: answers to `train` queries
            need their inputs, and a whole model takes the place of a part.
        output: whether it answers queries with what the model makes of them.
        per_query: whether it has a row for every query; otherwise it is one row.
        divisible: whether a fraction of it can leave: of the queries, or of its numbers.
        noisable: whether noise can be added to it: rows of numbers, or a model's difference to its
            checkpoint.
        summed: whether it can leave within secure sums.
        measured: whether it is a statistic of the model on the client's own training images.
        tells_model: whether the model, or a part of it, follows from it.
        against_start: whether it tells of a model by its difference to theta_0.
        of_heads: of outputs, whether they follow from the tasks' heads too.
        voted: whether it names each query's most likely class, see `most_likely`.
    """

    rank = 120
    output = False
    per_query = False
    divisible = False
    noisable = False
    summed = False
    measured = False
    tells_model = True
    against_start = False
    of_heads = False
    voted = False

    @abstractmethod
    def layout(self, rows: int, sizes: Dimensions, fraction: float) -> list[Field]:
        """Name, dtype and shape of every array in a record.

        Args:
            rows: queries; 1 for kinds without queries.
            sizes: what shapes follow from.
            fraction: of kinds without queries, the share of its numbers that is kept.
        """

    @abstractmethod
    def made_of(self, holdings: Holdings) -> Arrays:
        """A record's arrays. `build` alone calls this.

        Raises:
            BadReply: what it is made of is not finite.
        """

    def keeps_all(self, fraction: float, sizes: Dimensions | None = None) -> bool:
        """Whether a fraction of its numbers, of sizes that may not be known, is all of them."""
        return False

    def problem(self, arrays: Arrays, sizes: Dimensions) -> str | None:
        """Why arrays of the right shapes are no record of the kind; None when they are one."""
        return None

    def most_likely(self, arrays: Arrays) -> NDArray[np.int64]:
        """The class that each row of a record holds most likely, of shape (rows,)."""
        raise NotImplementedError(f"{type(self).__name__} names no classes")


class Output(Kind):
    """A kind that answers queries: a row for each, from the model's logits or features."""

    rank = 65
    output = True
    tells_model = False
    per_query = True
    divisible = True
    of_heads = True


@cache
def load(name: str) -> Kind:
    """The kind of a name.

    Raises:
        InputError: no file of that name is in the folder.

    Example:
        >>> load("labels").output, load("parameters").output
        (True, False)
    """
    found: Kind = variants.load(__name__, name, "kind").KIND
    return found


@cache
def names() -> tuple[str, ...]:
    """All kinds, in the order in which a stage asks for them.

    Example:
        >>> names()[0], names()[-1]
        ('inputs', 'fisher')
    """
    return tuple(sorted(variants.names(__name__), key=lambda name: (load(name).rank, name)))


def those(fit: Callable[[Kind], bool]) -> tuple[str, ...]:
    """The kinds that fit, in the same order.

    Example:
        >>> those(lambda kind: kind.measured)
        ('gram', 'fisher')
    """
    return tuple(name for name in names() if fit(load(name)))


def naming_classes() -> tuple[str, ...]:
    """The kinds that name each query's most likely class, those that tell least first.

    Example:
        >>> naming_classes()
        ('labels', 'top-k', 'probabilities')
    """
    return those(lambda kind: kind.voted)[::-1]


def examples(share: Share) -> int | None:
    """Training images that a statistic is measured on; None for kinds that are none."""
    return (share.examples or EXAMPLES) if load(share.kind).measured else None


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
    return load(kind).layout(rows, sizes, fraction)


def byte_count(kind: str, rows: int, sizes: Dimensions, fraction: float = 1.0) -> int:
    """Bytes of a record's payload; the arguments are those of `layout`.

    Example:
        >>> byte_count("features", 3, Dimensions(2, 5, 32, {}))
        24
    """
    return bytes_of(layout(kind, rows, sizes, fraction))


def bytes_of(fields: Sequence[Field]) -> int:
    """Bytes of the arrays that a layout describes.

    Example:
        >>> bytes_of([("sum", "<f8", (1,)), ("labels", "<i4", (3,))])
        20
    """
    return sum(math.prod(shape) * int(dtype[-1]) for _, dtype, shape in fields)


def wrong_classes(name: str, arrays: Arrays, sizes: Dimensions) -> str | None:
    """Why answers that name classes name none of the scenario's tasks; None when they do.

    Args:
        name: of the array.
        arrays: of the record.
        sizes: how many classes there are.
    """
    import numpy as np  # slow to import

    named = np.asarray(arrays[name], np.int64)
    wrong = int(((named < 0) | (named >= sizes.classes)).sum())
    if not wrong:
        return None
    return f"{wrong} {name} are not among the {sizes.classes} classes of all tasks"


def shapes(kind: str, entries: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in a record that is told of a whole model.

    Args:
        kind: of the record.
        entries: shape of every floating state-dict entry, in order.
    """
    fields = layout(kind, 1, Dimensions(0, 0, 0, entries))
    return {name: shape for name, _, shape in fields}


def floats(shapes: Mapping[str, tuple[int, ...]]) -> list[Field]:
    """The fields of arrays that are float32 all."""
    return [(name, "<f4", shape) for name, shape in shapes.items()]


def build(kind: str, holdings: Holdings) -> Arrays:
    """Make a record's arrays. Only the gate calls this.

    Raises:
        BadReply: logits from which probabilities or labels are made are not finite.
    """
    return load(kind).made_of(holdings)


def _no_request(problem: str) -> InputError:
    return InputError(
        f"the request is malformed: {problem}; make it with records.Request",
        public_reason="the request is not one that neulig-fl makes",
    )
