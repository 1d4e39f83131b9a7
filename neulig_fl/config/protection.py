"""What a scenario says of a protection: its name, and its options.

Which options there are, and what each may be, is said by the protection's own file, which is not
loaded here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from neulig_fl.config.values import ProtectionName, Text


@dataclass(frozen=True)
class Protection:
    """A protection as a stage asks for it.

    In YAML and JSON it is its name, or a mapping of its name to its options.

    Args:
        name: of its file.
        options: as they are written; those that are left out have the defaults of its file.

    Example:
        >>> Protection("gaussian", {"epsilon": 8}).written, Protection("none").written
        ({'gaussian': {'epsilon': 8}}, 'none')
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def written(self) -> str | dict[str, Any]:
        """As YAML and JSON have it."""
        return {self.name: dict(self.options)} if self.options else self.name

    @classmethod
    def read(cls, said: Any) -> Protection:
        """What YAML or JSON says.

        Raises:
            ValidationError: it is no name of a protection, nor a mapping of one to its options.
        """
        if isinstance(said, cls):
            return said
        if not isinstance(said, Mapping):
            return cls(_NAME.validate_python(said))
        if len(said) != 1:
            raise PydanticCustomError("one_name", "not one name")
        ((name, options),) = _MAPPING.validate_python(said).items()
        return cls(name, options or {})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(lambda given: given.written)
        return core_schema.no_info_plain_validator_function(cls.read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        name = _NAME.json_schema()
        mapping = {
            "type": "object",
            "propertyNames": {"enum": name["enum"]},
            "additionalProperties": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            "minProperties": 1,
            "maxProperties": 1,
        }
        return {"anyOf": [name, mapping]}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("finite_number", "not finite")
    return value


_NAME: TypeAdapter[str] = TypeAdapter(ProtectionName)
_MAPPING: TypeAdapter[dict[str, dict[str, Any] | None]] = TypeAdapter(
    dict[ProtectionName, dict[Text, Annotated[Any, AfterValidator(_finite)]] | None]
)
