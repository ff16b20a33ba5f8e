"""What every protocol says: how a body becomes texts, predictions become a reply, and a fault is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bothways import strict_json
from bothways.errors import RequestInvalid, ServingError
from bothways.serve.service import Answer, ServedModel

_Schema = TypeVar("_Schema", bound=BaseModel)


class Schema(BaseModel):
    """A JSON object of a protocol of ours; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Attributes:
        body: A JSON value.
        headers: Besides those that every reply has.
    """

    body: object
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """What a request asks for.

    Attributes:
        texts: What it sent as texts, of any type.
        model: Which is asked; None for the default.
        options: The request itself, as the protocol parsed it.
    """

    texts: Sequence[object]
    model: str | None
    options: Any


@dataclass(frozen=True)
class Protocol:
    """One way to ask.

    Attributes:
        name: In metrics.
        parse: Gives what a body asks for; raises ``RequestInvalid``.
        render: Gives the reply.
        fault: Gives the body that tells an error.
    """

    name: str
    parse: Callable[[bytes], Query]
    render: Callable[[Query, ServedModel, Answer], Reply]
    fault: Callable[[ServingError], object]


def parsed(body: bytes, schema: type[_Schema]) -> _Schema:
    """Give a body as a schema has it.

    Raises:
        RequestInvalid: It is not strict JSON, or not what the schema says; the first fault is named.
    """
    try:
        value = strict_json.parse(body)
    except ValueError as error:
        raise RequestInvalid(f"the body is not strict JSON: {error}") from None
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))[:100] or "the body"
        raise RequestInvalid(f"{place}: {first['msg']}") from None
