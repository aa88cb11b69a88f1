"""What all sections of a job file have in common."""

import json
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _whole(model: type[BaseModel], data: Any) -> Any:
    """Return data with whole numbers for those that are written as 1e6, where they are expected."""
    if not isinstance(data, dict):
        return data
    fields = model.model_fields.items()
    integers = {name for name, field in fields if _kinds(field.annotation) <= {int, type(None)}}
    return {
        key: int(value)
        if key in integers and isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        else value
        for key, value in data.items()
    }


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that an annotation is made of."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return set().union(*map(_kinds, parts)) if parts else {annotation}


class Section(BaseModel):
    """Frozen, strict about types, and without unknown keys.

    The text under a key is its meaning in `hpcq reference`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        ser_json_inf_nan="constants",
    )

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, data: Any) -> Any:
        return _whole(cls, data)


def _not_nan(token: str) -> float:
    if token == "NaN":
        raise ValueError(token)
    return float(token)


def _keepable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.loads(json.dumps(value), parse_constant=_not_nan)
    except (TypeError, ValueError):
        raise ValueError(
            "expected numbers (not nan), text, true, false, lists and sections of these: all else "
            "would be lost in a run's files"
        ) from None
    return value


Kwargs = Annotated[dict[str, Any], AfterValidator(_keepable)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
