"""What a single value of a scenario can be: names, counts, numbers, names of variants.

The sections that `config.schema` puts together are made of these.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from neulig_fl.core import variants

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
MOST_NAME = 60
SLUG_WORDS = f"lower-case letters, digits and single hyphens, at most {MOST_NAME}, such as north-1"
DIGEST = r"^[0-9a-f]{64}$"
PUBLIC_KEY = r"^ed25519:[A-Za-z0-9_-]{43}$"
DOTTED = r"^[^.\s=]+(\.[^.\s=]+)*$"
TEMPLATE = r"^[^{}]*\{\}[^{}]*$"
MOMENT = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
)

ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
QuerySet = Literal["pool", "evaluation", "train"]

QUERY_SETS: tuple[str, ...] = get_args(QuerySet)
WITHOUT_QUERIES = frozenset(
    {
        "offset-sum",
        "parameters",
        "task-vector",
        "trimmed-task-vector",
        "gram",
        "fisher",
    }
)
"""Kinds that are told of a model, and answer no queries; what another kind is, its file says."""

SUMS = frozenset({"secure-aggregation"})
"""Protections under which a record leaves as a part of sums only."""

NOISELESS = ("none", "sealed", *SUMS)
"""Protections that add no noise; of any other, noise is believed if its own file says so."""

WHOLE_MODEL_KINDS = ("parameters", "task-vector")
"""Kinds that give the model away: theta_0 is public, so its difference to it is the model."""

TRIMMED = "trimmed-task-vector"
"""The kind that gives a fraction of the model's difference to theta_0: its largest numbers."""

MODEL_KINDS = (*WHOLE_MODEL_KINDS, TRIMMED)
"""Kinds of which a model can be made; who keeps one of them in keeps the others in."""

SERVER = "server"
"""What the server is called where clients' names stand."""

MIXED_KINDS = frozenset({"features", "logits"})
"""Outputs that Portland reads and that are mixed."""

Item = TypeVar("Item")


class Section(BaseModel):
    """A part of a scenario: cannot be changed, and knows no key but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant:
    """Annotation of a string that must be the name of a file in a folder of variants.

    Args:
        package: the folder.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    @property
    def _names(self) -> list[str]:
        return variants.names(self.package)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": self._names}

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise PydanticCustomError("variant", "no file of that name")
        return name


def never_null(schema: dict[str, Any]) -> None:
    """Change the JSON Schema of a key that can be left out, and be null in a finished model alone.

    Args:
        schema: what pydantic makes of a type with None and that default; changed in its place.
    """
    (written,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
    del schema["default"]
    schema.update(written)


def unique(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same items; an error where one of them stands twice."""
    if len(set(items)) < len(items):
        raise PydanticCustomError("repeated", "names the same thing twice")
    return items


def end_of(moment: str) -> datetime:
    """The moment from which something is over: the end of a date in UTC, or a date-time.

    Raises:
        ValueError: there is no such day, hour or minute.

    Example:
        >>> end_of("2027-03-31") > end_of("2027-03-31T23:00:00Z")
        True
    """
    if "T" in moment:
        return datetime.fromisoformat(moment)
    return datetime.fromisoformat(f"{moment}T00:00:00Z") + timedelta(days=1)


def is_slug(name: str) -> bool:
    """Whether a name is one that a scenario can give to a client, a task or a stage.

    Example:
        >>> is_slug("north-1"), is_slug(".."), is_slug("a" * 61)
        (True, False, False)
    """
    return len(name) <= MOST_NAME and re.fullmatch(SLUG[1:-1], name) is not None


def _real(moment: str) -> str:
    try:
        end_of(moment)
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError("moment", "no such date") from error
    return moment


def _null_is_none(value: Any) -> Any:
    return "none" if value is None else value


Slug = Annotated[str, Field(pattern=SLUG, max_length=MOST_NAME)]
PublicKey = Annotated[str, Field(pattern=PUBLIC_KEY)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Text = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(pattern=TEMPLATE)]
Moment = Annotated[str, Field(pattern=MOMENT), AfterValidator(_real)]
Whole = Annotated[int, Strict()]
Count = Annotated[Whole, Field(ge=1, le=2**53)]
Threads = Annotated[Whole, Field(ge=1, le=1024)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Rate = Annotated[Number, Field(gt=0, le=1e6)]
Weight = Annotated[Number, Field(ge=0, le=1e6)]
Clip = Annotated[Number, Field(ge=1e-6, le=1e6)]
NoiseMultiplier = Annotated[Number, Field(ge=1e-6, le=1e6)]
Epsilon = Annotated[Number, Field(ge=1e-3, le=1e6)]
Delta = Annotated[Number, Field(ge=1e-100, lt=1)]
"""Noise: for each epsilon and delta there is a multiplier among these, and no square or product of
clip and multiplier leaves the range of a float32."""
Several = Annotated[tuple[Item, ...], Field(min_length=1), AfterValidator(unique)]
Step = Annotated[str, Variant("neulig_fl.study.steps")]
KindName = Annotated[str, Variant("neulig_fl.records.kinds")]
ProtectionName = Annotated[str, Variant("neulig_fl.records.protections")]
TaskSource = Annotated[str, Variant("neulig_fl.data.sources")]
MethodName = Annotated[str, Variant("neulig_fl.merging.methods")]
Pretrained = Annotated[Text, BeforeValidator(_null_is_none, json_schema_input_type=Text | None)]
