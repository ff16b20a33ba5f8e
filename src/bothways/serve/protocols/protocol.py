"""What every protocol says: how a body becomes texts, predictions become a reply, and a fault is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from typing import Protocol as TypingProtocol

from pydantic import BaseModel, ConfigDict, ValidationError

from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import RequestInvalid, ServingError, TextError
from bothways.serve.service import Answer, Classified, ServedModel

_Schema = TypeVar("_Schema", bound=BaseModel)


class Schema(BaseModel):
    """A JSON object of a protocol of ours; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Reply:
    """What goes back.

    Attributes:
        body: A JSON value, or bytes.
        headers: Besides those that every reply has.
    """

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """What a request asks for.

    Attributes:
        texts: What it sent as texts, of any type.
        model: Which is asked; None for the default.
        options: What else the protocol wants to know of the request when it renders the reply.
    """

    texts: Sequence[object]
    model: str | None
    options: Any = None


@dataclass(frozen=True)
class Received:
    """What came in.

    Attributes:
        body: All bytes.
        headers: By their names in lower case.
        path: The values of the route's parameters.
    """

    body: bytes
    headers: Mapping[str, str]
    path: Mapping[str, str]


@dataclass(frozen=True)
class Protocol:
    """One way to ask.

    Attributes:
        parse: Gives what a request asks for; raises ``ServingError``.
        render: Gives the reply; raises ``ServingError`` where the protocol can't tell one text's error by itself.
        fault: Gives the status and the body that tell an error.
    """

    parse: Callable[[Received, ServedModels], Query]
    render: Callable[[Query, ServedModel, Answer], Reply]
    fault: Callable[[ServingError], tuple[int, object]]


class ServedModels(TypingProtocol):
    """Who knows the models by name."""

    def model(self, name: str | None = None) -> ServedModel:
        """Return a model, or the default."""


def all_classified(answer: Answer) -> list[Classified]:
    """Return the predictions of all texts.

    Raises:
        RequestInvalid: One of them can't be classified; the message names it.
    """
    for item in answer.items:
        if isinstance(item, TextError):
            raise RequestInvalid(str(item))
    return [item for item in answer.items if isinstance(item, Classified)]


def scores(found: Classified, served: ServedModel) -> list[dict[str, object]]:
    """Return all labels with their probabilities, the most probable first, as Hugging Face's clients know them."""
    ensemble = found.prediction.probabilities[ENSEMBLE].tolist()
    pairs = sorted(zip(served.model.labels, ensemble, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in pairs]


def plain_fault(error: ServingError) -> tuple[int, object]:
    """Return an error's status, and a body that says no more than what is wrong."""
    return error.status, {"error": str(error)}


def parsed(body: bytes, schema: type[_Schema]) -> _Schema:
    """Return a body as a schema has it.

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
