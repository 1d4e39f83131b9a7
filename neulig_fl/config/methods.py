"""What a scenario can say of a merge method: its options, and which of them are tuned."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AllowInfNan,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from neulig_fl.config.values import MethodName, Section


def _with_one_fault(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What `read` makes of a value; one error where it finds one for each type that it tries."""
    try:
        return read(value)
    except ValidationError as error:
        kind = "finite_number" if isinstance(value, float) else "wrong_type"
        raise PydanticCustomError(kind, "no value of an option") from error


Value = Annotated[
    StrictBool | StrictInt | Annotated[StrictFloat, AllowInfNan(False)] | StrictStr,
    WrapValidator(_with_one_fault),
]
"""Of an option; which values a method takes, its own file says."""


class MethodEntry(Section):
    """One merge method to compare with; a name alone stands for its defaults."""

    name: MethodName = Field(description="Name of the method; `neulig-fl methods` lists them.")
    options: dict[str, Value] = Field(
        {}, description="Options of the method, such as {lambda: 0.4}; the others have defaults."
    )
    tune: dict[str, tuple[Value, ...]] = Field(
        {},
        description="Options to select by accuracy on the labelled pool, each with its candidate "
        "values, such as {lambda: [0.1, 0.3, 1.0]}; all combinations are tried.",
    )

    @property
    def variant(self) -> str | None:
        """What sets it apart from the method with its defaults; None where nothing does.

        Example:
            >>> MethodEntry(name="ties", options={"lambda": 0.4}, tune={"density": (0.1,)}).variant
            'lambda 0.4, density tuned'
        """
        said = [f"{key} {_shown(value)}" for key, value in self.options.items()]
        said += [f"{key} tuned" for key in self.tune]
        return ", ".join(said) or None


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Method = Annotated[
    MethodEntry, BeforeValidator(_from_name, json_schema_input_type=MethodName | MethodEntry)
]
