"""What a value of a report can be, and what all its parts have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
)
from pydantic_core import PydanticCustomError

CONTRADICTION = "contradiction"
"""Type of the errors that `contradicted` makes."""

_TOLERANCE = 1e-6  # percentage points between a printed difference and the difference itself

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

Fault = tuple[Place, str]
"""A place, and what is wrong there."""


class Part(BaseModel):
    """A part of a report: cannot be changed, knows no key but its own, converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def contradictions(self) -> Iterator[Fault]:
        """Where this part's values, right one by one, do not agree with one another."""
        yield from ()

    def all_contradictions(self) -> Iterator[Fault]:
        """The contradictions of this part and of every part in it."""
        yield from self.contradictions()
        for key, value in self:
            yield from (((key, *place), what) for place, what in _within(value))


def _within(value: Any) -> Iterator[Fault]:
    if isinstance(value, Part):
        yield from value.all_contradictions()
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from (((at, *place), what) for place, what in _within(item))


def contradicted(*faults: Fault) -> PydanticCustomError:
    """The error of values that do not agree, to be raised in a validator."""
    return PydanticCustomError(CONTRADICTION, "does not agree with the rest", {"faults": faults})


def same(value: float | None, expected: float | None) -> bool:
    """Whether two figures are one but for rounding; null is null alone.

    Args:
        value, expected: percent or percentage points.

    Example:
        >>> same(1.0, 1.0 + 1e-9), same(None, None), same(0.0, None)
        (True, True, False)
    """
    if value is None or expected is None:
        return value is expected
    return abs(value - expected) <= _TOLERANCE


def _first_version(version: Any) -> Any:
    if type(version) is not int:  # Python takes true and 1.0 for 1
        raise contradicted(((), f"1 was expected, not {version!r}"))
    return version


def _in_order(ends: list[float]) -> list[float]:
    if ends[0] > ends[1]:
        raise contradicted(((), f"[{ends[0]}, {ends[1]}] has its ends swapped"))
    return ends


def _unique(items: list[int]) -> list[int]:
    if len(set(items)) < len(items):
        raise contradicted(((), f"{items} has non-unique elements"))
    return items


def _number_or_word(value: Any) -> str:
    return "word" if isinstance(value, str) else "number"


Version = Annotated[Literal[1], BeforeValidator(_first_version)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Accuracy = Annotated[float, Field(ge=0, le=100, description="percent")]
Points = Annotated[float, Field(ge=-100, le=100, description="percentage points")]
Interval = Annotated[
    list[Annotated[float, Field(ge=-100, le=100)]],
    Field(min_length=2, max_length=2, description="[low, high], percentage points"),
    AfterValidator(_in_order),
]
Seeds = Annotated[
    list[int],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_unique),
]
Epsilon = (
    Annotated[
        Annotated[NotNegative, Tag("number")] | Annotated[str, Field(pattern="^inf$"), Tag("word")],
        Discriminator(_number_or_word),
        Field(description="null: no differential-privacy claim"),
    ]
    | None
)
Group = Literal["A", "B"]
Granularity = Annotated[
    Literal["sample", "batch-first", "task", "global", None],
    Field(description="null where it does not apply"),
]
Variant = Annotated[
    Text | None,
    Field(
        description="how a merge method's options differ from its defaults; null where they do not"
    ),
]
Options = dict[str, JsonValue]


def repeated(names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each name that stands there more than once, sorted, and how often.

    Example:
        >>> [*repeated(["a", "b", "a"])]
        [('a', 2)]
    """
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield name, names.count(name)
