"""What a single value of a scenario can be: names, counts, numbers, names of variants.

The sections that `scenario_models` puts together are made of these.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

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

from neulig_fl import variants

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
TEMPLATE = r"^[^{}]*\{\}[^{}]*$"

Item = TypeVar("Item")


class Section(BaseModel):
    """A part of a scenario: cannot be changed, and knows no key but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant:
    """Annotation of a string that must be the name of a file in a folder of variants."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": variants.names(self.package)}

    def _known(self, name: str) -> str:
        if name not in variants.names(self.package):
            raise PydanticCustomError("variant", "no file of that name")
        return name


def unique(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The same items; an error where one of them stands twice."""
    if len(set(items)) < len(items):
        raise PydanticCustomError("repeated", "names the same thing twice")
    return items


def _null_is_none(value: Any) -> Any:
    return "none" if value is None else value


Slug = Annotated[str, Field(pattern=SLUG, max_length=60)]
Text = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(pattern=TEMPLATE)]
Whole = Annotated[int, Strict()]
Count = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Several = Annotated[tuple[Item, ...], Field(min_length=1), AfterValidator(unique)]
Step = Annotated[str, Variant("neulig_fl.stages")]
Protection = Annotated[str, Variant("neulig_fl.protections")]
TaskSource = Annotated[str, Variant("neulig_fl.tasks")]
Method = Annotated[str, Variant("neulig_fl.merges")]
Pretrained = Annotated[Text, BeforeValidator(_null_is_none, json_schema_input_type=Text | None)]
