"""Validate foreign data against a schema, in time and memory that are bounded by the size of the data.

pydantic collects every fault of a value before it raises, which takes up to a thousand times the memory of a hostile
value. The schemas here stop at the first faults: ``Document`` refuses many unknown keys at once, and ``Items`` and
``Entries`` are lists and objects that stop at an invalid element. ``validated`` is the only function that validates
foreign data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import ErrorDetails

from bothways.errors import shown

_T = TypeVar("_T")
_DocumentType = TypeVar("_DocumentType", bound="Document")
_PORTION = 20
_MOST_SURPLUS_KEYS = 20


class Document(BaseModel):
    """An object of a foreign document. Unknown keys are refused, and no value is converted to another type.

    A field with a list or an object of any length has the type ``Items`` or ``Entries``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_many_unknown_keys(cls, value: Any) -> Any:
        """Refuse an object with many unknown keys. pydantic would report each of them."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + _MOST_SURPLUS_KEYS:
            fields = cls.model_fields
            known = fields.keys() | {field.alias for field in fields.values()}
            if cls.model_config.get("extra") == "forbid":
                unknown = next(key for key in value if key not in known)
                raise ValueError(f"the object has {len(value)} keys, of which {shown(unknown)} is unknown")
            return {key: value[key] for key in value.keys() & known}
        return value


def _in_portions(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate an object a few keys at a time, so that only the faults of a few keys are collected."""
    if not isinstance(value, dict) or len(value) <= _PORTION:
        return validate(value)
    items = iter(value.items())
    result: dict[Any, Any] = {}
    while portion := dict(islice(items, _PORTION)):
        result |= validate(portion)
    return result


STOP_EARLY = WrapValidator(_in_portions)
"""Annotates an object with any keys. Its validation stops soon after the first invalid entry."""

Items = Annotated[list[_T], Field(fail_fast=True)]
"""A list of any length. Its validation stops at the first invalid item."""

Entries = Annotated[dict[str, _T], STOP_EARLY]
"""An object with text as keys. Its validation stops soon after the first invalid entry."""


@dataclass(frozen=True)
class Fault:
    """An invalid value.

    Attributes:
        location: The keys and positions that lead to the value.
        kind: The kind of the fault, one of pydantic's names.
        message: What was expected. Safe to show.
        value: The invalid value.
    """

    location: tuple[int | str, ...]
    kind: str
    message: str
    value: object

    @property
    def place(self) -> str:
        """The location as text, such as ``inputs.0.name``. Empty for the whole value."""
        return ".".join(shown(part, 80) for part in self.location[:8])


class Faults(ValueError):  # noqa: N818  (the name states what happened)
    """A value does not match a schema. The message names the first fault.

    Attributes:
        faults: The first faults, not necessarily all.
    """

    def __init__(self, faults: list[Fault]) -> None:
        first = faults[0]
        super().__init__(f"{first.place}: {first.message}" if first.location else first.message)
        self.faults = faults


def validated(schema: type[_DocumentType], value: object) -> _DocumentType:
    """Return a value as an object of a schema.

    Args:
        schema: The class of the object.
        value: Plain values, as from ``strict_json.parse`` or a TOML file.

    Raises:
        Faults: The value does not match the schema.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise Faults([_fault(details) for details in error.errors(include_url=False, include_context=False)]) from None
    except RecursionError:
        raise Faults([Fault((), "recursion", "it is nested too deeply", None)]) from None


def _fault(details: ErrorDetails) -> Fault:
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] in ("model_type", "dict_type"):
        message = "Input should be an object"
    return Fault(details["loc"], details["type"], shown(message, 500), details["input"])
