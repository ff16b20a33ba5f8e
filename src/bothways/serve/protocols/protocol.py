"""What a protocol consists of: its routes, how it parses requests, and how it renders replies and errors.

The application and its OpenAPI document are both generated from ``Protocol`` objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.errors import RequestInvalid, RequestTooLarge, ServingError, TextError, quoted
from bothways.schema import Document, Faults, validated
from bothways.serve.answers import Answer, Classified
from bothways.serve.service import ServedModel, Service
from bothways.serve.settings import Settings
from bothways.text.fields import columns_text

_Schema = TypeVar("_Schema", bound=Document)
_VALUES_PER_TEXT, _MORE_VALUES = 100, 1000
"""A body has at most this many JSON values per allowed text, and this many more."""


class Schema(Document):
    """A JSON object of a protocol. Unknown keys are rejected."""

    model_config = ConfigDict(strict=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class RawRequest:
    """A request before it is parsed.

    Attributes:
        body: The whole body.
        headers: The headers by their names in lower case.
        path: The values of the route's path parameters.
    """

    body: bytes
    headers: Mapping[str, str]
    path: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """A reply to a client.

    Attributes:
        body: A JSON value, or bytes to be sent as they are.
        headers: Headers in addition to those of every reply.
        status: The HTTP status.
    """

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass(frozen=True)
class Query:
    """A parsed request for predictions.

    Attributes:
        texts: The values sent as texts, of any type.
        served: The model that answers, chosen once per request.
        render: Renders the answer as this request wants it. Raises ``ServingError`` if the protocol has no way to
            report the error of a single text.
        version: The version of the model that the client asked for. Defaults to any.
    """

    texts: Sequence[object]
    served: ServedModel
    render: Callable[[ServedModel, Answer], Reply]
    version: str | None = None


@dataclass(frozen=True)
class Information:
    """A GET route that describes the server or one of its models.

    Attributes:
        path: The path, with parameters such as ``{model}``.
        summary: The description of the route for OpenAPI.
        reply: Returns the reply, given the values of the path parameters. May raise ``ServingError``.
        is_probe: Whether load balancers and orchestrators poll the route, so that its requests are not logged.
    """

    path: str
    summary: str
    reply: Callable[[Service, Mapping[str, str]], Reply]
    is_probe: bool = False


@dataclass(frozen=True)
class Protocol:
    """One way to request predictions over HTTP.

    Attributes:
        predict_routes: The paths to POST requests for predictions to, with a summary of each for OpenAPI.
        request: The schema of such a request in JSON.
        parse: Parses a request. Raises ``ServingError``.
        render_error: Returns the status and the JSON body for an error.
        information: The GET routes of the protocol.
        reply: The schema of a reply with predictions, for OpenAPI.
        error: The schema of an error, for OpenAPI.
    """

    predict_routes: Mapping[str, str]
    request: type[BaseModel]
    parse: Callable[[RawRequest, Service], Query]
    render_error: Callable[[ServingError], tuple[int, object]]
    information: Sequence[Information] = ()
    reply: type[BaseModel] | None = None
    error: type[BaseModel] | None = None


def liveness(_: Service, __: Mapping[str, str]) -> Reply:
    """Report that the process runs. Depends on nothing else, or an orchestrator would restart a busy server."""
    return Reply({"live": True})


def readiness(service: Service, _: Mapping[str, str]) -> Reply:
    """Report whether the server accepts requests, and if not, why."""
    state = {"ready": service.is_ready, "problem": service.problem, "draining": service.is_draining, "live": True}
    return Reply(state, status=200 if service.is_ready else 503)


def all_classified(answer: Answer) -> list[Classified]:
    """Return the predictions of all texts.

    Raises:
        RequestInvalid: One of the texts can't be classified. The message names it.
    """
    for item in answer.items:
        if isinstance(item, TextError):
            raise RequestInvalid(str(item))
    return [item for item in answer.items if isinstance(item, Classified)]


def require_labels(served: ServedModel) -> None:
    """Check that a model predicts labels, for protocols that have no other predictions.

    Raises:
        RequestInvalid: The model predicts a number. The message names the protocols that support it.
    """
    if not served.model.labels:
        raise RequestInvalid(
            f"the model {quoted(served.name)} predicts a number, but this protocol only supports text classification: "
            f"use POST /v1/classify, /invocations or /v2/models/{served.name}/infer"
        )


def require_one_text_column(served: ServedModel) -> None:
    """Check that a text of a model is one string, for protocols that have no other texts.

    Raises:
        RequestInvalid: The model reads several text columns. The message names the protocols that support it.
    """
    if len(served.model.text_columns) > 1:
        raise RequestInvalid(
            f"the model {quoted(served.name)} reads {columns_text(served.model.text_columns)}, but this protocol only "
            f"supports texts of one column: use POST /v1/classify, /invocations or /v2/models/{served.name}/infer"
        )


def sorted_scores(found: Classified, served: ServedModel) -> list[dict[str, object]]:
    """Return all labels as text with their probabilities, most probable first, in the format of Hugging Face's clients.

    Raises:
        RequestInvalid: The model predicts a number and has no labels.
    """
    require_labels(served)  # again: a reload can have replaced the model for which the request was parsed
    ensemble = found.prediction.probabilities[ENSEMBLE].tolist()
    pairs = sorted(zip(served.model.task.labels, ensemble, strict=True), key=lambda pair: -pair[1])
    return [{"label": label, "score": score} for label, score in pairs]


def render_plain_error(error: ServingError) -> tuple[int, object]:
    """Return the status of an error, and a body that consists of its message."""
    return error.status, {"error": str(error)}


def refuse_many_texts(count: int, settings: Settings) -> None:
    """Refuse a request with more texts than the server allows.

    Raises:
        RequestTooLarge: The request has more than ``max_texts`` texts.
    """
    if count > settings.max_texts:
        raise RequestTooLarge(
            f"the request has {count} texts, but at most {settings.max_texts} are allowed (max-texts)"
        )


def parse_body(body: bytes, schema: type[_Schema], settings: Settings) -> _Schema:
    """Parse the JSON body of a request, in a time that is bounded by the number of texts that it may have.

    Raises:
        RequestTooLarge: The body has many more values than ``max_texts`` texts need.
        RequestInvalid: The body is not strict JSON, or does not match the schema. The first error is reported.
    """
    most_values = _VALUES_PER_TEXT * settings.max_texts + _MORE_VALUES
    try:
        value = strict_json.parse(body, most_values=most_values)
    except strict_json.TooManyValues:
        raise RequestTooLarge(
            f"the body has more than {most_values} JSON values, but at most {settings.max_texts} texts are allowed "
            "(max-texts): send fewer texts per request, without other data"
        ) from None
    except ValueError as error:
        raise RequestInvalid(f"the body is not strict JSON: {error}") from None
    try:
        return validated(schema, value)
    except Faults as error:
        raise RequestInvalid(str(error) if error.faults[0].location else f"the body: {error}") from None
